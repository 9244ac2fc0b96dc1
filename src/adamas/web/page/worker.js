// The dream in a thread of its own: commands come in, frames go out. The messages are those of the play page's server.

import { SIZE } from "./dream.js";
import { loadModels, read } from "./models.js";
import { Session } from "./session.js";

let session, visible = true, sent = 0, acknowledged = 0;
let work = Promise.resolve(); // commands and steps, one after another
let wake = () => {}; // ends a rest that a key may end
const channel = new MessageChannel(); // a timer of 0 ms would wait for 4

onmessage = ({ data }) => {
  if (data.type === "open") open(data).catch(tell);
  else if (data.type === "acknowledge") acknowledged += 1;
  else if (data.type === "visible") visible = data.visible;
  else work = work.then(() => session.do(data)).then(() => (data.type === "keys" ? session.tapped.length && wake() : show())).catch(tell);
};

async function open(chosen) {
  const config = JSON.parse(new TextDecoder().decode(await read("config.json")));
  const [models, starts] = await Promise.all([loadModels(config), loadStarts(config)]);
  const start = Math.min(Math.max(chosen.start, 1), starts.length);
  session = new Session(models, config, starts, { ...chosen, start });
  await session.restart();
  postMessage([{ type: "hello", ...config, starts: starts.length, threads: models.threads }]);
  show();
  play();
}

// The frames and actions that dreams begin with, and the real game's film of what came then.
async function loadStarts(config) {
  const bytes = await read("starts.bin.gz"), area = SIZE * SIZE;
  let place = 0;
  // Each in a buffer of its own: a message that holds a view takes the whole buffer along.
  const frames = (count) => Array.from({ length: count }, () => bytes.slice(place, (place += area)));
  return config.starts.map(({ actions, film }) => {
    const first = frames(actions.length + 1);
    return { frames: first, actions, film: { actions: film, frames: frames(film.length) } };
  });
}

function show(stepMs = null) {
  sent += 1;
  postMessage(session.frame(stepMs));
}

// Steps at the speed of the settings, or as fast as the machine can, while a page shows them. A key that is pressed brings the
// next step forward, unless that came early already: the speed stays the same.
async function play() {
  let due = performance.now();
  for (;;) {
    if (visible && acknowledged >= sent - 1) await (work = work.then(tick).catch(tell));
    const period = 1000 / session.settings.fps, now = performance.now();
    due = Math.max(due + period, now);
    await rest(Math.max(0, due - now - period));
    if (!session.tapped.length) await rest(due - performance.now(), true);
  }
}

async function tick() {
  const began = performance.now();
  if (await session.tick()) show(performance.now() - began);
}

function rest(ms, untilKey = false) {
  return new Promise((resolve) => {
    if (untilKey) wake = resolve;
    if (ms >= 4) return setTimeout(resolve, ms);
    channel.port1.onmessage = resolve;
    channel.port2.postMessage(null);
  });
}

function tell(error) {
  if (session) session.paused = true;
  postMessage([{ type: "error", text: String(error?.message ?? error) }]);
}
