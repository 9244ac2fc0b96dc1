// Keys and touch. A key is known by its place on the keyboard (event.code), which is the same in every layout.

import { byId, make } from "./dom.js";
import { send } from "./connection.js";

const DIGITS = [..."0123456789"];
const DIRECTIONS = { UP: "↑", DOWN: "↓", LEFT: "←", RIGHT: "→" };
export const SIGNS = { ...DIRECTIONS, FIRE: "fire", ...Object.fromEntries(DIGITS.map((digit) => [digit, digit])) };
const GAME_KEYS = {
  ArrowUp: "UP", ArrowDown: "DOWN", ArrowLeft: "LEFT", ArrowRight: "RIGHT", Space: "FIRE",
  KeyW: "UP", KeyS: "DOWN", KeyA: "LEFT", KeyD: "RIGHT",
  ...Object.fromEntries(DIGITS.flatMap((digit) => [[`Digit${digit}`, digit], [`Numpad${digit}`, digit]])),
};
const REPEATED = ["Backspace", "Period", "ArrowLeft", "ArrowRight"]; // shortcuts that a held key repeats

const held = new Map(); // code of a key, or "touch NAME" -> name; oldest first
const sentAt = new Map(); // number of a keys message -> when it was sent
const latencies = []; // milliseconds
let usedKeys = [], keysNumber = 0, timed = () => false;
let answered = true; // a picture came since the newest shortcut

// `useGameKeys` is asked whether keys go to the game now, `shortcuts` for what else they do: code -> function.
export function listen(useGameKeys, shortcuts, isTimed) {
  timed = isTimed;
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return releaseAll(); // the system may keep what is let go of now
    if (byId("dialog").open || /INPUT|SELECT/.test(document.activeElement.tagName)) return;
    const shortcut = shortcuts()[event.code];
    if (useGameKeys() && GAME_KEYS[event.code]) hold(event.code, GAME_KEYS[event.code]);
    else if (!shortcut) return;
    else if (!event.repeat || (REPEATED.includes(event.code) && answered)) {
      answered = false;
      shortcut();
    }
    event.preventDefault();
  });
  addEventListener("keyup", (event) => release(event.code));
  addEventListener("blur", releaseAll);
  document.addEventListener("visibilitychange", () => document.hidden && releaseAll());
  // A control that was clicked gives the keyboard back to the game.
  addEventListener("click", ({ detail }) => detail && document.activeElement.matches("button, input:not([type=number])") && document.activeElement.blur());
  addEventListener("change", ({ target }) => target.type !== "number" && target.blur());
}

function hold(source, name) {
  if (held.has(source) || !usedKeys.includes(name)) return;
  held.set(source, name);
  sendKeys();
  if (timed()) sentAt.set(keysNumber, performance.now());
}

function release(source) {
  if (held.delete(source)) sendKeys();
}

export function releaseAll() {
  for (const button of byId("touch").querySelectorAll(".held")) button.classList.remove("held");
  if (!held.size) return;
  held.clear();
  sendKeys();
}

function sendKeys() {
  keysNumber += 1;
  send({ type: "keys", held: [...new Set(held.values())], number: keysNumber });
}

// A held key repeats its shortcut no sooner than this was called, or a slow model would still step long after the key is let go of.
export function pictureCame() {
  answered = true;
}

// The time from a key to `frame`, if that is the first one that it acted on.
export function measureLatency(frame) {
  for (const [number, sent] of sentAt) {
    if (number > frame.keys_number) continue;
    sentAt.delete(number);
    latencies.push(performance.now() - sent);
    if (latencies.length > 100) latencies.shift();
    const sorted = latencies.map(Math.round).sort((a, b) => a - b);
    byId("latency").textContent = sorted[sorted.length >> 1];
    byId("latency").title = `95% of the last ${sorted.length} took at most ${sorted[Math.floor(0.95 * (sorted.length - 1))]} ms`;
  }
}

// Shows the keys of this game, as hints and as touch buttons.
export async function showKeys(names) {
  usedKeys = names;
  byId("touch").replaceChildren(...touchButtons(names));
  const layout = await keyboardLayout();
  const letters = ["KeyW", "KeyA", "KeyS", "KeyD"].map((code) => printed(layout, code, code.slice(3))).join("");
  const hints = names.map((name) => SIGNS[name] + (name === "FIRE" ? " (space)" : ""));
  const arrows = names.some((name) => name in DIRECTIONS) ? `; arrows or ${letters}` : "";
  byId("keys").textContent = `Keys: ${hints.join("  ")}${arrows}`;
  for (const hint of document.querySelectorAll("kbd[data-code]")) hint.textContent = printed(layout, hint.dataset.code, hint.textContent);
}

// What is printed on each key, where the browser tells it (Chromium).
const keyboardLayout = () => navigator.keyboard?.getLayoutMap?.().catch(() => undefined);

// Keyboards that are not Latin have the Latin letter too: it stays.
function printed(layout, code, otherwise) {
  const sign = layout?.get(code)?.toUpperCase();
  return sign && /^[!-~]$/.test(sign) ? sign : otherwise;
}

function touchButtons(names) {
  const directions = names.filter((name) => name in DIRECTIONS);
  const flat = !names.includes("UP") && !names.includes("DOWN");
  const cross = make("div", { className: flat ? "flat" : "" }, ...directions.map(touchButton));
  return [cross, ...names.filter((name) => !(name in DIRECTIONS)).map(touchButton)];
}

function touchButton(name) {
  const button = make("button", { className: name, textContent: SIGNS[name], ariaLabel: name.toLowerCase() });
  button.onpointerdown = (event) => {
    button.setPointerCapture(event.pointerId);
    button.classList.add("held");
    hold(`touch ${name}`, name);
  };
  button.onpointerup = button.onpointercancel = () => {
    button.classList.remove("held");
    release(`touch ${name}`);
  };
  button.oncontextmenu = (event) => event.preventDefault();
  return button;
}
