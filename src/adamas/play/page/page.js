// The page: draws what the server sends, sends what the player does. It holds no state of the game.

const SIZE = 84;
const NAMES = { ArrowUp: "UP", ArrowDown: "DOWN", ArrowLeft: "LEFT", ArrowRight: "RIGHT", " ": "FIRE", w: "UP", s: "DOWN", a: "LEFT", d: "RIGHT" };
const SIGNS = { UP: "↑", DOWN: "↓", LEFT: "←", RIGHT: "→", FIRE: "fire" };
const FILM = { npz: "dataset", gif: "GIF", mp4: "video" };
const token = new URLSearchParams(location.search).get("token") ?? "";
const by = (id) => document.getElementById(id);
const all = (selector) => document.querySelectorAll(selector);

const held = new Map(); // key or finger -> name; oldest first
const sentAt = new Map(); // number of a keys message -> when it was sent
const latencies = [], arrivals = [];
let socket, hello, last, look, keyNumber = 0, distances = [], cost = 0, retry = 500; // cost: milliseconds a step, a running mean

// The socket

function client() {
  const made = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("");
  if (!sessionStorage.client) sessionStorage.client = made();
  return sessionStorage.client;
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/socket?token=${encodeURIComponent(token)}&client=${client()}`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => (typeof data === "string" ? hear(JSON.parse(data)) : receive(data));
  socket.onclose = lost;
}

async function lost() {
  held.clear();
  const status = await fetch(location.href).then((answer) => answer.status, () => 0);
  if (status === 401) return say("The server was started anew and has another token. Open the address that it printed.");
  say("The connection is lost. Trying again; the game waits, and nothing recorded is lost.");
  setTimeout(connect, retry);
  retry = Math.min(retry * 1.6, 5000);
}

function send(message) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function hear(message) {
  if (message.type === "hello") welcome(message);
  if (message.type === "busy") say("Somebody else is playing.", "Take over", takeOver);
  if (message.type === "taken") say("Another page has taken over.", "Take it back", takeOver);
  if (message.type === "error") notice(message.text, true);
  if (message.type === "saved") {
    notice(`saved as ${message.name}`);
    shelve(message);
  }
}

const takeOver = () => send({ do: "take_over" });

function receive(data) {
  const length = new DataView(data).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const area = SIZE * SIZE;
  const pictures = header.pictures.map((name, i) => [name, new Uint8Array(data, 4 + length + i * area, area)]);
  (header.type === "look" ? showLook : show)(header, Object.fromEntries(pictures));
}

// What the server says once

function welcome(message) {
  hello = message;
  retry = 500;
  by("message").close();
  by("game").textContent = `${message.game}, dreamed`;
  const size = (message.parameters / 1e6).toFixed(1);
  by("model").textContent = `${message.run} · ${size}M parameters, ${message.updates.toLocaleString("en")} updates, ${message.device}`;
  document.title = `${message.game}: play the dream`;
  const hints = message.keys.map((name) => SIGNS[name] + (name === "FIRE" ? " (space)" : ""));
  by("keys").textContent = `Keys: ${hints.join("  ")}; arrows or WASD`;
  by("bars").replaceChildren(...message.actions.flatMap((name) => bar(words(name))), ...bar("value", "value"));
  by("controls").replaceChildren(...message.controls.map(control));
  by("touch").replaceChildren(...pads(message.keys));
  shelve(message);
}

function words(meaning) {
  return meaning === "NOOP" ? "wait" : meaning.toLowerCase().replace(/(up|down|left|right)(?=.)/g, "$1 ");
}

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function bar(name, kind = "") {
  return [make("dt", { textContent: name }), make("div", { className: `bar ${kind}` }), make("dd", { textContent: "–" })];
}

function control(field) {
  const set = (value) => send({ do: "set", name: field.name, value });
  const label = make("label", {}, field.help);
  const input = make(field.choices ? "select" : "input", { id: `set-${field.name}` });
  if (field.choices) {
    input.append(...field.choices.map((name) => make("option", { value: name, textContent: name })));
    input.disabled = field.choices.length < 2;
    input.onchange = () => set(input.value);
  } else if (field.kind === "bool") {
    input.type = "checkbox";
    input.onchange = () => set(input.checked);
  } else if (field.name === "seed") {
    Object.assign(input, { type: "number", min: field.least, max: field.most });
    input.onchange = () => set(Math.round(Number(input.value)));
  } else {
    Object.assign(input, { type: "range", min: field.least, max: field.most, step: field.kind === "int" ? 1 : 0.1 });
    input.oninput = () => set(Number(input.value));
    label.append(input, make("output", { id: `is-${field.name}` }));
    return label;
  }
  label.append(input);
  return label;
}

function pads(names) {
  const press = (name) => {
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
  };
  const ways = names.filter((name) => name !== "FIRE");
  const flat = !names.includes("UP") && !names.includes("DOWN");
  const cross = make("div", { className: flat ? "flat" : "" }, ...ways.map(press));
  return names.includes("FIRE") ? [cross, press("FIRE")] : [cross];
}

function shelve({ recordings, sources }) {
  const line = (name) => {
    const watch = make("button", { className: "name", textContent: name.replace(".npz", "").replace("_", " "), title: "Look at it" });
    watch.onclick = () => enter("browse", name);
    const links = Object.entries(FILM).map(([kind, text]) =>
      make("a", { textContent: text, href: `recordings/${name.replace(/npz$/, kind)}?token=${encodeURIComponent(token)}`, download: "" }));
    return make("li", {}, watch, ...links);
  };
  by("recordings").replaceChildren(...recordings.map(line));
  if (!recordings.length) by("recordings").append(make("li", { className: "quiet", textContent: "none yet" }));
  const chosen = by("source").value;
  by("source").replaceChildren(...sources.map((name) => make("option", { value: name, textContent: name })));
  if (sources.includes(chosen)) by("source").value = chosen;
}

// A frame

function paint(canvas, picture, colour) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(SIZE, SIZE);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = colour ? colour(picture[i], i) : 0xff000000 | (picture[i] * 0x10101);
  context.putImageData(image, 0, 0);
}

function show(frame, pictures) {
  last = frame;
  paint(by("dream"), pictures.dream);
  if (pictures.reality) compare(pictures.dream, pictures.reality, frame);
  film(frame.pictures, pictures);
  if (frame.step) arrivals.push(performance.now());
  send({ do: "seen" });
  measure(frame);
  tell(frame);
}

function compare(dream, reality, frame) {
  let sum = 0;
  for (let i = 0; i < dream.length; i++) sum += Math.abs(dream[i] - reality[i]);
  distances[frame.step] = sum / dream.length / 2.55; // percent of the whole range of grey
  distances.length = frame.step + 1;
  paint(by("reality"), reality);
  if (document.body.dataset.view !== "both") return;
  paint(by("difference"), dream, (value, i) => {
    const more = Math.min(255, Math.abs(value - reality[i]) * 2);
    return 0xff000000 | (value > reality[i] ? (more >> 1) << 8 | more | (more >> 2) << 16 : more << 16 | (more * 3 >> 2) << 8 | more >> 2);
  });
  plot();
}

function plot() {
  const canvas = by("parting"), context = canvas.getContext("2d");
  const { width, height } = canvas, shown = distances.slice(-width);
  const most = Math.max(2, ...shown.filter(Number.isFinite));
  context.clearRect(0, 0, width, height);
  context.fillStyle = getComputedStyle(document.body).getPropertyValue("--gold");
  shown.forEach((value, x) => {
    const tall = Math.max(1, (value / most) * (height - 4));
    context.fillRect(x, height - tall, 1, tall);
  });
  by("parted").textContent = `${(shown.at(-1) ?? 0).toFixed(2)}% apart`;
}

function film(names, pictures) {
  const noisy = names.filter((name) => name.startsWith("noisy"));
  const box = by("film");
  box.className = noisy.length < 4 ? "few" : "";
  by("strip").hidden = !last.settings.strip;
  while (box.children.length > noisy.length) box.lastChild.remove();
  while (box.children.length < noisy.length) {
    const canvas = () => make("canvas", { width: SIZE, height: SIZE });
    box.append(make("div", {}, canvas(), canvas()));
  }
  noisy.forEach((name, i) => {
    paint(box.children[i].children[0], pictures[name]);
    paint(box.children[i].children[1], pictures[name.replace("noisy", "clean")]);
  });
}

function measure(frame) {
  const now = performance.now();
  while (arrivals.length && now - arrivals[0] > 1000) arrivals.shift();
  by("fps").textContent = arrivals.length;
  for (const [number, sent] of sentAt) {
    if (number > frame.key) continue;
    sentAt.delete(number);
    latencies.push(now - sent);
    if (latencies.length > 100) latencies.shift();
    const sorted = latencies.map(Math.round).sort((a, b) => a - b);
    by("latency").textContent = sorted[sorted.length >> 1];
    by("latency").title = `95% of the last ${sorted.length} took at most ${sorted[Math.floor(0.95 * (sorted.length - 1))]} ms`;
  }
  if (!frame.milliseconds) return;
  cost += (frame.milliseconds - cost) / 10;
  if (1000 / cost < frame.settings.fps * 0.95)
    notice(`the model makes ${(1000 / cost).toFixed(0)} of ${frame.settings.fps} frames/s: fewer denoising steps are faster`);
}

function tell(frame) {
  const { real, settings } = frame;
  by("return").textContent = frame.return;
  by("real-return").textContent = real ? `(real ${real.return}${real.over ? ", over" : ""})` : "";
  by("step").textContent = frame.step;
  by("horizon").textContent = settings.horizon;
  by("reward").textContent = frame.reward ? `reward ${frame.reward > 0 ? "+" : ""}${frame.reward}` : "reward";
  by("reward").classList.toggle("lit", frame.reward !== 0);
  by("reward").classList.toggle("loss", frame.reward < 0);
  by("end").classList.toggle("lit", frame.terminated);
  by("pause").firstElementChild.textContent = frame.paused ? "▶" : "❚❚";
  by("recorded").textContent = frame.recording === null ? "Record" : `${frame.recording} steps`;
  by("record").classList.toggle("on", frame.recording !== null);
  Object.assign(by("timeline"), { max: frame.past + frame.ahead, value: frame.past });
  mark(by("who"), "who", frame.who);
  for (const button of all("[data-view=reality], [data-view=both]")) if (button.tagName === "BUTTON") button.disabled = !real;
  if (!real) view("dream");
  bars(frame);
  for (const field of hello.controls) reflect(field, settings[field.name]);
  curtain(frame);
}

function bars(frame) {
  const rows = by("bars").children;
  frame.probabilities.forEach((share, i) => {
    rows[3 * i].className = i === frame.action ? "chosen" : "";
    rows[3 * i + 1].style.setProperty("--share", share);
    rows[3 * i + 2].textContent = `${Math.round(100 * share)}%`;
  });
  const [, line, number] = [...rows].slice(-3);
  line.style.setProperty("--share", Math.min(1, Math.abs(frame.value) / 10));
  number.textContent = frame.value.toFixed(2);
}

function reflect(field, value) {
  const input = by(`set-${field.name}`);
  if (input.type === "checkbox") input.checked = value;
  else if (document.activeElement !== input) input.value = value;
  const output = by(`is-${field.name}`);
  if (output) output.textContent = field.kind === "int" ? value : value.toFixed(1);
}

function curtain(frame) {
  const why = { end: "The dream predicts the end", horizon: "The horizon is reached" }[frame.over];
  by("curtain").hidden = !why;
  const next = frame.who === "agent" && !frame.paused ? "a new start follows" : "N: a new start, R: the same again";
  if (why) by("curtain").replaceChildren(make("b", { textContent: why }), next);
}

// Words

let noticeTimer;
function notice(text, bad = false) {
  by("notice").textContent = text;
  by("notice").classList.toggle("bad", bad);
  by("notice").hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => (by("notice").hidden = true), 4000);
}

function say(text, action, then) {
  const [words, button] = by("message").children;
  words.textContent = text;
  button.hidden = !action;
  Object.assign(button, { textContent: action ?? "", onclick: then ?? null });
  if (!by("message").open) by("message").showModal();
}

// What the player does

function hold(source, name) {
  if (held.has(source) || !hello?.keys.includes(name)) return;
  held.set(source, name);
  sendKeys(true);
}

function release(source) {
  if (held.delete(source)) sendKeys(false);
}

function sendKeys(timed) {
  keyNumber += 1;
  if (timed && last && !last.paused && !last.over && last.who === "you") sentAt.set(keyNumber, performance.now());
  send({ do: "keys", held: [...new Set(held.values())], number: keyNumber });
}

function mark(group, name, value) {
  for (const button of group.children) button.ariaPressed = button.dataset[name] === value;
}

function view(name) {
  if (document.body.dataset.view === name) return;
  document.body.dataset.view = name;
  mark(by("views"), "view", name);
}

function enter(room, source) {
  document.body.dataset.room = room;
  mark(by("rooms"), "room", room);
  if (room !== "browse") return;
  send({ do: "pause", paused: true });
  if (source) by("source").value = source;
  ask(0, 0);
}

const nextView = { dream: "reality", reality: "both", both: "dream" };
const acts = {
  m: () => send({ do: "who", who: last.who === "you" ? "agent" : "you" }),
  p: () => send({ do: "pause", paused: !last.paused }),
  ".": () => send({ do: "step" }),
  Backspace: () => send({ do: "rewind", steps: 1 }),
  r: () => send({ do: "reset" }),
  n: () => send({ do: "start" }),
  c: () => send({ do: "record", on: last.recording === null }),
  v: () => last.real && view(nextView[document.body.dataset.view]),
};
for (const [id, key] of Object.entries({ pause: "p", forward: ".", back: "Backspace", reset: "r", start: "n", record: "c" })) by(id).onclick = acts[key];
for (const button of by("views").children) button.onclick = () => view(button.dataset.view);
for (const button of by("rooms").children) button.onclick = () => enter(button.dataset.room);
for (const button of by("who").children) button.onclick = () => send({ do: "who", who: button.dataset.who });
by("timeline").oninput = () => send({ do: "rewind", steps: last.past - Number(by("timeline").value) });

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !last || by("message").open) return;
  if (/INPUT|SELECT/.test(document.activeElement.tagName)) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (document.body.dataset.room === "browse") return browseKey(key);
  if (NAMES[key]) hold(key, NAMES[key]);
  else if (acts[key] && (!event.repeat || key === "Backspace" || key === ".")) acts[key]();
  else return;
  event.preventDefault();
});
addEventListener("keyup", ({ key }) => release(key.length === 1 ? key.toLowerCase() : key));
addEventListener("blur", () => held.size && (held.clear(), sendKeys(false)));
// A control that was clicked gives the keyboard back to the game.
addEventListener("click", ({ detail }) => detail && document.activeElement.matches("button, input:not([type=number])") && document.activeElement.blur());
addEventListener("change", ({ target }) => target.type !== "number" && target.blur());

// Browsing

function ask(episode, step) {
  if (by("source").value) send({ do: "look", source: by("source").value, episode, step });
}

function showLook(facts, pictures) {
  look = facts;
  paint(by("look"), pictures.look);
  Object.assign(by("look-step"), { max: facts.steps - 1, value: facts.step });
  Object.assign(by("episode"), { value: facts.episode + 1, max: facts.episodes });
  by("episode-facts").textContent = `of ${facts.episodes} · step ${facts.step + 1} of ${facts.steps} · return ${facts.return}`;
  const end = facts.terminated ? ", and the end" : facts.truncated ? ", and was cut off" : "";
  const action = facts.action === null ? "the last frame of the episode" : `then: ${words(facts.action)}`;
  by("look-facts").textContent = `${action}${facts.reward ? `, which brought ${facts.reward}` : ""}${end}`;
  by("look-previous-reward").disabled = facts.previous_reward === null;
  by("look-next-reward").disabled = facts.next_reward === null;
}

function browseKey(key) {
  if (key === "ArrowLeft") by("look-back").click();
  if (key === "ArrowRight") by("look-forward").click();
}

const goTo = (step) => look && ask(look.episode, step);
by("source").onchange = () => ask(0, 0);
by("episode").onchange = () => ask(Math.max(0, Math.round(Number(by("episode").value)) - 1), 0);
by("look-step").oninput = () => goTo(Number(by("look-step").value));
by("look-back").onclick = () => goTo(look.step - 1);
by("look-forward").onclick = () => goTo(look.step + 1);
by("look-previous-reward").onclick = () => goTo(look.previous_reward);
by("look-next-reward").onclick = () => goTo(look.next_reward);

connect();
