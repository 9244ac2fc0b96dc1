// The figures of a frame: return, rewards, speed, what the policy would do, and why the episode has ended.

import { byId, make, markPressed, notify } from "./dom.js";
import { showEvents } from "./events.js";
import { showPolicy } from "./policy.js";

const arrivals = []; // of frames, within the last second
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
  showEnd(frame);
  measureSpeed(frame);
}

function showEnd(frame) {
  const reason = { terminated: "The world model predicts the end", horizon: "The horizon is reached" }[frame.ended];
  byId("ended").hidden = !reason;
  const next = frame.player === "agent" && !frame.paused ? "a new episode follows" : "new episode, or restart the same one";
  if (reason) byId("ended").replaceChildren(make("b", { textContent: reason }), next);
}

function measureSpeed(frame) {
  const now = performance.now();
  if (frame.step) arrivals.push(now);
  while (arrivals.length && now - arrivals[0] > 1000) arrivals.shift();
  byId("fps").textContent = arrivals.length;
  if (!frame.step_ms) return;
  stepMs += (frame.step_ms - stepMs) / 10;
  if (1000 / stepMs < frame.settings.fps * 0.95)
    notify(
      `the model makes ${(1000 / stepMs).toFixed(0)} of ${frame.settings.fps} frames/s: fewer denoising steps are faster`,
      false,
      true,
    );
}
