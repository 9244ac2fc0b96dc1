// Elements of the page, pictures, and what it tells the player.

export const SIZE = 84; // pixels of a frame, each way
export const byId = (id) => document.getElementById(id);
export const all = (selector) => document.querySelectorAll(selector);

export function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// One of the buttons of a group is pressed.
export function markPressed(group, name, value) {
  for (const button of group.children) button.ariaPressed = button.dataset[name] === value;
}

// "UPRIGHTFIRE" -> "up right fire"
export function actionName(meaning) {
  return meaning === "NOOP" ? "wait" : meaning.toLowerCase().replace(/(up|down|left|right)(?=.)/g, "$1 ");
}

// Draws grey bytes; `colour` turns (byte, index) into ABGR where they are not to be grey.
export function drawPicture(canvas, picture, colour = (value) => 0xff000000 | (value * 0x10101)) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(SIZE, SIZE);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = colour(picture[i], i);
  context.putImageData(image, 0, 0);
}

let notificationTimer;
export function notify(text, isError = false, isHint = false) {
  const box = byId("notification");
  if (isHint && !box.hidden && !box.classList.contains("hint")) return; // what is told now matters more
  box.textContent = text;
  box.classList.toggle("hint", isHint);
  box.classList.toggle("error", isError);
  box.hidden = false;
  clearTimeout(notificationTimer);
  notificationTimer = setTimeout(() => (box.hidden = true), 4000);
}

byId("dialog").oncancel = (event) => event.preventDefault(); // Escape would leave an empty page

export function showDialog(text, buttonText, onClick) {
  const [paragraph, button] = byId("dialog").children;
  paragraph.textContent = text;
  button.hidden = !buttonText;
  Object.assign(button, { textContent: buttonText ?? "", onclick: onClick ?? null });
  if (!byId("dialog").open) byId("dialog").showModal();
}
