// One game of one person: commands in, states out. No clock, no page.

import { TERMINATED, agentAction, firstState, nextState, probabilities } from "./dream.js";

const MOST_STATES = 400; // that one can go back
const STRIP = 8; // frames of the film strip

export class Session {
  constructor(models, config, starts, { start, seed, player }) {
    Object.assign(this, { models, config, starts, player });
    this.settings = { fps: config.fps, temperature: 1, seed, start };
    this.paused = false;
    this.held = [];
    this.tapped = []; // pressed since the last step, even if released before it
    this.newestKeys = this.keysNumber = 0; // number of the newest keys, and of the newest that a step has used
    this.ticksEnded = 0; // since the end of the agent's episode
  }

  get state() {
    return this.states[this.position];
  }

  get start() {
    return this.starts[this.settings.start - 1];
  }

  // Why there is no next step.
  get ended() {
    if (this.state.end === TERMINATED) return "terminated";
    if (this.player === "film" && this.state.step >= this.start.film.actions.length) return "film";
    return this.state.step >= this.config.horizon ? "horizon" : null;
  }

  async restart() {
    this.states = [await firstState(this.models, this.config, this.start)];
    this.position = this.ticksEnded = 0;
    this.tapped = [];
  }

  async newEpisode() {
    this.settings.start = (this.settings.start % this.starts.length) + 1;
    await this.restart();
  }

  // One step, unless the game waits. Says whether anything changed. The agent begins again one second after an end.
  async tick() {
    if (this.paused || (this.ended && this.player !== "agent")) return false;
    this.ticksEnded = this.ended ? this.ticksEnded + 1 : 0;
    if (this.ticksEnded >= this.settings.fps) await this.newEpisode();
    else if (!this.ended) await this.step();
    return this.ticksEnded === 0;
  }

  async step() {
    const action = this.nextAction();
    const state = await nextState(this.models, this.config, this.start, this.state, action, this.settings.seed);
    this.states = [...this.states.slice(0, this.position + 1), state].slice(-MOST_STATES - 1);
    this.position = this.states.length - 1;
  }

  nextAction() {
    if (this.player === "agent") return agentAction(this.state, this.settings.temperature, this.settings.seed);
    if (this.player === "film") return this.start.film.actions[this.state.step];
    const keys = [...this.held, ...this.tapped.filter((key) => !this.held.includes(key))];
    this.tapped = [];
    this.keysNumber = this.newestKeys;
    return actionOf(keys, this.config.action_keys);
  }

  // Carries out a command of the page.
  async do({ type, ...message }) {
    const { state } = this;
    if (type === "keys") {
      this.tapped.push(...message.held.filter((key) => !this.held.includes(key) && !this.tapped.includes(key)));
      Object.assign(this, { held: message.held, newestKeys: message.number });
    } else if (type === "player") {
      this.player = message.player;
      this.tapped = [];
      if (this.player === "film" && !state.followsFilm) await this.restart();
    } else if (type === "pause") this.paused = message.paused;
    else if (type === "step") {
      this.paused = true;
      if (!this.ended) await this.step();
    } else if (type === "rewind" || type === "go_to") {
      this.paused = true;
      const position = type === "rewind" ? this.position - message.steps : message.position;
      this.position = Math.min(Math.max(position, 0), this.states.length - 1);
    } else if (type === "restart") await this.restart();
    else if (type === "new_episode") await this.newEpisode();
    else if (type === "set") {
      this.settings[message.name] = message.value;
      if (message.name === "start") await this.restart();
    }
  }

  // What the page shows: a header, and pictures of 84x84 bytes.
  frame(stepMs) {
    const { state, settings, start } = this;
    const real = this.player === "film" && state.followsFilm;
    const strip = this.states.slice(Math.max(0, this.position - STRIP + 1), this.position + 1);
    return [{
      type: "frame", step: state.step, action: state.action, reward: state.reward, return: state.episodeReturn,
      terminated: state.end === TERMINATED, ended: this.ended,
      diverged_at: state.divergedAt,
      probabilities: probabilities(state, settings.temperature), value: state.policy.value,
      keys_number: this.keysNumber, player: this.player, paused: this.paused,
      past: this.position, future: this.states.length - 1 - this.position,
      settings: { ...settings }, horizon: this.config.horizon, step_ms: stepMs,
    }, {
      dream: state.frames.at(-1),
      real: real ? [start.frames.at(-1), ...start.film.frames][state.step] : null,
      strip: strip.map(({ frames }) => frames.at(-1)),
    }];
  }
}

// The action that uses most of the held keys (oldest first) and no other key; of several, the one with the newest key. As
// adamas.play.keys.action_of; `actionKeys` are the keys of each action.
export function actionOf(held, actionKeys) {
  const worth = (keys) => held.reduce((sum, key, age) => sum + (keys.includes(key) ? 2 ** age : 0), keys.length * 2 ** held.length);
  let best = 0, most = -1;
  actionKeys.forEach((keys, action) => {
    if (keys.every((key) => held.includes(key)) && worth(keys) > most) [best, most] = [action, worth(keys)];
  });
  return best;
}
