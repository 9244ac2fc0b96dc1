// The figures of a frame: return, rewards, speed, what the policy would do, and why the episode has ended.

import { byId, markPressed, notify } from "./dom.js";
import { framesPerSecond, showEnd, showEvents } from "./events.js";
import { showPolicy } from "./policy.js";

const ENDS = { terminated: "The world model predicts the end", horizon: "The horizon is reached" };
const NEXT = { byItself: "a new episode follows", asked: "new episode, or restart the same one" };
let stepMs = 0; // a running mean

export function showStatus(frame) {
  const { real, settings } = frame;
  byId("return").textContent = frame.return;
  byId("real-return").textContent = real ? `(real ${real.return}${real.ended ? ", ended" : ""})` : "";
  byId("step").textContent = frame.step;
  byId("horizon").textContent = settings.horizon;
  byId("pause").firstElementChild.textContent = frame.paused ? "▶" : "❚❚";
  byId("recorded").textContent = frame.recorded_steps === null ? "Record" : `${frame.recorded_steps} steps`;
  byId("record").classList.toggle("on", frame.recorded_steps !== null);
  Object.assign(byId("timeline"), { max: frame.past + frame.future, value: frame.past });
  markPressed(byId("player"), "player", frame.player);
  showEvents(frame);
  showPolicy(frame);
  showEnd(frame, ENDS, NEXT);
  measureSpeed(frame);
}

function measureSpeed(frame) {
  byId("fps").textContent = framesPerSecond(frame.step);
  if (!frame.step_ms) return;
  stepMs += (frame.step_ms - stepMs) / 10;
  if (1000 / stepMs < frame.settings.fps * 0.95)
    notify(
      `the model makes ${(1000 / stepMs).toFixed(0)} of ${frame.settings.fps} frames/s: fewer denoising steps are faster`,
      false,
      true,
    );
}
