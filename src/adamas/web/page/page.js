// The page: shows what the dream sends, sends what the player does. It holds no state of the game.

import { connect, send } from "./connection.js";
import { SIZE, byId, drawPicture, markPressed, notify } from "./dom.js";
import { framesPerSecond, showEnd, showEvents } from "./events.js";
import { listen, measureLatency, pictureCame, releaseAll, showKeys } from "./input.js";
import { makeBars, showPolicy } from "./policy.js";

const PLAYERS = ["human", "agent", "film"];
const STRIP = 8, GAP = 4; // frames of the film strip, pixels between two of them
const ENDS = { terminated: "The model predicts the end", horizon: "The horizon is reached", film: "Here the recording ends" };
const NEXT = { byItself: "another start follows", asked: "restart, or take another start" };
let last; // the header of the newest frame

const handlers = {
  hello(message) {
    document.title = `${message.game}: a dream`;
    byId("game").textContent = `${message.game}, dreamed`;
    const size = (message.parameters / 1e6).toFixed(1);
    byId("model").textContent = `${size}M parameters, in this browser on ${message.threads === 1 ? "1 thread" : `${message.threads} threads`}`;
    byId("start").max = message.starts;
    byId("starts").textContent = `of ${message.starts}`;
    makeBars(message.actions);
    showKeys(message.keys);
  },
  frame(frame, pictures) {
    last = frame;
    document.body.dataset.view = pictures.real ? "both" : "dream";
    drawPicture(byId("dream"), pictures.dream);
    if (pictures.real) drawReal(pictures.dream, pictures.real);
    drawStrip(pictures.strip);
    send({ type: "acknowledge" });
    pictureCame();
    measureLatency(frame);
    showStatus(frame);
  },
  error({ text }) {
    byId("model").textContent = text;
    notify(text, true);
  },
};

function drawReal(dream, real) {
  drawPicture(byId("real"), real);
  drawPicture(byId("difference"), dream, (value, i) => 0xff000000 | (0x10101 * Math.round((value - real[i]) / 2 + 127.5)));
}

// The last frames, the newest one on the right.
function drawStrip(pictures) {
  const context = byId("strip").getContext("2d"), image = context.createImageData(SIZE, SIZE);
  const pixels = new Uint32Array(image.data.buffer), first = STRIP - pictures.length;
  context.clearRect(0, 0, first * (SIZE + GAP), SIZE);
  pictures.forEach((picture, i) => {
    for (let j = 0; j < pixels.length; j++) pixels[j] = 0xff000000 | (picture[j] * 0x10101);
    context.putImageData(image, (first + i) * (SIZE + GAP), 0);
  });
}

function showStatus(frame) {
  const { settings } = frame;
  byId("return").textContent = frame.return;
  byId("step").textContent = frame.step;
  byId("pause").firstElementChild.textContent = frame.paused ? "▶" : "❚❚";
  Object.assign(byId("timeline"), { max: frame.past + frame.future, value: frame.past });
  markPressed(byId("player"), "player", frame.player);
  for (const name of ["fps", "temperature", "seed", "start"]) {
    if (document.activeElement !== byId(name)) byId(name).value = settings[name];
  }
  byId("fps-now").textContent = settings.fps;
  byId("temperature-now").textContent = settings.temperature.toFixed(1);
  showEvents(frame);
  showPolicy(frame);
  showEnd(frame, ENDS, NEXT);
  byId("speed-now").textContent = framesPerSecond(frame.step_ms);
  quote(frame);
}

// The address names the dream: with the agent at its usual temperature, the same start and seed are the same dream.
let quoted;
function quote({ settings, player }) {
  const hash = `#start=${settings.start}&seed=${settings.seed}&player=${player}`;
  if (hash !== quoted) history.replaceState(null, "", hash);
  quoted = hash;
}

function chosen() {
  const words = new URLSearchParams(location.hash.slice(1));
  const number = (name, otherwise, most) => (/^\d{1,10}$/.test(words.get(name)) ? Math.min(Number(words.get(name)), most) : otherwise);
  const player = PLAYERS.includes(words.get("player")) ? words.get("player") : "human";
  return { start: number("start", 1, 1e6), seed: number("seed", 0, 2 ** 31 - 1), player };
}

const nextPlayer = () => PLAYERS[(PLAYERS.indexOf(last.player) + 1) % PLAYERS.length];
const shortcuts = {
  KeyM: () => send({ type: "player", player: nextPlayer() }),
  KeyP: () => send({ type: "pause", paused: !last.paused }),
  Period: () => send({ type: "step" }),
  Backspace: () => send({ type: "rewind", steps: 1 }),
  KeyR: () => send({ type: "restart" }),
  KeyN: () => send({ type: "new_episode" }),
};
const buttons = { pause: "KeyP", forward: "Period", back: "Backspace", restart: "KeyR", "new-episode": "KeyN" };
for (const [id, code] of Object.entries(buttons)) byId(id).onclick = () => last && shortcuts[code]();
for (const button of byId("player").children) button.onclick = () => last && send({ type: "player", player: button.dataset.player });
byId("timeline").oninput = () => last && send({ type: "go_to", position: Number(byId("timeline").value) });

// Sends a setting, as long as it is one.
function set(name, event, whole) {
  byId(name)[event] = () => {
    const { value, min, max } = byId(name), number = whole ? Math.round(Number(value)) : Number(value);
    if (last && value !== "" && number >= Number(min) && number <= Number(max)) send({ type: "set", name, value: number });
  };
}
set("fps", "oninput", true);
set("temperature", "oninput", false);
set("seed", "onchange", true);
set("start", "onchange", true);

if (!document.documentElement.dataset.missing) {
  connect(handlers, chosen());
  send({ type: "visible", visible: !document.hidden }); // it may have been opened in the background
  addEventListener("hashchange", () => location.reload()); // an address that was typed
  listen(() => last, () => (last ? shortcuts : {}), () => last && !last.paused && !last.ended && last.player === "human");
  document.addEventListener("visibilitychange", () => {
    releaseAll();
    send({ type: "visible", visible: !document.hidden });
  });
}
