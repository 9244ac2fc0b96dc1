"""The networks of a run, built from a config: what plays, dreams and is measured; and weights taken over from another run."""

from __future__ import annotations

from contextlib import AbstractContextManager
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from adamas.agent.actor_critic import ActorCritic
from adamas.agent.policy import Policy
from adamas.agent.q_network import QNetwork
from adamas.config import MEANING, Config
from adamas.training.compiling import compiles
from adamas.utils.console import say
from adamas.utils.device import set_tf32, use_bfloat16
from adamas.utils.errors import UserError
from adamas.world_model.denoiser import TARGET_CHANGE_SCALE, Denoiser
from adamas.world_model.reward_end import RewardEnd
from adamas.world_model.world_model import WorldModel

FORMAT: Any = {"memory_format": torch.channels_last}  # which torch's stubs of `to` do not know beside a device
SHAPES = 64  # that one network may be compiled for, in training, imagination and evaluation
Q_INPUT = "changes"  # what the weights of a Q-network read
UNKNOWN_INPUT = "which this version does not have"
ACTION_WISE = tuple(  # tensors with one row an action
    f"{name}.{tensor}" for name in ("action_embedding", "actor", "advantage") for tensor in ("weight", "bias")
)


class Models:
    """Denoiser, reward/end model, and actor-critic or Q-network.

    `world` is what imagination uses and `policy` what plays the game: averaged weights, where the config asks for some.
    """

    def __init__(self, config: Config, action_meanings: tuple[str, ...], device: torch.device) -> None:
        n, network = len(action_meanings), config.network
        self.config, self.action_meanings, self.device = config, action_meanings, device
        self.denoiser = Denoiser(config.denoiser, network, n).to(device, **FORMAT)
        self.reward_end = RewardEnd(config.reward_end, network, n).to(device, **FORMAT)
        if config.policy_part == "actor_critic":
            self.actor_critic = ActorCritic(config.actor_critic, network, n).to(device, **FORMAT)
        else:
            self.q_network = QNetwork(network, n).to(device, **FORMAT)
        averaged = [part for part in config.parts if part != "reward_end"]
        decays = {name: getattr(config, name).ema_decay for name in averaged}
        self._decays = {name: decay for name, decay in decays.items() if decay > 0}
        self.averages = {name: _average(getattr(self, name)) for name in self._decays}
        self.world = WorldModel(self._best("denoiser"), self.reward_end, config.sampler)
        self.policy: Policy = self._best(config.policy_part)
        self._bfloat16 = use_bfloat16(config.precision, device)
        set_tf32(config.precision)

    def autocast(self) -> AbstractContextManager:
        """Convolutions and matrix products inside run at the precision of the config."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16)

    def update_average(self, name: str) -> None:
        """Lets the averaged weights of a part follow its own, where there are some."""
        if name in self.averages:
            _follow(self.averages[name], getattr(self, name), self._decays[name])

    def compile(self) -> None:
        """Fuses what lies between the convolutions, once for each shape that is met. Recurrent parts stay as they are, and a
        Q-network, which has next to nothing between them."""
        torch._dynamo.config.recompile_limit = SHAPES
        denoisers = (self.denoiser, self.world.denoiser)
        policies: Any = (self.actor_critic, self.policy) if self.config.policy == "imagined" else ()
        for net in (*(d.net for d in denoisers), self.reward_end.encoder, *(p.encoder for p in policies)):
            net.compile(dynamic=False)

    def _best(self, name: str) -> Any:
        return self.averages[name].module if name in self.averages else getattr(self, name)

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {name: getattr(self, name).state_dict() for name in self.config.parts}
        state["averages"] = {name: average.state_dict() for name, average in self.averages.items()}
        return {**state, "action_meanings": list(self.action_meanings), "meaning": _meaning(self.config)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "q_network" in self.config.parts and _q_input(state) != Q_INPUT:
            raise UserError(f"the q_network of the checkpoint reads {_q_input(state)}, {UNKNOWN_INPUT}: train it anew")
        for name in self.config.parts:
            getattr(self, name).load_state_dict(state[name])
        for name, average in self.averages.items():
            average.load_state_dict(state["averages"][name])

    def initialize(self, state: dict[str, Any], parts: list[str], source: str) -> None:
        """Takes the weights of `parts` from another run's models, also one of a game with other actions.

        What belongs to an action goes to the action of the same meaning; actions that are new here start afresh, and a line
        names them.
        """
        parts = [part for part in parts if part in self.config.parts]
        if not parts:
            raise UserError(f"initialize.parts: none of them is in this run, which has {', '.join(self.config.parts)}")
        if "q_network" in parts and "q_network" in state and _q_input(state) != Q_INPUT:
            raise UserError(
                f"initialize.from={source}: its q_network reads {_q_input(state)}, {UNKNOWN_INPUT}; "
                "leave q_network out of initialize.parts"
            )
        ours = _meaning(self.config)
        known = _former_meaning(self.config) | ours
        theirs = state.get("meaning") or {"denoiser.target": state["target"]}  # all that checkpoints told at first
        sections = {*parts} | ({"network"} if {*parts} != {"q_network"} else set())  # which that one does not read
        for setting, value in theirs.items():
            if setting.partition(".")[0] in sections and value != known.get(setting, value):
                mend = f"set {setting}={value}" if setting in ours else "this version has no such networks"
                raise UserError(f"initialize.from={source}: its {setting} is {value}; {mend}")
        if missing := " and no ".join(name for name in parts if name not in state):
            raise UserError(f"initialize.from={source}: it has no {missing}: leave that out of initialize.parts")
        for name in parts:
            weights = best_weights(state, name)
            module = getattr(self, name)
            fitted = {k: self._fit_actions(k, v, module, state["action_meanings"]) for k, v in weights.items()}
            try:
                module.load_state_dict(fitted)
            except RuntimeError as error:
                raise UserError(
                    f"initialize.from={source}: its {name} has other sizes than this run's; "
                    f"use that run's network.* and {name}.* settings or leave {name} out of initialize.parts"
                ) from error
        for name, average in self.averages.items():
            average.module.load_state_dict(getattr(self, name).state_dict())
        meanings = self.action_meanings
        if new := [meaning for meaning in meanings if meaning not in state["action_meanings"]]:
            count = len(meanings) - len(new)
            say(
                f"initialize.from={source}: {count} of {len(meanings)} actions are known there; new here: {', '.join(new)}"
            )

    def _fit_actions(self, key: str, theirs: Tensor, module: nn.Module, their_meanings: list[str]) -> Tensor:
        if not key.endswith(ACTION_WISE):
            return theirs
        mine = module.state_dict()[key].clone()
        for row, meaning in enumerate(self.action_meanings):
            if meaning in their_meanings and theirs.shape[1:] == mine.shape[1:]:
                mine[row] = theirs[their_meanings.index(meaning)]
        return mine


def training_models(config: Config, action_meanings: tuple[str, ...], device: torch.device) -> Models:
    """The networks of a run that is trained: compiled where the config asks for it."""
    models = Models(config, action_meanings, device)
    if compiles(config, device):
        models.compile()
    return models


def _meaning(config: Config) -> dict[str, str | float]:
    meaning: dict[str, str | float] = {setting: attrgetter(setting)(config) for setting in MEANING}
    return meaning | ({"q_network.input": Q_INPUT} if "q_network" in config.parts else {})


def _q_input(state: dict[str, Any]) -> Any:
    """What the weights of a Q-network read. At first checkpoints did not say: it was frames."""
    return state.get("meaning", {}).get("q_network.input", "frames")


def _former_meaning(config: Config) -> dict[str, str | float]:
    """Settings that older checkpoints tell, with what they must be for weights to mean what they mean now."""
    return {
        "denoiser.objective": "edm",
        "denoiser.change_scale": TARGET_CHANGE_SCALE,
        "denoiser.input": "changes" if config.denoiser.target == "change" else "frames",
        "reward_end.input": "changes" if config.network.architecture == "adamas" else "frames",
    }


def _average(module: nn.Module) -> AveragedModel:
    """A copy of the weights that follows them. It requires gradients though nothing learns it: autocast keeps the bfloat16
    copy of such weights alone, and would else cast them again at each step of a rollout, as compiled code does all the same."""
    average = AveragedModel(module)
    for lstm in average.modules():
        if isinstance(lstm, nn.LSTM):
            lstm.flatten_parameters()  # a copy on a GPU is in pieces, which each step would join
    return average


@torch.no_grad()
def _follow(average: AveragedModel, module: nn.Module, decay: float) -> None:
    """Moves an exponential moving average on, in one launch and without a wait.

    Its decay rises to `decay`, as (1 + n) / (10 + n) after n updates: the random weights of the start are soon forgotten.
    """
    n = int(average.n_averaged)  # on the CPU
    averages, weights = ([*m.parameters(), *m.buffers()] for m in (average.module, module))
    torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + n) / (10 + n)) if n else 1.0)
    average.n_averaged += 1


def best_weights(state: dict[str, Any], name: str) -> dict[str, Tensor]:
    """The averaged weights of a part where there are some, else its own."""
    if name in state["averages"]:
        prefix = "module."
        return {k.removeprefix(prefix): v for k, v in state["averages"][name].items() if k.startswith(prefix)}
    return state[name]
