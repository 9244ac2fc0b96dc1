"""The networks of a run as three ONNX graphs of fixed shapes, float32, batch size 1.

Frames are bytes on both sides of a graph. Weights that float16 holds exactly are stored so, and computed with in float32.

frame:  frames uint8 (1, n, 84, 84) and actions int32 (1, n), oldest first, noise float (1, 1, 84, 84)
        -> the next frame, uint8 (1, 84, 84): the whole sampler
events: pair uint8 (1, 2, 84, 84), action int32 (1, 1), h and c float (1, 1, D)
        -> reward logits (1, 3), end logits (1, ends), h, c: what the transition from the first frame to the second brings
policy: frames uint8 (1, k, 84, 84), oldest first, h and c float (1, 1, D)
        -> action logits (1, A), value (1,), h, c: at the last of the frames
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from adamas.agent.policy import Policy as AgentPolicy
from adamas.agent.rollout import Hidden
from adamas.config import SIZE
from adamas.data.frames import to_float, to_uint8
from adamas.training.models import Models
from adamas.utils.errors import UserError
from adamas.world_model.denoiser import run_sampler
from adamas.world_model.reward_end import RewardEnd
from adamas.world_model.world_model import WorldModel

OPSET = 18
EXTRA = "web= needs onnx and onnxscript: pip install 'adamas[web]', in a clone pip install -e '.[web]'"


class Frame(nn.Module):
    """The next frame out of noise; the sampler's loop is unrolled."""

    def __init__(self, world: WorldModel) -> None:
        super().__init__()
        self.denoiser, self.sampler = world.denoiser, world.sampler

    def forward(self, frames: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        context, actions = to_float(frames), actions.long()

        def denoise(x: Tensor, sigma: float) -> Tensor:
            return self.denoiser.denoise(x, sigma, context, actions)

        y = run_sampler(denoise, noise, self.sampler, torch.Generator())  # of which nothing is drawn, without churn
        return to_uint8(self.denoiser.decode(y, context[:, -1:]))[:, 0]


class Events(nn.Module):
    """Reward and end of one transition."""

    def __init__(self, reward_end: RewardEnd) -> None:
        super().__init__()
        self.reward_end = reward_end

    def forward(self, pair: Tensor, action: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        rewards, ends, (h, c) = self.reward_end(pair[:, :1], action.long(), pair[:, 1:], (h, c))
        return rewards[:, 0], ends[:, 0], h, c


class Policy(nn.Module):
    """The policy at the newest of its frames."""

    def __init__(self, policy: AgentPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, frames: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        logits, value, hidden = self.policy(frames[:, -1:], Hidden(h, c, frames[None, :, :-1].int()))
        return logits[:, 0], value[:, 0], hidden.h, hidden.c


class Graph(NamedTuple):
    """One of the three: what it computes, examples of what goes in, and the names of both ends."""

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: list[str]


def graphs(models: Models) -> dict[str, Graph]:
    """UserError where the run's sampler draws noise between its steps, which the graph could not."""
    c, world = models.config, models.world
    if c.sampler.s_churn > 0:
        raise UserError(f"sampler.s_churn={c.sampler.s_churn}: the page can draw noise at the first step only")
    n, k = c.denoiser.context, models.policy.frame_stack
    memory = {"h": torch.zeros(1, 1, c.network.lstm_dim), "c": torch.zeros(1, 1, c.network.lstm_dim)}
    noise = torch.zeros(1, 1, SIZE, SIZE)
    actions, action = (torch.zeros(1, count, dtype=torch.int32) for count in (n, 1))
    return {
        "frame": Graph(Frame(world), {"frames": blank(n), "actions": actions, "noise": noise}, ["next"]),
        "events": Graph(
            Events(world.reward_end),
            {"pair": blank(2), "action": action, **memory},
            ["reward", "end", "h_next", "c_next"],
        ),
        "policy": Graph(Policy(models.policy), {"frames": blank(k), **memory}, ["logits", "value", "h_next", "c_next"]),
    }


def blank(count: int) -> Tensor:
    return torch.zeros(1, count, SIZE, SIZE, dtype=torch.uint8)


def save_graphs(models: Models, out: Path) -> None:
    """Writes frame.onnx, events.onnx and policy.onnx. UserError where a package is missing or the graphs cannot be made."""
    for name, graph in graphs(models).items():
        save_graph(graph, out / f"{name}.onnx")


def save_graph(graph: Graph, path: Path) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401  # the exporter asks for it
    except ImportError as error:
        raise UserError(EXTRA) from error
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            graph.module.eval(),
            tuple(graph.inputs.values()),
            dynamo=True,  # the older exporter gets the order of axes in `with_changes` wrong
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=graph.outputs,
        )
    model = program.model_proto
    halve(model)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def halve(model: Any) -> None:
    """Stores matrices and kernels as float16 where nothing is lost; a Cast gives them back before the first use."""
    from onnx import helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype != np.float32 or weights.ndim < 2:
            continue
        with np.errstate(over="ignore"):
            half = weights.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), weights):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=1))  # 1: float32
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporter tells its own developers."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
