// The three graphs in ONNX Runtime Web. Shapes are those of adamas/web/graphs.py.

import * as ort from "./runtime/ort.wasm.min.mjs";
import { SIZE } from "./dream.js";

// Bytes of a file of this folder; those that end in .gz are unpacked, unless the host did so on the way.
export async function read(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} cannot be loaded (${response.status})`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
}

// Threads work only where the host isolates the page from others.
export async function loadModels(config) {
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency ?? 1) : 1;
  const names = ["frame", "events", "policy"];
  const files = names.map((name) => read(`${name}.onnx`));
  ort.env.wasm.wasmBinary = (await read("runtime/ort-wasm-simd-threaded.wasm.gz")).buffer;
  const sessions = {};
  for (const [i, name] of names.entries()) {
    sessions[name] = await ort.InferenceSession.create(await files[i], { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  }
  return { ...bind(sessions, config), threads: ort.env.wasm.numThreads };
}

function bind({ frame, events, policy }, config) {
  const area = SIZE * SIZE, dim = config.lstm_dim;
  const bytes = (frames) => {
    const joined = new Uint8Array(frames.length * area);
    frames.forEach((picture, i) => joined.set(picture, i * area));
    return new ort.Tensor("uint8", joined, [1, frames.length, SIZE, SIZE]);
  };
  const numbers = (actions) => new ort.Tensor("int32", Int32Array.from(actions), [1, actions.length]);
  const floats = (data, shape) => new ort.Tensor("float32", data, shape);
  const memoryIn = ({ h, c }) => ({ h: floats(h, [1, 1, dim]), c: floats(c, [1, 1, dim]) });
  const memoryOut = (out) => ({ h: out.h_next.data, c: out.c_next.data });
  return {
    async frame(frames, actions, noise) {
      const out = await frame.run({ frames: bytes(frames), actions: numbers(actions), noise: floats(noise, [1, 1, SIZE, SIZE]) });
      return out.next.data;
    },
    async events(pair, action, memory) {
      const out = await events.run({ pair: bytes(pair), action: numbers([action]), ...memoryIn(memory) });
      return { reward: out.reward.data, end: out.end.data, memory: memoryOut(out) };
    },
    async policy(frames, memory) {
      const out = await policy.run({ frames: bytes(frames), ...memoryIn(memory) });
      return { logits: Array.from(out.logits.data), value: out.value.data[0], memory: memoryOut(out) };
    },
  };
}
