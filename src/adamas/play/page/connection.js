// The socket: JSON text both ways, and frames as a JSON header with raw pictures behind it.

import { SIZE, showDialog } from "./dom.js";

export const token = new URLSearchParams(location.search).get("token") ?? "";
let socket, retryAfter = 500; // milliseconds

// The same for all connections of this browser tab.
function tabName() {
  const random = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("");
  if (!sessionStorage.client) sessionStorage.client = random();
  return sessionStorage.client;
}

// Calls `handlers[type](header, pictures)` for each message of the server, and `handlers.lost()` where the connection breaks.
export function connect(handlers) {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/socket?token=${encodeURIComponent(token)}&client=${tabName()}`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => {
    const [header, pictures] = typeof data === "string" ? [JSON.parse(data), {}] : unpack(data);
    if (header.type === "hello") retryAfter = 500;
    handlers[header.type](header, pictures);
  };
  socket.onclose = () => reconnect(handlers);
}

async function reconnect(handlers) {
  handlers.lost();
  const status = await fetch(location.href).then((response) => response.status, () => 0);
  if (status === 401) return showDialog("The server was restarted and has another token. Open the address that it printed.");
  showDialog("The connection is lost. Trying again; the game is paused, and recorded steps are kept.");
  setTimeout(() => connect(handlers), retryAfter);
  retryAfter = Math.min(retryAfter * 1.6, 5000);
}

function unpack(data) {
  const length = new DataView(data).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const area = SIZE * SIZE;
  const pictures = header.pictures.map((name, i) => [name, new Uint8Array(data, 4 + length + i * area, area)]);
  return [header, Object.fromEntries(pictures)];
}

export function send(message) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}
