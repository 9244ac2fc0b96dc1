"""The dream of the exported page: its dream.js in Python, line by line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from philox import END, NOISE, POLICY, REWARD, categorical, normal

from adamas.config import SIZE
from adamas.training.models import Models
from adamas.web.graphs import Graph, graphs
from adamas.world_model.reward_end import DIVERGED

Network = Callable[..., "list[np.ndarray]"]  # the inputs of a graph in their order -> its outputs
Choose = Callable[[int, np.ndarray], int]  # the number of the step, the policy's logits -> action


class Step(NamedTuple):
    """One step of a dream."""

    obs: np.ndarray  # uint8 (84, 84)
    action: int  # that led here
    reward: int
    end: int  # CONTINUE, TERMINATED or DIVERGED


def torch_networks(models: Models) -> dict[str, Network]:
    """The three networks as the graphs have them, run by PyTorch in float32."""
    return {name: _network(graph) for name, graph in graphs(models).items()}


def dream(
    networks: Mapping[str, Network],
    lstm_dim: int,
    frame_stack: int,
    frames: np.ndarray,
    actions: list[int],
    seed: int,
    choose: Choose | None = None,
) -> Iterator[Step]:
    """Endless: goes on after a predicted end.

    Args:
        networks: `frame`, `events` and `policy`.
        frames, actions: the start, uint8 (n, 84, 84) and the n-1 actions between them.
        choose: who plays; None: the policy, at temperature 1.
    """
    zeros = np.zeros((1, 1, lstm_dim), np.float32)
    memory = policy_memory = [zeros, zeros]
    for t, action in enumerate(actions):
        _, _, *memory = networks["events"](frames[None, t : t + 2], _ints([action]), *memory)
    stack = np.stack([frames[0]] * frame_stack)  # as if the first frame stood still
    for frame in frames:
        stack = np.concatenate([stack[1:], frame[None]])
        logits, _, *policy_memory = networks["policy"](stack[None], *policy_memory)
    step = 0
    while True:
        action = choose(step, logits[0]) if choose else categorical(logits[0], seed, step, POLICY)
        noise = normal(seed, step, NOISE, SIZE * SIZE).reshape(1, 1, SIZE, SIZE)
        (frame,) = networks["frame"](frames[None], _ints([*actions, action]), noise)
        pair = np.stack([frames[-1], frame[0]])[None]
        rewards, ends, *memory = networks["events"](pair, _ints([action]), *memory)
        end = categorical(ends[0], seed, step, END)
        reward = 0 if end == DIVERGED else categorical(rewards[0], seed, step, REWARD) - 1
        frames, actions = np.concatenate([frames[1:], frame]), [*actions, action][1:]
        stack = np.concatenate([stack[1:], frame])
        logits, _, *policy_memory = networks["policy"](stack[None], *policy_memory)
        step += 1
        yield Step(frame[0], action, reward, end)


def _ints(actions: list[int]) -> np.ndarray:
    return np.array([actions], np.int32)


def _network(graph: Graph) -> Network:
    @torch.no_grad()
    def run(*inputs: np.ndarray) -> list[np.ndarray]:
        outputs = graph.module(*map(torch.from_numpy, inputs))
        return [output.numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]

    return run
