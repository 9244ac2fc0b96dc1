// What a step brought: reward, end, whether the model says that the dream has lost track of what moves; and the speed.

import { byId, make } from "./dom.js";

const RIM = 15; // steps for which the last is shown
const arrivals = []; // of frames, within the last second

export function showEvents(frame) {
  byId("reward").textContent = frame.reward ? `reward ${frame.reward > 0 ? "+" : ""}${frame.reward}` : "reward";
  byId("reward").classList.toggle("lit", frame.reward !== 0);
  byId("reward").classList.toggle("loss", frame.reward < 0);
  byId("end").classList.toggle("lit", frame.terminated);
  const lost = frame.diverged_at !== null && frame.step - frame.diverged_at < RIM;
  byId("lost").classList.toggle("lit", lost);
  document.body.classList.toggle("lost", lost);
}

// Why the episode has ended, one of `reasons`, and what comes `next`: by itself, or when somebody asks for it.
export function showEnd(frame, reasons, next) {
  const reason = reasons[frame.ended];
  byId("ended").hidden = !reason;
  const byItself = frame.player === "agent" && !frame.paused;
  if (reason) byId("ended").replaceChildren(make("b", { textContent: reason }), byItself ? next.byItself : next.asked);
}

// How many frames have come within a second; with `another`, one more comes now.
export function framesPerSecond(another) {
  const now = performance.now();
  if (another) arrivals.push(now);
  while (arrivals.length && now - arrivals[0] > 1000) arrivals.shift();
  return arrivals.length;
}
