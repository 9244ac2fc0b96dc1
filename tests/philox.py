"""The random numbers of the exported page: its philox.js in Python."""

from __future__ import annotations

import numpy as np

NOISE, REWARD, END, POLICY = 0, 1, 2, 3  # what a draw is for
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
LOW = np.uint64(0xFFFFFFFF)


def philox(key: tuple[int, int], counter: np.ndarray) -> np.ndarray:
    """Counters uint32 (N, 4) -> random words uint32 (N, 4)."""
    c0, c1, c2, c3 = counter.astype(np.uint64).T
    m0, m1 = map(np.uint64, MULTIPLIERS)
    for i in range(ROUNDS):
        k0, k1 = (np.uint64((k + i * w) & 0xFFFFFFFF) for k, w in zip(key, WEYL, strict=True))
        a, b = c0 * m0, c2 * m1  # 64 bits hold the product of two words
        c0, c1, c2, c3 = (b >> np.uint64(32)) ^ c1 ^ k0, b & LOW, (a >> np.uint64(32)) ^ c3 ^ k1, a & LOW
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def uniform(seed: int, step: int, use: int, count: int) -> np.ndarray:
    """float64 (count,) in (0, 1): the middles of 2^32 equal parts."""
    blocks = (count + 3) // 4
    counter = np.zeros((blocks, 4), np.uint32)
    counter[:, 0], counter[:, 1] = np.arange(blocks), step
    return (philox((seed, use), counter).reshape(-1)[:count] + 0.5) / 2.0**32


def normal(seed: int, step: int, use: int, count: int) -> np.ndarray:
    """float32 (count,), `count` even: standard normal numbers, each pair from a pair of uniform ones."""
    u = uniform(seed, step, use, count).reshape(-1, 2)
    radius, angle = np.sqrt(-2 * np.log(u[:, 0])), 2 * np.pi * u[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1).astype(np.float32)


def categorical(logits: np.ndarray, seed: int, step: int, use: int) -> int:
    """float (K,) -> k with probability softmax(logits)[k]: where the sum of the weights passes a uniform part of their sum."""
    weights = np.exp(logits.astype(np.float64) - float(logits.max())).tolist()
    left = float(uniform(seed, step, use, 1)[0]) * sum(weights)
    for k, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return k
    return len(weights) - 1
