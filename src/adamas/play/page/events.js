// What a step brought: reward, end, and whether the model says that the dream has lost track of what moves.

import { byId } from "./dom.js";

const RIM = 15; // steps for which the last is shown

export function showEvents(frame) {
  byId("reward").textContent = frame.reward ? `reward ${frame.reward > 0 ? "+" : ""}${frame.reward}` : "reward";
  byId("reward").classList.toggle("lit", frame.reward !== 0);
  byId("reward").classList.toggle("loss", frame.reward < 0);
  byId("end").classList.toggle("lit", frame.terminated);
  const lost = frame.diverged_at !== null && frame.step - frame.diverged_at < RIM;
  byId("lost").classList.toggle("lit", lost);
  document.body.classList.toggle("lost", lost);
}
