// The controls of the settings, built from what the server says of each.

import { byId, make } from "./dom.js";
import { send } from "./connection.js";

let fields = [];

export function makeControls(described) {
  fields = described;
  byId("controls").replaceChildren(...fields.map(makeControl));
}

function makeControl(field) {
  const set = (value) => send({ type: "set", name: field.name, value });
  const label = make("label", {}, field.help);
  const input = make(field.choices ? "select" : "input", { id: `set-${field.name}` });
  label.append(input);
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
    label.append(make("output", { id: `value-${field.name}` }));
  }
  return label;
}

export function showSettings(values) {
  for (const field of fields) {
    const input = byId(`set-${field.name}`), output = byId(`value-${field.name}`), value = values[field.name];
    if (input.type === "checkbox") input.checked = value;
    else if (document.activeElement !== input) input.value = value;
    if (output) output.textContent = field.kind === "int" ? value : value.toFixed(1);
  }
}
