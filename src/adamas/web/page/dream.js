// A step of the dream: pure functions of the state before, the action and the seed. `models` runs the three graphs.

import { END, NOISE, POLICY, REWARD, categorical, normal } from "./philox.js";

export const SIZE = 84; // pixels of a frame, each way
export const TERMINATED = 1, DIVERGED = 2; // classes of the end, behind CONTINUE

// The state after a start's frames. Both memories are burnt in on them, one step at a time.
export async function firstState(models, config, start) {
  const { frames, actions } = start;
  let memory = zeros(config);
  for (let t = 0; t < actions.length; t++) {
    memory = (await models.events(frames.slice(t, t + 2), actions[t], memory)).memory;
  }
  const stack = Array(config.frame_stack - 1).fill(frames[0]); // as if the first frame stood still
  let policy = { memory: zeros(config) };
  for (const frame of frames) {
    stack.push(frame);
    policy = await models.policy(stack.slice(-config.frame_stack), policy.memory);
  }
  return {
    frames, actions, memory, policy, stack: stack.slice(-config.frame_stack),
    step: 0, action: null, reward: 0, end: 0, divergedAt: null, episodeReturn: 0, followsFilm: true,
  };
}

// One step. Its random numbers depend on the seed and the number of the step alone.
export async function nextState(models, config, start, state, action, seed) {
  const actions = [...state.actions, action], noise = normal(seed, state.step, NOISE, SIZE * SIZE);
  const frame = await models.frame(state.frames, actions, noise);
  const events = await models.events([state.frames.at(-1), frame], action, state.memory);
  const end = categorical(events.end, seed, state.step, END);
  const reward = end === DIVERGED ? 0 : categorical(events.reward, seed, state.step, REWARD) - 1;
  const stack = [...state.stack.slice(1), frame];
  const step = state.step + 1;
  return {
    frames: [...state.frames.slice(1), frame], actions: actions.slice(1), memory: events.memory,
    policy: await models.policy(stack, state.policy.memory), stack,
    step, action, reward, end, divergedAt: end === DIVERGED ? step : state.divergedAt,
    episodeReturn: state.episodeReturn + reward,
    followsFilm: state.followsFilm && action === start.film.actions[state.step],
  };
}

// The policy's action: the most likely one at temperature 0.
export function agentAction(state, temperature, seed) {
  const logits = state.policy.logits.map((logit) => logit / Math.max(temperature, 1e-6));
  return categorical(logits, seed, state.step, POLICY);
}

export function probabilities(state, temperature) {
  const logits = state.policy.logits.map((logit) => logit / Math.max(temperature, 1e-6));
  const most = Math.max(...logits), weights = Array.from(logits, (logit) => Math.exp(logit - most));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

const zeros = (config) => ({ h: new Float32Array(config.lstm_dim), c: new Float32Array(config.lstm_dim) });
