// In place of the play page's socket: the dream runs in a worker of this page.

let worker;

// Calls `handlers[type](header, pictures)` for each message. `chosen`: the start, the seed and who plays.
export function connect(handlers, chosen) {
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data: [header, pictures] }) => handlers[header.type](header, pictures);
  worker.onerror = (event) => handlers.error({ text: event.message ?? "a script of this page cannot be loaded" });
  worker.postMessage({ type: "open", ...chosen });
}

export const send = (message) => worker.postMessage(message);
