// The pictures of a frame: world model, real game, their difference over time, and the denoising steps.

import { SIZE, byId, drawPicture, make } from "./dom.js";

let distances = []; // mean absolute difference at each step, percent of the range of grey

export function drawFrame(frame, pictures) {
  drawPicture(byId("dream"), pictures.dream);
  if (pictures.real) drawReal(pictures.dream, pictures.real, frame.step);
  drawDenoising(frame, pictures);
}

function drawReal(dream, real, step) {
  let sum = 0;
  for (let i = 0; i < dream.length; i++) sum += Math.abs(dream[i] - real[i]);
  distances[step] = sum / dream.length / 2.55;
  distances.length = step + 1;
  drawPicture(byId("real"), real);
  drawPicture(byId("difference"), dream, (value, i) => differenceColour(value - real[i]));
  plotDistances();
}

// Orange where the world model is brighter, blue where the real game is.
function differenceColour(difference) {
  const more = Math.min(255, Math.abs(difference) * 2);
  return 0xff000000 | (difference > 0 ? (more >> 1) << 8 | more | (more >> 2) << 16 : more << 16 | (more * 3 >> 2) << 8 | more >> 2);
}

function plotDistances() {
  const canvas = byId("distance"), context = canvas.getContext("2d");
  const { width, height } = canvas, shown = distances.slice(-width);
  const most = Math.max(2, ...shown.filter(Number.isFinite));
  context.clearRect(0, 0, width, height);
  context.fillStyle = getComputedStyle(document.body).getPropertyValue("--gold");
  shown.forEach((value, x) => {
    const bar = Math.max(1, (value / most) * (height - 4));
    context.fillRect(x, height - bar, 1, bar);
  });
  byId("distance-now").textContent = `${(shown.at(-1) ?? 0).toFixed(2)}% mean difference`;
}

function drawDenoising(frame, pictures) {
  const noisy = frame.pictures.filter((name) => name.startsWith("noisy"));
  const box = byId("denoising-steps");
  box.className = noisy.length < 4 ? "few" : "";
  byId("denoising").hidden = !frame.settings.show_denoising;
  while (box.children.length > noisy.length) box.lastChild.remove();
  while (box.children.length < noisy.length) {
    const canvas = () => make("canvas", { width: SIZE, height: SIZE });
    box.append(make("div", {}, canvas(), canvas()));
  }
  noisy.forEach((name, i) => {
    drawPicture(box.children[i].children[0], pictures[name]);
    drawPicture(box.children[i].children[1], pictures[name.replace("noisy", "denoised")]);
  });
}
