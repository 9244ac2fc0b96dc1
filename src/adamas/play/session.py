"""What happens while somebody plays: commands in, moments out. No sockets, no threads, no clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from adamas.play import recorder
from adamas.play.dataset_viewer import Library
from adamas.play.initial_states import Starts
from adamas.play.keys import KEYS, action_of
from adamas.play.load import Agent
from adamas.play.real_env import Reality
from adamas.play.recorder import Recorder
from adamas.play.settings import Options, Settings, change
from adamas.play.step import Moment, advance, begin, choose
from adamas.utils.errors import UserError

HISTORY = 400  # moments one can go back
MOST_RECORDED = 10_000  # steps, after which a recording is saved by itself
PLAYERS = ("you", "agent")
COMMANDS: dict[str, dict[str, type]] = {  # the arguments of each, and their types
    "keys": {"held": list, "number": int},  # the number comes back with the first frame that the keys acted on
    "who": {"who": str},
    "pause": {"paused": bool},
    "step": {},
    "rewind": {"steps": int},
    "reset": {},
    "start": {},
    "set": {"name": str, "value": object},
    "record": {"on": bool},
}


def first_settings(agent: Agent, options: Options) -> Settings:
    """Those of the run where it has some, so that the page shows what training dreams."""
    sampler = agent.config.sampler
    steps, churn, noise = min(sampler.steps, 10), min(sampler.s_churn, 5.0), sampler.initial_noise
    return Settings(steps=steps, churn=churn, noise=noise, fps=options.fps, seed=options.seed)


class Session:
    """One game of one person with one agent.

    Rewinding moves `_at` in the history; what lies ahead of it can be gone to again until the next step replaces it.
    """

    def __init__(self, agent: Agent, settings: Settings) -> None:
        self.agent = agent
        self.settings = self._checked(settings)
        self.reality = Reality(agent.config.env, agent.config.atari)
        self.starts = Starts(agent, self.reality)
        self.library = Library(agent)
        self.who, self.paused = "you", False
        self.recorder: Recorder | None = None
        self.saved: Path | None = None  # the recording that was saved last
        self._held: list[str] = []
        self._tapped: list[str] = []  # since the last step
        self._key_number = self.key_number = 0  # of the newest keys, and of the newest that a step has answered
        self._rest = 0  # ticks since the agent's dream was over
        self._number = settings.seed  # of the start
        self._open(begin(agent, self.starts.start(settings.start, self._number)))

    @property
    def moment(self) -> Moment:
        return self._history[self._at]

    @property
    def past(self) -> int:
        """Moments that one can go back."""
        return self._at

    @property
    def ahead(self) -> int:
        """Moments that one has come back from."""
        return len(self._history) - 1 - self._at

    @property
    def over(self) -> str | None:
        """Why there is no next step: "end" or "horizon"."""
        if self.moment.terminated and self.settings.stop:
            return "end"
        return "horizon" if self.moment.step >= self.settings.horizon else None

    def tick(self) -> bool:
        """One step, if the dream goes on by itself. Returns whether anything happened.

        A second after its dream is over the agent goes on with another start.
        """
        if self.paused or (self.over and self.who == "you"):
            return False
        self._rest = self._rest + 1 if self.over else 0
        if self._rest >= self.settings.fps:
            self._do_start()
        elif not self.over:
            self._step()
        return self._rest == 0

    def do(self, message: dict[str, Any]) -> None:
        """Carries out a command such as {"do": "rewind", "steps": 10}.

        Raises:
            UserError: it is none, or cannot be carried out; then nothing has changed.
        """
        arguments = {name: value for name, value in message.items() if name != "do"}
        name = message.get("do")
        if not isinstance(name, str) or name not in COMMANDS:
            raise UserError(f"unknown command {str(name)[:40]}: commands: {', '.join(COMMANDS)}")
        wanted = COMMANDS[name]
        if arguments.keys() != wanted.keys():
            raise UserError(f"{name} needs {', '.join(wanted) or 'no arguments'}")
        for key, kind in wanted.items():
            if kind is not object and type(arguments[key]) is not kind:
                raise UserError(f"{name}: {key} must be a {kind.__name__}")
        command: Callable[..., None] = getattr(self, f"_do_{name}")
        command(**arguments)

    def release(self) -> None:
        """Lets go of all keys."""
        self._held, self._tapped = [], []

    def close(self) -> None:
        """Saves what is being recorded."""
        if self.recorder:
            self._do_record(on=False)

    def _do_keys(self, held: list[str], number: int) -> None:
        if not all(key in KEYS for key in held):
            raise UserError(f"keys: held must be a list of some of {', '.join(KEYS)}")
        self._tapped += [
            key for key in held if key not in self._held + self._tapped
        ]  # even if let go of before the step
        self._held, self._key_number = held, number

    def _do_who(self, who: str) -> None:
        if who not in PLAYERS:
            raise UserError(f"who={who[:40]} is not one of {', '.join(PLAYERS)}")
        self.who = who

    def _do_pause(self, paused: bool) -> None:
        self.paused = paused

    def _do_step(self) -> None:
        """One step, and then a pause."""
        self.paused = True
        if not self.over:
            self._step()

    def _do_rewind(self, steps: int) -> None:
        """Goes back, or forward again if `steps` is negative, as far as there is something; then a pause."""
        self.paused = True
        self._at = min(max(self._at - steps, 0), len(self._history) - 1)

    def _do_reset(self) -> None:
        """Back to the first moment of this start."""
        self._open(self._first)

    def _do_start(self) -> None:
        """Another start."""
        self._start(self._number + 1)

    def _do_set(self, name: str, value: Any) -> None:
        settings = self._checked(change(self.settings, name, value))
        if name == "start" and value != self.settings.start:
            moment = begin(self.agent, self.starts.start(settings.start, self._number))
            self.settings = settings
            self._open(moment)
        self.settings = settings

    def _do_record(self, on: bool) -> None:
        if on and not self.recorder:
            self.recorder = Recorder()
        if not on and self.recorder:
            self.recorder.up_to(self.moment)
            if self.recorder.steps:
                self.saved = recorder.save(self.recorder.episodes, self.library.recordings)
            self.recorder = None

    def _checked(self, settings: Settings) -> Settings:
        """Raises UserError for what this agent cannot do."""
        objective = self.agent.config.denoiser.objective
        if (settings.noise == "previous_frame") != (objective == "previous_frame"):
            raise UserError(f"noise={settings.noise} does not go with this model's denoiser.objective={objective}")
        return settings

    def _step(self) -> None:
        before = self.moment
        action = choose(self.settings, before) if self.who == "agent" else self._pressed()
        real = self.reality.step(before.real, action) if before.real else None
        after = advance(self.agent, self.settings, before, action, real)
        self._history = [*self._history[: self._at + 1], after][-HISTORY - 1 :]
        self._at = len(self._history) - 1
        if self.recorder:
            self.recorder.add(before, after)
            if self.recorder.steps >= MOST_RECORDED:
                self._do_record(on=False)

    def _pressed(self) -> int:
        """The action of the keys that are held, or were since the last step."""
        keys = [*self._held, *(key for key in self._tapped if key not in self._held)]
        self._tapped, self.key_number = [], self._key_number
        return action_of(keys, self.agent.meanings)

    def _start(self, number: int) -> None:
        moment = begin(self.agent, self.starts.start(self.settings.start, number))
        self._number = number
        self._open(moment)

    def _open(self, moment: Moment) -> None:
        if self.recorder:
            self.recorder.cut(self.moment)
        self._first, self._history, self._at, self._rest = moment, [moment], 0, 0
