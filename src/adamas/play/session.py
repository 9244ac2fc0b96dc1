"""One game of one person: commands in, states out. No sockets, no threads, no clock."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adamas.envs.keys import KEYS
from adamas.play import recording_files
from adamas.play.commands import check_command
from adamas.play.dataset_viewer import DatasetViewer
from adamas.play.history import History
from adamas.play.initial_states import InitialStates
from adamas.play.keys import action_of
from adamas.play.real_env import RealEnv
from adamas.play.recorder import RecordedFrame, Recorder
from adamas.play.settings import Options, Settings, can_churn, change
from adamas.play.step import PlayState, first_state, next_state, sample_action
from adamas.training.load_run import OpenedRun
from adamas.utils.console import warn
from adamas.utils.errors import UserError, one_line

MOST_RECORDED = 10_000  # steps, after which a recording is saved by itself
PLAYERS = ("human", "agent")


def first_settings(agent: OpenedRun, options: Options) -> Settings:
    """The sampler of the run, so that the page shows what the policy was trained in."""
    sampler = agent.config.sampler
    return Settings(
        denoising_steps=min(sampler.steps, 10),
        s_churn=min(sampler.s_churn, 5.0) if can_churn(sampler) else 0.0,
        initial_noise=sampler.initial_noise,
        fps=options.fps,
        seed=options.seed,
    )


class Session:
    """The state of play, and the commands that change it."""

    def __init__(self, agent: OpenedRun, settings: Settings) -> None:
        self.agent = agent
        self.settings = self._checked(settings)
        self.real_env = RealEnv(agent.config)
        self.initial_states = InitialStates(agent, self.real_env)
        self.datasets = DatasetViewer(agent)
        self.player, self.paused = "human", False
        self.recorder: Recorder | None = None
        self.saved: Path | None = None  # the recording that was saved last
        self._held: list[str] = []
        self._tapped: list[str] = []  # pressed since the last step, even if released before it
        self._newest_keys = self.keys_number = 0  # number of the newest keys, and of the newest that a step has used
        self._ticks_ended = 0  # since the end of the agent's episode
        self._number = settings.seed  # of the initial state
        self.history = History(first_state(agent.models, self.initial_states.get(settings.initial_state, self._number)))

    @property
    def state(self) -> PlayState:
        return self.history.now

    @property
    def ended(self) -> str | None:
        """Why there is no next step: "terminated" or "horizon"."""
        if self.state.terminated and self.settings.stop_at_end:
            return "terminated"
        return "horizon" if self.state.step >= self.settings.horizon else None

    def tick(self) -> bool:
        """One step, unless the game waits. Returns whether anything changed.

        The agent starts another episode one second after the end of its last one.
        """
        if self.paused or (self.ended and self.player == "human"):
            return False
        self._ticks_ended = self._ticks_ended + 1 if self.ended else 0
        if self._ticks_ended >= self.settings.fps:
            self._do_new_episode()
        elif not self.ended:
            self._step()
        return self._ticks_ended == 0

    def do(self, message: dict[str, Any]) -> None:
        """Carries out a command of `adamas.play.commands`.

        Raises:
            UserError: it is none, or cannot be carried out; then nothing has changed.
        """
        name, arguments = check_command(message)
        command: Callable[..., None] = getattr(self, f"_do_{name}")
        command(**arguments)

    def release_keys(self) -> None:
        self._held, self._tapped = [], []

    def close(self) -> None:
        """Saves what is being recorded: all of it if the game was rewound to before its start."""
        if self.recorder and self.recorder.steps:
            episodes = self.recorder.until(self.state) or self.recorder.episodes
            self.saved = _save_somewhere(episodes, self.datasets.recordings)
        self.recorder = None

    @property
    def key_waits(self) -> bool:
        """Whether a key was pressed that no step has used yet."""
        return bool(self._tapped)

    def _do_keys(self, held: list[str], number: int) -> None:
        if not all(key in KEYS for key in held):
            raise UserError(f"keys: held must be a list of some of {', '.join(KEYS)}")
        self._tapped += [key for key in held if key not in self._held + self._tapped]
        self._held, self._newest_keys = held, number

    def _do_player(self, player: str) -> None:
        if player not in PLAYERS:
            raise UserError(f"player={player[:40]} is not one of {', '.join(PLAYERS)}")
        self.player, self._tapped = player, []

    def _do_pause(self, paused: bool) -> None:
        self.paused = paused

    def _do_step(self) -> None:
        """One step, and then a pause."""
        self.paused = True
        if not self.ended:
            self._step()

    def _do_rewind(self, steps: int) -> None:
        """Pauses, too."""
        self.paused = True
        self.history.rewind(steps)

    def _do_go_to(self, position: int) -> None:
        """Pauses, too."""
        self._do_rewind(self.history.past - position)

    def _do_restart(self) -> None:
        """The same initial state again."""
        self._begin(self.history.first)

    def _do_new_episode(self) -> None:
        """The next initial state."""
        state = first_state(self.agent.models, self.initial_states.get(self.settings.initial_state, self._number + 1))
        self._number += 1
        self._begin(state)

    def _do_set(self, name: str, value: Any) -> None:
        settings = self._checked(change(self.settings, name, value))
        if settings.initial_state != self.settings.initial_state:
            self._begin(first_state(self.agent.models, self.initial_states.get(settings.initial_state, self._number)))
        self.settings = settings

    def _do_record(self, on: bool) -> None:
        if on and not self.recorder:
            self.recorder = Recorder()
        if not on and self.recorder:
            episodes = self.recorder.until(self.state)
            if self.recorder.steps and not episodes:
                raise UserError(
                    "nothing is left to save before the recording's start: go forward or play on, then stop"
                )
            if episodes:
                self.saved = recording_files.save(episodes, self.datasets.recordings)
            self.recorder = None

    def _checked(self, settings: Settings) -> Settings:
        """Raises UserError for what this agent cannot do."""
        if settings.s_churn > 0 and not can_churn(self.agent.config.sampler):
            method = self.agent.config.sampler.method
            raise UserError(f"s_churn={settings.s_churn} works with Euler steps only, and this run has {method}")
        return settings

    def _step(self) -> None:
        before = self.state
        action = sample_action(self.settings, before) if self.player == "agent" else self._action_of_keys()
        real = self.real_env.step(before.real, action) if before.real else None
        self.history.append(next_state(self.agent.models, self.settings, before, action, real))
        if self.recorder:
            self.recorder.add(before, self.state)
            if self.recorder.steps >= MOST_RECORDED:
                self._do_record(on=False)

    def _action_of_keys(self) -> int:
        """The action of the keys that are held, or were since the last step."""
        keys = [*self._held, *(key for key in self._tapped if key not in self._held)]
        self._tapped, self.keys_number = [], self._newest_keys
        return action_of(keys, self.agent.models.action_meanings)

    def _begin(self, state: PlayState) -> None:
        """Starts an episode."""
        if self.recorder:
            self.recorder.end_episode(self.state)
        self.history, self._ticks_ended, self._tapped = History(state), 0, []


def _save_somewhere(episodes: list[list[RecordedFrame]], folder: Path) -> Path:
    """Saves in a new temporary folder if nothing can be written to `folder`. UserError if not even there."""
    try:
        return recording_files.save(episodes, folder)
    except UserError as error:
        reason = one_line(error.__cause__ or error)
    try:
        path = recording_files.save(episodes, Path(tempfile.mkdtemp(prefix="adamas-recording-")))
    except (UserError, OSError) as error:
        raise UserError(f"the recording is lost, there is no folder to write it to: {reason}") from error
    warn(f"{reason}; the recording is saved as {path} instead")
    return path
