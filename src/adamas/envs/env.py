"""What a run needs of the env that it plays, whatever makes its frames."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from gymnasium.spaces import Discrete


class PixelEnv(Protocol):
    """One game at 84x84 grey. A step is an agent step, and rewards are unclipped.

    An episode may be less than a game: with Atari's `episodic_life` a lost life ends one, and `reset()` goes on with the game.
    """

    action_meanings: tuple[str, ...]
    action_space: Discrete

    @property
    def deterministic(self) -> bool:
        """Whether a game is a function of its seed and its actions."""
        ...

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """The first frame of an episode, uint8 (84, 84). With a seed it is of a new game."""
        ...

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """obs uint8 (84, 84), reward, terminated, truncated, and info with `game_over`: the game has come to its end."""
        ...

    def render(self) -> np.ndarray | None:
        """What a player sees, uint8 (height, width, 3), if `render_mode` is rgb_array."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors, for `load_state_dict` of another env."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Whether the env is where the saved one was, and goes on exactly as that one does; if not, `reset()` comes next."""
        ...

    def close(self) -> None:
        """Lets go of windows and processes."""
        ...
