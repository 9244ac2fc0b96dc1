// Recordings to download, and datasets to view row by row.

import { actionName, byId, drawPicture, make } from "./dom.js";
import { send, token } from "./connection.js";

const KINDS = { npz: "dataset", gif: "GIF", mp4: "video" };
let row; // the facts of the one that is shown

// `viewRecording(name)` opens one in the viewer.
export function listStored({ recordings, sources }, viewRecording) {
  const line = (name) => {
    const open = make("button", { className: "name", textContent: name.replace(".npz", "").replace("_", " "), title: "View it" });
    open.onclick = () => viewRecording(name);
    const links = Object.entries(KINDS).map(([kind, text]) =>
      make("a", { textContent: text, href: `recordings/${encodeURIComponent(name.replace(/npz$/, kind))}?token=${encodeURIComponent(token)}`, download: "" }));
    return make("li", {}, open, ...links);
  };
  byId("recordings").replaceChildren(...recordings.map(line));
  if (!recordings.length) byId("recordings").append(make("li", { className: "quiet", textContent: "none yet" }));
  const chosen = byId("source").value;
  byId("source").replaceChildren(...sources.map((name) => make("option", { value: name, textContent: name })));
  if (sources.includes(chosen)) byId("source").value = chosen;
}

export function viewSource(source) {
  if (source) byId("source").value = source;
  view(0, 0);
}

function view(episode, step) {
  if (byId("source").value) send({ type: "view", source: byId("source").value, episode, step });
}

export function showRow(facts, pictures) {
  row = facts;
  drawPicture(byId("row-frame"), pictures.dataset_row);
  Object.assign(byId("row-step"), { max: facts.steps - 1, value: facts.step });
  Object.assign(byId("episode"), { value: facts.episode + 1, max: facts.episodes });
  byId("episode-facts").textContent = `of ${facts.episodes} · step ${facts.step + 1} of ${facts.steps} · return ${facts.return}`;
  const end = facts.terminated ? ", terminated" : facts.truncated ? ", truncated" : "";
  const action = facts.action === null ? "final frame of the episode" : `action: ${actionName(facts.action)}`;
  byId("row-facts").textContent = `${action}${facts.reward ? `, reward ${facts.reward}` : ""}${end}`;
  byId("previous-reward").disabled = facts.previous_reward === null;
  byId("next-reward").disabled = facts.next_reward === null;
}

const goTo = (step) => row && view(row.episode, step);
export const rowShortcuts = {
  ArrowLeft: () => goTo(row?.step - 1),
  ArrowRight: () => goTo(row?.step + 1),
};
byId("source").onchange = () => view(0, 0);
byId("episode").onchange = () => view(Math.max(0, Math.round(Number(byId("episode").value)) - 1), 0);
byId("row-step").oninput = () => goTo(Number(byId("row-step").value));
byId("previous-step").onclick = rowShortcuts.ArrowLeft;
byId("next-step").onclick = rowShortcuts.ArrowRight;
byId("previous-reward").onclick = () => goTo(row?.previous_reward);
byId("next-reward").onclick = () => goTo(row?.next_reward);
