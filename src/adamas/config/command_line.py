"""The command line: overrides -> Hydra -> a checked Config -> the function that trains.

Hydra only composes; the jobs run after it has returned. So every job of a sweep is checked before the first one
starts, and what training raises never passes through Hydra. Whatever a user can get wrong becomes one line.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from adamas.config import MEANING, Config
from adamas.config.files import as_plain, config_of_run, load_config, to_yaml
from adamas.config.help import help_text, kinds, preset_names, shown
from adamas.config.hints import game_name, in_words, malformed, unknown_key
from adamas.config.jobs import run_jobs
from adamas.config.literals import literal
from adamas.config.rules import check
from adamas.utils.console import say
from adamas.utils.errors import LostProcess, UserError, exit_code
from adamas.utils.quoting import as_short
from adamas.utils.resources import resource
from adamas.utils.torchrun import launched, left_over

CONFIG_DIR = resource("config")
FIXED = ("preset", "env", "env_kwargs", "seed", "policy", "runs", "initialize", *MEANING)
RESUMED = "resumed"  # the name under which a saved run takes the place of a preset


def launch(
    run: Callable[[Config], bool | None],
    check_here: Callable[[Config], None] = lambda config: None,
    config_dir: Path = CONFIG_DIR,
    argv: list[str] | None = None,
    canonical: Callable[[str], str] = game_name,
) -> int:
    """Composes the config that the command line asks for, calls `run` with it, and returns the exit code.

    Args:
        run: returns False to end a sweep before its next job.
        argv: the arguments, if they are not those of the process.
        check_here: raises UserError for what this machine cannot run. All jobs of a sweep pass it before the first runs.
        canonical: the name of `env` as a run has it.
    """
    return exit_code(
        lambda: _launch(run, check_here, sys.argv[1:] if argv is None else argv, config_dir, canonical),
        speaks=lambda error: _speaks() or isinstance(error, LostProcess),
    )


def _launch(
    run: Callable[[Config], bool | None],
    check_here: Callable[[Config], None],
    argv: list[str],
    config_dir: Path,
    canonical: Callable[[str], str],
) -> int:
    arguments = _read_arguments(argv)
    if arguments.help:
        say(help_text(config_dir))
        return 0
    if (line := left_over()) and not arguments.cfg:
        say(line, error=True)
    if arguments.multirun and launched().size > 1:
        raise UserError("-m cannot be used with torchrun, which starts one run: drop one of the two")
    words = [literal(text, arguments.multirun) for text in arguments.overrides]
    overrides = [_read_override(text, arguments.multirun, preset_names(config_dir)) for text in words]
    start, why = _choose_start(overrides, arguments.multirun)
    jobs = [_compose([*job, *start], config_dir) for job in _split(overrides)]
    configs = [_name_the_game(_to_config(job), canonical) for job in jobs]
    if arguments.cfg:
        say("\n".join(to_yaml(config) for config in configs).removesuffix("\n"))
        return 0
    for config in configs:
        check_here(config)
    if why and _speaks():
        say(why)
    return run_jobs(run, configs, [shlex.join(map(as_short, job.overrides)) for job in jobs])


def _speaks() -> bool:
    """Whether this process prints: of several that torchrun starts, the first one."""
    return launched().rank == 0


def _name_the_game(config: Config, canonical: Callable[[str], str]) -> Config:
    """Takes Gymnasium's id of a game, as other code bases write it, and says what was understood."""
    name = canonical(config.env)
    if name != config.env and _speaks():
        say(
            f"env={config.env} is the game {name}; a step is 4 emulator frames, and atari.repeat_action_probability sets sticky actions",
            error=True,
        )
    config.env = name
    return config


# Reading the command line


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help shows what there is")


def _read_arguments(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-c", "--cfg", choices=["job"])
    return parser.parse_intermixed_args(argv)


def _read_override(text: str, sweeping: bool, presets: list[str]) -> Override:
    """Parses one `setting=value` and checks all but the value's type, which Hydra does when it composes.

    The parser is the one that Hydra gives to sweeper plugins: its errors name no near miss, so the keys are checked here.
    """
    try:
        (override,) = OverridesParser.create().parse_overrides([text])
    except HydraException as error:
        raise UserError(malformed(text)) from error
    key = override.key_or_group + (f"@{override.package}" if override.package else "")
    if not key:
        raise UserError(malformed(text))
    if key not in kinds():
        raise UserError(unknown_key(key))
    if override.type is not OverrideType.CHANGE:
        raise UserError(f"{text}: a setting can be changed, but not added or deleted: write {key}=VALUE")
    values = _values(override, sweeping)
    if key == "preset":
        _check_presets(values, presets)
    return override


def _values(override: Override, sweeping: bool) -> list[str]:
    if not override.is_sweep_override():
        return [shown(override.value())]
    text = override.input_line
    if not sweeping:
        raise UserError(f"{text} has several values: add -m for one run each, or write a list as [1,2]")
    try:
        values = list(override.sweep_string_iterator())
    except (HydraException, ValueError):  # an endless sweep, a glob, or a range with a step of 0
        values = []
    if not values:
        raise UserError(f"{text} has no values to try: write them as seed=1,2 or seed=range(0,4)")
    return [value.strip("'\"") for value in values]


def _check_presets(names: list[str], presets: list[str]) -> None:
    for name in names:
        if name not in presets:
            close = difflib.get_close_matches(name, presets, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UserError(f"unknown preset '{name}': {hint}presets: {', '.join(presets)}")


def _choose_start(overrides: list[Override], sweeping: bool) -> tuple[list[str], str]:
    """What the settings start from, as an override, where the command line names no preset; and a line that says why."""
    given = {override.key_or_group: override.value() for override in overrides}
    if given.get("resume") is not None:
        if sweeping:
            raise UserError("-m cannot be used with resume=, which goes on with one run: drop one of the two")
        try:
            run = OmegaConf.create({"run": given["resume"]})["run"]  # without the escapes of a quoted text
        except OmegaConfBaseException as error:
            raise UserError(f"resume={given['resume']} is not a run folder") from error
        _store_resumed(str(run), given)
        return [f"preset={RESUMED}"], ""
    if "preset" in given:
        return [], ""
    import torch  # here, since it takes seconds and most errors are found without it

    if given.get("device") == "cpu":
        return ["preset=cpu"], "preset=cpu: device=cpu was asked for; preset=diamond trains the published size"
    if torch.cuda.is_available():
        return ["preset=diamond"], "preset=diamond: a GPU was found; preset=cpu trains a smaller model"
    return ["preset=cpu"], "preset=cpu: no GPU was found; preset=diamond trains the published size"


def _store_resumed(run: str, given: dict[str, Any]) -> None:
    """Makes the config of the run folder `run` a preset, so that other overrides change it as they change any."""
    if fixed := [f"{key}=" for key in given if key.partition(".")[0] in FIXED or key in FIXED]:
        raise UserError(f"{', '.join(fixed)} cannot be used with resume=, which goes on with what the run has: drop it")
    config = load_config(config_of_run(run, said="resume="))
    if given.get("dataset") and not config.dataset:
        raise UserError(f"dataset= says where the dataset of a run is now, and {run} has none: drop it")
    if "dataset" in given and config.dataset and not given["dataset"]:
        raise UserError(f"dataset= says where the dataset of a run is now, and {run} goes on with it: drop it")
    ConfigStore.instance().store(name=RESUMED, node=as_plain(config), group="preset", package="_global_")


# Composing


@dataclass(frozen=True)
class _Job:
    """One run, as Hydra composed it."""

    composed: DictConfig
    overrides: list[str]

    @property
    def preset(self) -> str:
        overrides = OverridesParser.create().parse_overrides(self.overrides)
        return next(shown(override.value()) for override in overrides if override.key_or_group == "preset")


def _split(overrides: list[Override]) -> list[list[str]]:
    """The overrides of one job, or of each combination of a sweep, the last one changing first. Of two with the same key the
    later one counts."""
    values = [
        [f"{override.key_or_group}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [override.input_line]
        for override in {override.key_or_group: override for override in overrides}.values()
    ]
    return [list(job) for job in itertools.product(*values)]


def _compose(overrides: list[str], config_dir: Path) -> _Job:
    ConfigStore.instance().store(name="schema", node=Config)
    try:
        with initialize_config_dir(str(config_dir.absolute()), version_base="1.3"):
            return _Job(compose("train", overrides), overrides)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(in_words(error)) from error


def compose_config(overrides: list[str]) -> Config:
    """The checked config of `preset=NAME` and other overrides."""
    return _to_config(_compose(overrides, CONFIG_DIR))


def _to_config(job: _Job) -> Config:
    try:
        config = cast(Config, OmegaConf.to_object(job.composed))
    except OmegaConfBaseException as error:
        raise UserError(in_words(error)) from error
    if job.preset != RESUMED:
        config.preset = job.preset
    return check(config)
