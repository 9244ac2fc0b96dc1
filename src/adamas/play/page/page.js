// The page: shows what the server sends, sends what the player does. It holds no state of the game.

import { connect, send } from "./connection.js";
import { listStored, rowShortcuts, showRow, viewSource } from "./datasets.js";
import { all, byId, markPressed, notify, showDialog } from "./dom.js";
import { listen, measureLatency, pictureCame, releaseAll, showKeys } from "./input.js";
import { drawFrame } from "./screens.js";
import { makeControls, showSettings } from "./settings.js";
import { makeBars } from "./policy.js";
import { showStatus } from "./status.js";

let last; // the header of the newest frame
const takeOver = () => send({ type: "take_over" });

connect({
  hello(message) {
    byId("dialog").close();
    byId("game").textContent = `${message.game} world model`;
    const size = (message.parameters / 1e6).toFixed(1);
    byId("model").textContent = `${message.run} · ${size}M parameters, ${message.updates.toLocaleString("en")} updates, ${message.device}`;
    document.title = `${message.game} world model`;
    showKeys(message.keys);
    makeBars(message.actions);
    makeControls(message.controls);
    listStored(message, viewRecording);
  },
  frame(frame, pictures) {
    last = frame;
    if (!frame.real) setView("dream");
    for (const button of all("#views [data-view=real], #views [data-view=both]")) button.disabled = !frame.real;
    drawFrame(frame, pictures);
    send({ type: "acknowledge" });
    pictureCame();
    measureLatency(frame);
    showStatus(frame);
    showSettings(frame.settings);
  },
  dataset_row(facts, pictures) {
    pictureCame();
    showRow(facts, pictures);
  },
  busy: () => showDialog("Somebody else is playing.", "Take over", takeOver),
  replaced: () => showDialog("Another page has taken over.", "Take it back", takeOver),
  error: ({ text }) => notify(text, true),
  saved(message) {
    notify(`saved as ${message.name}`);
    listStored(message, viewRecording);
  },
  lost: releaseAll,
});

function setView(name) {
  document.body.dataset.view = name;
  markPressed(byId("views"), "view", name);
}

function setTab(name, source) {
  document.body.dataset.tab = name;
  markPressed(byId("tabs"), "tab", name);
  releaseAll();
  if (name !== "browse") return;
  send({ type: "pause", paused: true });
  viewSource(source);
}

function viewRecording(name) {
  setTab("browse", name);
}

const nextView = { dream: "real", real: "both", both: "dream" };
const shortcuts = {
  KeyM: () => send({ type: "player", player: last.player === "human" ? "agent" : "human" }),
  KeyP: () => send({ type: "pause", paused: !last.paused }),
  Period: () => send({ type: "step" }),
  Backspace: () => send({ type: "rewind", steps: 1 }),
  KeyR: () => send({ type: "restart" }),
  KeyN: () => send({ type: "new_episode" }),
  KeyC: () => send({ type: "record", on: last.recorded_steps === null }),
  KeyV: () => last.real && setView(nextView[document.body.dataset.view]),
};
const buttons = { pause: "KeyP", forward: "Period", back: "Backspace", restart: "KeyR", "new-episode": "KeyN", record: "KeyC" };
for (const [id, code] of Object.entries(buttons)) byId(id).onclick = () => last && shortcuts[code]();
for (const button of byId("views").children) button.onclick = () => setView(button.dataset.view);
for (const button of byId("tabs").children) button.onclick = () => setTab(button.dataset.tab);
for (const button of byId("player").children) button.onclick = () => send({ type: "player", player: button.dataset.player });
byId("timeline").oninput = () => send({ type: "go_to", position: Number(byId("timeline").value) });

const isBrowsing = () => document.body.dataset.tab === "browse";
listen(
  () => last && !isBrowsing(),
  () => (isBrowsing() ? rowShortcuts : last ? shortcuts : {}),
  () => last && !last.paused && !last.ended && last.player === "human",
);
