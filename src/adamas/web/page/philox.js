// Random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") and, for normal ones, Box-Muller
// in float64. A draw is named by (seed, step, use, place): the key is (seed, use), the counter (floor(place / 4), step, 0, 0), and a block
// of four words holds the places 4i to 4i + 3. tests/philox.py is the same in Python.

export const NOISE = 0, REWARD = 1, END = 2, POLICY = 3; // what a draw is for
const ROUNDS = 10;

// The upper 32 bits of a product of two 32-bit words.
function high(a, b) {
  const a0 = a & 0xffff, a1 = a >>> 16, b0 = b & 0xffff, b1 = b >>> 16;
  const middle = a1 * b0 + ((a0 * b0) >>> 16); // below 2^32: exact
  return (a1 * b1 + Math.floor(middle / 65536) + Math.floor(((middle & 0xffff) + a0 * b1) / 65536)) >>> 0;
}

// Writes the four words of a counter (c0, c1, c2, c3) and a key (k0, k1) to `words` from `place` on.
export function philox(words, place, c0, c1, c2, c3, k0, k1) {
  for (let i = 0; i < ROUNDS; i++) {
    const high0 = high(0xd2511f53, c0), high1 = high(0xcd9e8d57, c2);
    const low0 = Math.imul(0xd2511f53, c0), low1 = Math.imul(0xcd9e8d57, c2);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + 0x9e3779b9) | 0;
    k1 = (k1 + 0xbb67ae85) | 0;
  }
  words[place] = c0;
  words[place + 1] = c1;
  words[place + 2] = c2;
  words[place + 3] = c3;
}

// Numbers in (0, 1): the middles of 2^32 equal parts.
export function uniform(seed, step, use, count) {
  const words = new Uint32Array(4 * Math.ceil(count / 4));
  for (let i = 0; i < count; i += 4) philox(words, i, i / 4, step, 0, 0, seed, use);
  return Float64Array.from(words.subarray(0, count), (word) => (word + 0.5) / 2 ** 32);
}

// Standard normal numbers, float32; `count` is even.
export function normal(seed, step, use, count) {
  const u = uniform(seed, step, use, count), numbers = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(u[i])), angle = 2 * Math.PI * u[i + 1];
    numbers[i] = radius * Math.cos(angle);
    numbers[i + 1] = radius * Math.sin(angle);
  }
  return numbers;
}

// A class with the probability that softmax(logits) gives it.
export function categorical(logits, seed, step, use) {
  const most = Math.max(...logits);
  const weights = Array.from(logits, (logit) => Math.exp(logit - most));
  let left = uniform(seed, step, use, 1)[0] * weights.reduce((sum, weight) => sum + weight, 0);
  for (let k = 0; k < weights.length; k++) {
    left -= weights[k];
    if (left < 0) return k;
  }
  return weights.length - 1;
}
