"""Atari as a Gymnasium env whose state can be saved. The only file of the package that imports ale_py.

A step is bit-identical to one of ale-py's `AtariVectorEnv` (greyscale, max over the last two emulator frames, INTER_AREA
to 84x84), apart from the frame at an early end: when the game is over within the frame skip, or the step cap is reached,
the vector env shows the frame of the step before once more. Here it is the freshest one.
"""

from __future__ import annotations

import difflib
import functools
from pathlib import Path
from typing import Any, ClassVar

import ale_py
import cv2
import gymnasium
import numpy as np
import torch
from ale_py import roms
from ale_py.vector_env import AtariVectorEnv
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.spaces import Box, Discrete

from adamas.config import SIZE, Atari
from adamas.config.hints import game_name
from adamas.utils.errors import UserError

ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # neither banner nor log lines, in the whole process

FRAME_SKIP = 4  # emulator frames an agent step
NOOP_MAX = 30  # most no-op emulator frames after a reset; the least is 1

# Where an episode stands, and so what reset() has to do.
RUNNING, LIFE_LOST, OVER = "running", "life lost", "over"


@functools.cache
def _rom_ids() -> dict[str, str]:
    """{"MsPacman": "ms_pacman", ...}: ale-py registers as ALE/*-v5 what one player can play."""
    specs = [spec for spec in gymnasium.registry.values() if spec.namespace == "ALE" and spec.version == 5]
    return {spec.name: spec.kwargs["game"] for spec in sorted(specs, key=lambda spec: spec.name)}


def game_names() -> list[str]:
    """Every single-player game that ale-py ships, as ale-py spells it: "Breakout", "MsPacman", ..."""
    return list(_rom_ids())


def check_game(name: str) -> None:
    """Raises UserError with a hint unless `name` is one of `game_names()`."""
    if name in _rom_ids():
        return
    plain = {_plain(known): known for known in game_names()}
    near = difflib.get_close_matches(_plain(game_name(name)), plain, n=1)
    hint = (
        f"did you mean {plain[near[0]]}?"
        if near
        else f"{len(plain)} games are known, such as Breakout, MsPacman and Pong"
    )
    raise UserError(f"unknown game '{name}': {hint}")


def action_meanings(game: str) -> tuple[str, ...]:
    """What the actions 0, 1, ... of a game do: ("NOOP", "FIRE", "RIGHT", "LEFT") for Breakout."""
    return Emulator(game, repeat_action_probability=0.0).action_meanings


def _plain(name: str) -> str:
    """The letters and digits alone: "ms_pacman", "Ms Pacman" and "MsPacman" are one name."""
    return "".join(filter(str.isalnum, name.lower()))


@functools.cache
def _action_set(rom: Path) -> tuple[ale_py.Action, ...]:
    """The actions that mean something in a game; it takes a load of its ROM to know them."""
    ale = ale_py.ALEInterface()
    ale.loadROM(rom)
    return tuple(ale.getMinimalActionSet())


class Emulator:
    """One emulator and the game in it, which is a pure function of (seed, no-ops, actions so far).

    That holds because every game reloads its ROM (about 0.09 s): only then does the emulator take the seed of its sticky
    actions, and only then is nothing left of the game before (after `reset_game()` alone 17 of the 104 games differ).
    """

    def __init__(self, game: str, repeat_action_probability: float) -> None:
        check_game(game)
        self._rom = roms.get_rom_path(_rom_ids()[game])
        self._ale = ale_py.ALEInterface()
        self._ale.setFloat("repeat_action_probability", repeat_action_probability)
        self._action_set = _action_set(self._rom)
        self.action_meanings = tuple(action.name for action in self._action_set)
        self._loaded = False

    def start(self, seed: int, noops: int) -> None:
        """Starts a new game and waits for `noops` emulator frames."""
        self.seed, self.noops, self.actions = seed, noops, bytearray()
        self._ale.setInt("random_seed", seed)
        self._ale.loadROM(self._rom)
        self._loaded = True
        self._ale.reset_game()
        for _ in range(noops):
            self._ale.act(ale_py.Action.NOOP)
            if self._ale.game_over():
                self._ale.reset_game()
        self._screen = self._ale.getScreenGrayscale()

    def play(self, action: int) -> int:
        """Holds `action` for FRAME_SKIP emulator frames, fewer if the game ends. Returns the sum of the rewards."""
        self.actions.append(action)
        reward, screen = 0, None
        for frames_left in reversed(range(FRAME_SKIP)):
            reward += self._ale.act(self._action_set[action])
            if self.over:  # the freshest frame, alone: the one before may be of the last step
                screen = self._ale.getScreenGrayscale()
                break
            if frames_left < 2:  # sprites that flicker are drawn in every other frame
                fresh = self._ale.getScreenGrayscale()
                screen = fresh if screen is None else np.maximum(screen, fresh)
        self._screen = screen
        return reward

    def _load(self) -> None:
        """Before any game was started there is one all the same, as without a ROM ale-py crashes."""
        if not self._loaded:
            self.start(seed=0, noops=0)

    @property
    def over(self) -> bool:
        return self._ale.game_over()

    @property
    def lives(self) -> int:
        return self._ale.lives()

    def obs(self) -> np.ndarray:
        """The newest frame, uint8 (84, 84)."""
        return cv2.resize(self._screen, (SIZE, SIZE), interpolation=cv2.INTER_AREA)

    def screen(self) -> np.ndarray:
        """What a player sees now, uint8 (height, width, 3); sprites that flicker may be away."""
        self._load()
        return self._ale.getScreenRGB()

    def state_dict(self) -> dict[str, Any]:
        self._load()
        actions, ram = torch.tensor(list(self.actions), dtype=torch.uint8), torch.from_numpy(self._ale.getRAM())
        return {"seed": self.seed, "noops": self.noops, "actions": actions, "ram": ram}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Plays the saved game again: ale-py's own snapshots are wrong on some games (Qbert)."""
        self.start(state["seed"], state["noops"])
        for action in state["actions"].tolist():
            self.play(action)
        if not np.array_equal(self._ale.getRAM(), state["ram"].numpy()):
            raise UserError("the saved game plays differently here: resume with the version of ale-py that saved it")


class AtariEnv(gymnasium.Env):
    """One Atari game at 84x84 grey, FRAME_SKIP emulator frames a step, rewards unclipped.

    With `episodic_life` a lost life ends the episode (`terminated`) and the `reset()` after it goes on with the same game,
    from the frame that is on the screen. The step in which a life is lost is a whole one, so that the game runs alike in
    training and at test. Unlike with the vector env's `life_loss_info`, the last but one life counts too in the games that
    report 0 lives while their last life goes on. Game over always ends the episode, and so does (`truncated`) step number
    `max_episode_steps` of the game.

    Every game has its own seed and number of no-op frames (1..NOOP_MAX), drawn from `np_random`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 15}

    def __init__(self, game: str, config: Atari, *, episodic_life: bool, render_mode: str | None = None) -> None:
        self.game, self.config, self.episodic_life, self.render_mode = game, config, episodic_life, render_mode
        self._emulator = Emulator(game, config.repeat_action_probability)
        self._phase = OVER
        self.action_meanings = self._emulator.action_meanings
        self.action_space = Discrete(len(self.action_meanings))
        self.observation_space = Box(0, 255, (SIZE, SIZE), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Goes on after a lost life, and starts a new game otherwise, or when there is a seed. `options` are not used.

        Returns:
            obs: uint8 (84, 84).
            info: {"lives": int}.
        """
        super().reset(seed=seed)
        if seed is not None or self._phase != LIFE_LOST:
            game_seed = int(self.np_random.integers(2**31))
            self._emulator.start(game_seed, noops=int(self.np_random.integers(1, NOOP_MAX + 1)))
        self._phase = RUNNING
        return self._emulator.obs(), {"lives": self._emulator.lives}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One agent step.

        Returns:
            obs: uint8 (84, 84).
            reward: unclipped sum over the emulator frames.
            terminated: game over, or a life lost if `episodic_life`.
            truncated: the game has reached its step cap. Both may be true; either way reset() starts a new game then.
            info: {"lives": int, "game_over": bool}.
        """
        self._check(action)
        lives_before = self._emulator.lives
        reward = self._emulator.play(int(action))
        lives, over = self._emulator.lives, self._emulator.over
        life_lost = self.episodic_life and lives < lives_before
        truncated = not over and len(self._emulator.actions) >= self.config.max_episode_steps
        self._phase = OVER if over or truncated else LIFE_LOST if life_lost else RUNNING
        return self._emulator.obs(), float(reward), over or life_lost, truncated, {"lives": lives, "game_over": over}

    def render(self) -> np.ndarray | None:
        """The screen in colour, uint8 (210, 160, 3) in most games, if `render_mode` is rgb_array."""
        return self._emulator.screen() if self.render_mode else None

    def _check(self, action: int) -> None:
        if self._phase != RUNNING:
            raise ResetNeeded("the episode has not started or has ended: call reset() before step()")
        if not self.action_space.contains(action):
            raise InvalidAction(
                f"action {action} is not in 0..{self.action_space.n - 1}: {', '.join(self.action_meanings)}"
            )

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors from which `load_state_dict` of another env goes on exactly as this one does."""
        return {
            **self._identity(),
            "phase": self._phase,
            "emulator": self._emulator.state_dict(),
            "np_random": self.np_random.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Plays the game of `state` again up to where it was saved: about 0.4 s for 1,000 steps."""
        for name, ours in self._identity().items():
            if state[name] != ours:
                raise UserError(f"the saved game has {name}={state[name]}, this run {name}={ours}: make them the same")
        self._emulator.load_state_dict(state["emulator"])
        self._phase = state["phase"]
        self.np_random.bit_generator.state = state["np_random"]

    def _identity(self) -> dict[str, Any]:
        """What must not change between saving and loading: the same actions would lead elsewhere."""
        config = self.config
        return {
            "game": self.game,
            "frame_skip": FRAME_SKIP,
            "repeat_action_probability": config.repeat_action_probability,
        }


def make_vector_env(game: str, num_envs: int, config: Atari) -> AtariVectorEnv:
    """Full games side by side for evaluation, rewards unclipped; obs uint8 (num_envs, 1, 84, 84).

    An env that ends is reset by its next step, whose action and reward (0) mean nothing.
    """
    check_game(game)
    return AtariVectorEnv(
        _rom_ids()[game],
        num_envs,
        max_num_frames_per_episode=config.max_episode_steps * FRAME_SKIP,
        repeat_action_probability=config.repeat_action_probability,
        stack_num=1,
        frameskip=FRAME_SKIP,
        noop_max=NOOP_MAX + 1,  # it draws from 0..noop_max-1, and cannot leave out 0
        reward_clipping=False,
        use_fire_reset=False,
    )
