// What the policy would do and what it expects: a bar for each action, and one for the value.

import { actionName, byId, make } from "./dom.js";

export function makeBars(actions) {
  byId("bars").replaceChildren(...actions.flatMap((name) => bar(actionName(name))), ...bar("value", "value"));
}

function bar(name, kind = "") {
  return [make("dt", { textContent: name }), make("div", { className: `bar ${kind}` }), make("dd", { textContent: "–" })];
}

export function showPolicy(frame) {
  const rows = byId("bars").children;
  frame.probabilities.forEach((probability, i) => {
    rows[3 * i].className = i === frame.action ? "chosen" : "";
    rows[3 * i + 1].style.setProperty("--share", probability);
    rows[3 * i + 2].textContent = `${Math.round(100 * probability)}%`;
  });
  const [, line, number] = [...rows].slice(-3);
  line.style.setProperty("--share", Math.min(1, Math.abs(frame.value) / 10));
  number.textContent = frame.value.toFixed(2);
}
