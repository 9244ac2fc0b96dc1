"""The published code of DIAMOND (eloialonso/diamond, 5bcd159), imported from a clone, in the sizes of our config; and which of its
tensors is which of ours."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

import torch
from torch import Tensor, nn

from adamas.config import SIZE, Config
from adamas.utils.errors import UserError

FILES = ("agent.py", "data/batch_sampler.py", "models/diffusion/denoiser.py")
ABSENT = ("wandb", "torcheval", "torcheval.metrics", "torcheval.metrics.functional")  # it only logs with these
PARTS = {"denoiser": "denoiser", "reward_end": "rew_end_model", "actor_critic": "actor_critic"}  # ours: theirs
BLOCK = (
    (r"\.skip\.", ".proj."),
    (r"\.modulation\.", ".linear."),
    (r"\.attention\.norm\.", ".attn.norm.norm."),
    (r"\.attention\.(qkv|out)\.", r".attn.\1_proj."),
)
RENAMED = {
    "denoiser": (
        (r"^net\.unet\.down\.(\d+)\.resize\.", r"inner_model.unet.downsamples.\1.conv."),
        (r"^net\.unet\.up\.(\d+)\.resize\.", lambda m: f"inner_model.unet.upsamples.{int(m[1]) + 1}."),
        (r"^net\.unet\.down\.(\d+)\.blocks\.", r"inner_model.unet.d_blocks.\1.resblocks."),
        (r"^net\.unet\.up\.(\d+)\.blocks\.", r"inner_model.unet.u_blocks.\1.resblocks."),
        (r"^net\.unet\.middle\.", "inner_model.unet.mid_blocks.resblocks."),
        (r"^net\.unet\.norm_out\.", "inner_model.norm_out.norm."),
        (r"^net\.unet\.conv_(in|out)\.", r"inner_model.conv_\1."),
        (r"^net\.noise_embedding\.frequencies", "inner_model.noise_emb.weight"),
        (r"^net\.action_embedding\.", "inner_model.act_emb.0."),
        (r"^net\.condition\.", "inner_model.cond_proj."),
        *BLOCK,
    ),
    "reward_end": ((r"^action_embedding\.", "act_emb."), *BLOCK),
    "actor_critic": (
        (r"^encoder\.layers\.0\.", "encoder.encoder.0."),
        (r"^encoder\.layers\.(\d+)\.0\.", lambda m: f"encoder.encoder.{2 * int(m[1]) - 1}."),
        (r"\.norm\.", ".f.0.norm."),
        (r"(encoder\.\d+)\.conv\.", r"\1.f.2."),
        (r"\.skip\.", ".skip_projection."),
        (r"^lstm\.(\w+)_l0", r"lstm.\1"),
        (r"^(actor|critic)\.", r"\1_linear."),
    ),
}


def import_clone(path: Path) -> None:
    """Makes the modules of a clone importable: `agent`, `data`, `envs`, `models`, `utils`."""
    missing = [name for name in FILES if not (path / "src" / name).is_file()]
    if missing:
        raise UserError(f"{path} is not a clone of eloialonso/diamond: it has no src/{missing[0]}")
    for name in ABSENT:
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = MagicMock()
    torch.utils.data.Sampler.__init__ = lambda self, data_source=None: None  # newer torch takes no argument here
    sys.path.insert(0, str(path / "src"))


def build(config: Config, num_actions: int) -> Any:
    """Its agent, set up to train, with initial weights from torch's own generator."""
    from agent import Agent, AgentConfig
    from models.actor_critic import ActorCriticConfig
    from models.diffusion import DenoiserConfig, InnerModelConfig, SigmaDistributionConfig
    from models.rew_end_model import RewEndModelConfig

    from adamas.config import SIGMA_MIN

    n, c, r, a = config.network, config.denoiser, config.reward_end, config.actor_critic
    width, flat = n.condition_channels, [False] * len(c.depths)
    inner = InnerModelConfig(1, c.context, width, c.depths, c.channels, flat)
    coarsest = 2 ** (len(r.channels) - 1)
    size = (
        -(-SIZE // coarsest) * coarsest
    )  # it rounds the width of its LSTM down, which fails at 84: as if frames were padded
    agent = Agent(
        AgentConfig(
            DenoiserConfig(inner, 0.5, c.offset_noise),
            RewEndModelConfig(n.lstm_dim, 1, size, width // 2, r.depths, r.channels, [False] * len(r.depths)),
            ActorCriticConfig(n.lstm_dim, 1, SIZE, a.channels, [1] * len(a.channels)),
            num_actions,
        )
    )
    agent.denoiser.setup_training(SigmaDistributionConfig(c.P_mean, c.P_std, SIGMA_MIN, c.sigma_max))
    return agent


def pairs(part: str, ours: nn.Module, theirs: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """All tensors of a part of ours, each with its counterpart, in our order. AssertionError when one has none."""
    mine, others = _tensors(ours), _tensors(theirs)
    names = {name: _renamed(part, name, ours) for name in mine if name != "sigma_data"}
    assert sorted(names.values()) == sorted(others), set(names.values()) ^ set(others)
    return [(mine[name], others[other]) for name, other in names.items()]


@torch.no_grad()
def copy_weights(part: str, ours: nn.Module, theirs: nn.Module) -> None:
    for mine, other in pairs(part, ours, theirs):
        mine.copy_(other.reshape(mine.shape))


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict([*module.named_parameters(), *module.named_buffers()])


def _renamed(part: str, name: str, ours: Any) -> str:
    if part == "reward_end" and (match := re.match(r"encoder\.layers\.(\d+)\.", name)):
        name = _encoder_layer(int(match[1]), ours.config.depths) + name[match.end() :]
    for pattern, replacement in RENAMED[part]:
        name = re.sub(pattern, replacement, name)
    return name


def _encoder_layer(index: int, depths: list[int]) -> str:
    """What our encoder has in one row, theirs has in levels: a downsampling but for the first, and residual blocks."""
    for level, depth in enumerate([*depths, 2]):
        if 0 < level < len(depths):
            if index == 0:
                return f"encoder.downsamples.{level}.conv."
            index -= 1
        if index < depth:
            return f"encoder.blocks.{level}.resblocks.{index}."
        index -= depth
    raise ValueError("our encoder has more layers than theirs")


class Playback:
    """An env to the published loop: what was recorded comes, whatever is done."""

    def __init__(self, obs: Tensor, reward: Tensor, ended: Tensor) -> None:
        self.obs, self.reward, self.ended, self.num_envs = obs, reward, ended, len(obs)
        self.actions: list[Tensor] = []
        self.ends: list[Tensor] = []

    def reset(self, seed: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        return self.obs[:, 0], {}

    def step(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Tensor]]:
        t = len(self.actions)
        last = t == self.reward.shape[1] - 1
        end, cut = (self.ended & last).long(), (~self.ended & last).long()
        self.actions.append(action)
        self.ends.append(end)
        return self.obs[:, t + 1], self.reward[:, t], end, cut, {"final_observation": self.obs[:, t + 1]}


@contextmanager
def without_faults(round_too: bool = False) -> Iterator[None]:
    """The published denoiser does not floor what it has denoised; with `round_too` it rounds."""
    from models.diffusion import Denoiser

    def wrap(self: Any, x: Tensor, output: Tensor, cs: Any) -> Tensor:
        d = (cs.c_skip * x + cs.c_out * output.detach()).clamp(-1, 1)
        return d.add(1).mul(127.5).round().div(127.5).sub(1) if round_too else d

    with patch.object(Denoiser, "wrap_model_output", wrap):
        yield
