"""What a run draws after its weights were made comes from one of three generators; emulators have seeds of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass
class Generators:
    """Their states are part of a checkpoint."""

    act: torch.Generator  # CPU: actions in the real game
    data: torch.Generator  # CPU: which steps are learned from, and how they are shifted
    noise: torch.Generator  # on the models' device: diffusion, imagination, and which imagined steps are learned from

    @classmethod
    def seeded(cls, seed: int, device: torch.device) -> Generators:
        on = (torch.device("cpu"), torch.device("cpu"), device)
        return cls(*(torch.Generator(each).manual_seed(3 * seed + i) for i, each in enumerate(on)))

    def reseed(self, *key: int) -> None:
        """New streams that depend on the key alone: of one seed, one rank and one update, for instance."""
        for generator, seed in zip(vars(self).values(), np.random.SeedSequence(key).generate_state(3), strict=True):
            generator.manual_seed(int(seed))

    def state_dict(self) -> dict[str, Tensor]:
        return {name: generator.get_state() for name, generator in vars(self).items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, generator in vars(self).items():
            if state[name].shape == generator.get_state().shape:
                generator.set_state(state[name])
            elif name != "noise":
                raise ValueError(f"the state of {name} is none of a CPU")
            else:  # saved on another kind of chip, whose stream cannot go on here: a new one
                generator.manual_seed(int(state["data"].sum()))
