"""One pass over all frames: what the card and the filter need to know of each, in a few numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import torch

from adamas.config import SIZE
from adamas.data_card.source import Source
from adamas.evaluation.random_encoder import load_encoder

CELL = 6  # pixels a side of the cells in which a perceptual hash compares brightness: a ball of 4 pixels shows
STEP = 2.0  # grey levels by which a cell must be brighter than its left neighbour
CHANGED, SAME = 24, 8  # grey levels: more than CHANGED is another pixel, at most SAME is the same one
MOST_PROBED = 20_000  # steps of which the changes are kept, for the alignment probe
FLOW_CELL = 12


class Scan(NamedTuple):
    """A line for each row. "Before" is the row before, be it of the same episode or not."""

    digest: np.ndarray  # uint64 (N,): equal for equal frames
    state: np.ndarray  # uint64 (N,): equal for frames that look alike, a perceptual hash
    low: np.ndarray  # uint8 (N,): the darkest pixel
    high: np.ndarray  # uint8 (N,): the brightest one
    edges: np.ndarray  # float32 (N,): mean difference of neighbouring pixels, in grey levels
    changed: np.ndarray  # float32 (N,): share of the pixels that are not as before
    reverted: np.ndarray  # float32 (N,): share of the pixels that are not as before, and in the next frame are again
    features: np.ndarray  # float32 (N, D), of the encoder
    probed: np.ndarray  # int64 (M,): rows whose change to the next row is in `changes`
    changes: np.ndarray  # float32 (M, C)


def scan(source: Source, tick: Callable[[int], object] = lambda rows: None) -> Scan:
    """Reads all frames once, in the memory of a few.

    Args:
        tick: called with the number of rows after each block of them.
    """
    encoder, every = load_encoder(), max(1, round(source.rows / MOST_PROBED))
    parts: list[dict[str, np.ndarray]] = []
    probed, changes = [], []
    lead, first = np.zeros((0, SIZE, SIZE), np.uint8), 0
    for number, block in enumerate(source.blocks()):
        part = _frames_alone(block)
        part["features"] = encoder(torch.from_numpy(block.copy())).numpy()
        film = np.concatenate([lead, block])  # the last two frames before, so that nothing is lost between blocks
        part["changed"], part["reverted"] = _against_neighbours(film, len(block))
        if number % every == 0 and len(block) > 1:
            probed.append(first + np.arange(len(block) - 1))
            changes.append(change_features(block))
        parts.append(part)
        lead, first = film[-2:], first + len(block)
        tick(len(block))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    columns["reverted"] = np.append(columns["reverted"][1:], np.float32(0))  # known only with the frame after it
    empty = np.zeros((0, 1), np.float32)
    return Scan(
        **columns,
        probed=np.concatenate(probed) if probed else np.zeros(0, int),
        changes=np.concatenate(changes) if changes else empty,
    )


def _frames_alone(block: np.ndarray) -> dict[str, np.ndarray]:
    flat = block.reshape(len(block), -1)
    return {
        "digest": np.array([_hash(frame) for frame in block], np.uint64),
        "state": np.array([_hash(bits) for bits in perceptual_bits(block)], np.uint64),
        "low": flat.min(1),
        "high": flat.max(1),
        "edges": cv2.absdiff(block[:, :, 1:], block[:, :, :-1]).reshape(len(block), -1).mean(1, dtype=np.float32),
    }


def _against_neighbours(film: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """`changed` of the last `rows` frames; and `reverted` of the frame before each."""
    missing = rows + 2 - len(film)  # at the very start nothing is before
    film = np.concatenate([film[:1].repeat(missing, 0), film]) if missing else film
    change = cv2.absdiff(film[1:], film[:-1]) > CHANGED  # (rows + 1, H, W)
    back = cv2.absdiff(film[2:], film[:-2]) <= SAME  # (rows, H, W)
    return change[1:].mean((1, 2), dtype=np.float32), (change[:-1] & back).mean((1, 2), dtype=np.float32)


def perceptual_bits(frames: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W) -> uint8 (N, bytes): whether each cell of CELL pixels is brighter than its left neighbour (a difference
    hash), and than the one above it."""
    cells = _pooled(frames.astype(np.float32), CELL)
    across, down = np.diff(cells, axis=2) > STEP, np.diff(cells, axis=1) > STEP
    return np.packbits(np.concatenate([x.reshape(len(frames), -1) for x in (across, down)], 1), axis=1)


def change_features(frames: np.ndarray) -> np.ndarray:
    """What changes from each frame to the next, for a linear probe: uint8 (N, H, W) -> float32 (N-1, C).

    The profiles of the change along each axis, whose first moments are displacements; and its product with the gradient
    of the picture, as in the normal equation of Lucas & Kanade 1981, which tells a direction wherever something moves.
    """
    x = frames.astype(np.float32) / 32
    change, between = np.diff(x, axis=0), (x[1:] + x[:-1]) / 2
    features = [change.mean(1), change.mean(2)]
    for reach in (1, 3):  # pixels: slow things and fast ones
        across, down = np.zeros_like(between), np.zeros_like(between)
        across[:, :, reach:-reach] = between[:, :, 2 * reach :] - between[:, :, : -2 * reach]
        down[:, reach:-reach] = between[:, 2 * reach :] - between[:, : -2 * reach]
        cells = [_pooled(change * gradient, FLOW_CELL) for gradient in (across, down)]
        features += [cell.reshape(len(change), -1) for cell in cells] + [cell.mean((1, 2))[:, None] for cell in cells]
    return np.concatenate(features, 1)


def _pooled(x: np.ndarray, cell: int) -> np.ndarray:
    """(N, H, W) -> (N, H / cell, W / cell): the mean of each cell."""
    side = SIZE // cell
    return x.reshape(len(x), side, cell, side, cell).mean((2, 4))


def _hash(data: np.ndarray) -> int:
    digest = hashlib.blake2b(np.ascontiguousarray(data).data, digest_size=8).digest()
    return int.from_bytes(digest, "little")
