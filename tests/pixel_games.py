"""Small games of a square that moves, registered with Gymnasium as a user's own module would: env=pixel_games:Hwc-v0."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete

SIDE, STEP = 40, 3  # pixels


class Square(gymnasium.Env):
    """The square goes left and right, with a seeded push now and then; it is rewarded at the right edge and the game ends after
    `length` steps. `layout` is of the observation."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self, layout: str = "hw", length: int = 30, dtype: str = "uint8", render_mode: str | None = None
    ) -> None:
        self.layout, self.length, self.dtype, self.render_mode = layout, length, np.dtype(dtype), render_mode
        shape = {"hw": (SIDE, SIDE), "hwc": (SIDE, SIDE, 3), "hw1": (SIDE, SIDE, 1), "chw": (3, SIDE, SIDE)}[layout]
        self.observation_space = Box(0, 255 if dtype == "uint8" else 1, shape, self.dtype.type)
        self.action_space: Any = Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.place, self.steps = int(self.np_random.integers(SIDE)), 0
        return self.obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.steps += 1
        push = int(self.np_random.integers(-1, 2))
        self.place = int(np.clip(self.place + STEP * self.direction(action) + push, 0, SIDE - 1))
        return self.obs(), float(self.place == SIDE - 1), self.steps >= self.length, False, {}

    def direction(self, action: Any) -> int:
        return (0, -1, 1)[int(action)]

    def picture(self) -> np.ndarray:
        """uint8 (SIDE, SIDE, 3), each channel with a grey level of its own."""
        picture = np.zeros((SIDE, SIDE, 3), np.uint8)
        picture[10:20, max(0, self.place - 4) : self.place + 4] = (255, 120, 30)
        return picture

    def obs(self) -> Any:
        picture = self.picture()
        shown = {"hw": picture[..., 0], "hw1": picture[..., :1], "hwc": picture, "chw": np.moveaxis(picture, -1, 0)}[
            self.layout
        ]
        return shown if self.dtype == np.uint8 else (shown / 255).astype(self.dtype)


class Rendered(Square):
    """Numbers to observe, and pixels to look at."""

    metadata = {"render_modes": ["human", "rgb_array"]}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.observation_space = Box(-1, 1, (4,), np.float32)

    def obs(self) -> Any:
        return np.zeros(4, np.float32)

    def render(self) -> np.ndarray:
        assert self.render_mode == "rgb_array"
        return self.picture()


class Blind(Rendered):
    """Numbers alone."""

    metadata = {"render_modes": ["human"]}  # noqa: RUF012


class Two(Square):
    """Two choices a step: which way, and how far."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.action_space = MultiDiscrete([3, 2])

    def direction(self, action: Any) -> int:
        assert self.action_space.contains(action)
        return (0, -1, 1)[int(action[0])] * (1 + int(action[1]))


class Many(Square):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.action_space = MultiDiscrete([20, 20])


class Steered(Square):
    """As CarRacing: continuous if nobody says otherwise."""

    def __init__(self, continuous: bool = True, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        if continuous:
            self.action_space = Box(-1, 1, (1,), np.float32)


class Late(Square):
    """Its actions are 5, 6 and 7, and it tells their names and keys."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.action_space = Discrete(3, start=5)

    def direction(self, action: Any) -> int:
        assert self.action_space.contains(action)
        return (0, -1, 1)[int(action) - 5]

    def get_action_meanings(self) -> list[str]:
        return ["wait", "back", "move_right"]

    def get_keys_to_action(self) -> dict:
        return {(): 5, (ord("a"),): 6, ("d",): 7}


class Unlucky(Square):
    """One game is long, and then none."""

    games = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        self.games += 1
        self.length = 5 if self.games > 1 else 60
        return super().reset(seed=seed)


class Unseeded(Square):
    """Takes a seed and does not use it."""

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        return super().reset(seed=None)


class Wrong(Square):
    """Fails in the third step."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        if self.steps == 2:
            raise ZeroDivisionError("this game is wrong")
        return super().step(action)


class Unfinished(Square):
    def __init__(self, **kwargs: Any) -> None:
        raise KeyError("no such level")


for layout in ("hw", "hw1", "hwc", "chw"):
    gymnasium.register(f"{layout.title()}-v0", entry_point=Square, kwargs={"layout": layout})
for made in (Rendered, Blind, Two, Many, Steered, Late, Unlucky, Unseeded, Wrong, Unfinished):
    gymnasium.register(f"{made.__name__}-v0", entry_point=made)
gymnasium.register("Limited-v0", entry_point=Square, max_episode_steps=12)
