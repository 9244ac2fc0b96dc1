"""The command line: overrides -> Hydra -> a checked Config -> the function that trains.

Hydra only composes; the jobs run after it has returned. So every job of a sweep is checked before the first one
starts, and what training raises never passes through Hydra. Whatever a user can get wrong becomes one line.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
import sys
import tempfile
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Optional

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    ConfigTypeError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)
from yaml import YAMLError

from adamas.config import Config, UserError, check
from adamas.files import publish

CONFIG_DIR = Path(__file__).resolve().parents[2] / "config"
RESUMED = "resumed"  # the name under which a saved run takes the place of a preset

HELP = """\
adamas trains a reinforcement-learning agent inside a diffusion world model of an Atari game.

usage: python src/main.py [knob=value ...] [-m] [--cfg job] [--help]

  python src/main.py env=Breakout                    train on Breakout
  python src/main.py env=Pong preset=smoke           the same script from end to end, in minutes
  python src/main.py resume=runs/Breakout/DATE-TIME  go on with a run
  python src/main.py -m env=Breakout,Pong seed=1,2   four runs, one after the other
  python src/main.py env=Pong --cfg job              print the whole config and stop

presets (when none is named: cpu with no CUDA GPU, diamond with one):
{presets}

knobs and their defaults, some of which a preset changes:
{knobs}"""

KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Optional[str]: "text",
    list[int]: "a list of whole numbers such as [1,2]",
    list[float]: "a list of numbers such as [0.5,1]",
}


def launch(
    run: Callable[[Config], None],
    check_here: Callable[[Config], None] = lambda config: None,
    config_dir: Path = CONFIG_DIR,
) -> int:
    """Composes the config that the command line asks for, calls `run` with it, and returns the exit code.

    Args:
        check_here: raises UserError for what this machine cannot run. All jobs of a sweep pass it before the first runs.
    """
    try:
        return _launch(run, check_here, sys.argv[1:], config_dir)
    except UserError as error:
        print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def save_config(config: Config, path: Path) -> None:
    """Writes every knob of `config` as YAML, whole or not at all: without it a run cannot be resumed."""
    temporary = path.with_suffix(".tmp")
    OmegaConf.save(OmegaConf.structured(config), temporary)
    publish(temporary, path)


def load_config(path: Path) -> Config:
    """Reads what `save_config` wrote. A knob that is newer than the file gets its default."""
    try:
        saved = OmegaConf.load(path)
        if not saved:
            raise UserError(f"{path} is empty")
        return OmegaConf.to_object(OmegaConf.merge(_schema(), saved))
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {_in_words(error)}") from error
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {_in_words(error)}") from error


def describe(config: type[Config]) -> str:
    """Every knob with its default, its help and its choices, section by section."""
    return "\n".join(map(str, _knobs(config())))


def _launch(
    run: Callable[[Config], None], check_here: Callable[[Config], None], argv: list[str], config_dir: Path
) -> int:
    arguments = _read_arguments(argv)
    if arguments.help:
        print(HELP.format(presets=_describe_presets(config_dir), knobs=describe(Config)))
        return 0
    overrides = [_read_override(text, arguments.multirun, _presets(config_dir)) for text in arguments.overrides]
    start, why = _choose_start(overrides, arguments.multirun)
    jobs = _compose([*arguments.overrides, *start], arguments.multirun, config_dir)
    configs = [_to_config(job) for job in jobs]
    if arguments.cfg:
        print(*(OmegaConf.to_yaml(OmegaConf.structured(config)) for config in configs), sep="\n", end="")
        return 0
    for config in configs:
        check_here(config)
    _run_all(run, jobs, configs, why)
    return 0


def _run_all(run: Callable[[Config], None], jobs: list[_Job], configs: list[Config], why: str) -> None:
    if why:
        print(why, flush=True)
    for number, (job, config) in enumerate(zip(jobs, configs, strict=True), 1):
        if len(jobs) > 1:
            print(f"job {number} of {len(jobs)}: {' '.join(job.overrides)}", flush=True)
        run(config)


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
    """Parses one `knob=value` and checks all but the value's type, which Hydra does when it composes.

    The parser is the one that Hydra gives to sweeper plugins: its errors name no near miss, so the keys are checked here.
    """
    try:
        (override,) = OverridesParser.create().parse_overrides([text])
    except HydraException as error:
        raise UserError(_malformed(text)) from error
    key = override.key_or_group + (f"@{override.package}" if override.package else "")
    if not key:
        raise UserError(_malformed(text))
    if key not in _kinds():
        raise UserError(_unknown(key))
    if override.type is not OverrideType.CHANGE:
        raise UserError(f"{text}: a knob can be set, but not added or deleted: write {key}=VALUE")
    values = _values(override, sweeping)
    if key == "preset":
        _check_presets(values, presets)
    return override


def _malformed(text: str) -> str:
    key, equals, value = text.partition("=")
    if equals and _kinds().get(key) in (str, Optional[str], Any) and "'" not in value:
        return f"'{text}' cannot be read: give the value quotes of its own: \"{key}='{value}'\""
    return f"'{text}' cannot be read: write knob=value, and a list as knob=[1,2]"


def _values(override: Override, sweeping: bool) -> list[str]:
    if not override.is_sweep_override():
        return [_shown(override.value())]
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
    """What the knobs start from, as an override, where the command line names no preset; and a line that says why."""
    given = {override.key_or_group: override.value() for override in overrides}
    if given.get("resume") is not None:
        _store_resumed(str(given["resume"]), given, sweeping)
        return [f"preset={RESUMED}"], ""
    if "preset" in given:
        return [], ""
    import torch  # here, since it takes seconds and most errors are found without it

    if torch.cuda.is_available():
        return ["preset=diamond"], "preset=diamond: a GPU was found; preset=cpu trains a smaller model"
    return ["preset=cpu"], "preset=cpu: no GPU was found; preset=diamond trains the published size"


def _store_resumed(run: str, given: dict[str, Any], sweeping: bool) -> None:
    """Makes the config of the run folder `run` a preset, so that other overrides change it as they change any."""
    for key in ("preset", "env"):
        if key in given:
            raise UserError(f"{key}= cannot be used with resume=, which goes on with the {key} of the run: drop one")
    if sweeping:
        raise UserError("-m cannot be used with resume=, which goes on with one run: drop one of the two")
    path = Path(run) / "config.yaml"
    if not run or not path.is_file():
        raise UserError(f"resume={run} is not a run folder: it has no config.yaml")
    ConfigStore.instance().store(name=RESUMED, node=load_config(path), group="preset", package="_global_")


# Composing


@dataclass(frozen=True)
class _Job:
    """One run, as Hydra composed it."""

    composed: DictConfig
    preset: str
    overrides: list[str]


def _compose(overrides: list[str], sweeping: bool, config_dir: Path) -> list[_Job]:
    """One job, or one for each combination of a sweep."""
    jobs: list[_Job] = []

    @hydra.main(config_path=str(config_dir), config_name="train", version_base="1.3")
    def collect(composed: DictConfig) -> None:
        chosen = HydraConfig.get()
        overrides = OmegaConf.to_container(chosen.overrides.task, resolve=False)
        jobs.append(_Job(composed, chosen.runtime.choices["preset"], overrides))

    ConfigStore.instance().store(name="schema", node=Config)
    try:
        with _hydra_reads(overrides, ["--multirun"] if sweeping else ["--run"]):
            collect()
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(_in_words(error)) from error
    return jobs


@contextmanager
def _hydra_reads(overrides: list[str], flags: list[str]) -> Iterator[None]:
    """@hydra.main reads sys.argv, and prints errors itself, with advice of its own, unless HYDRA_FULL_ERROR is 1."""
    argv, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR", "0")
    with tempfile.TemporaryDirectory() as scratch:  # for Hydra's own copy of a sweep's config
        sys.argv = [argv[0], *overrides, f"hydra.sweep.dir='{scratch}'", *flags]
        os.environ["HYDRA_FULL_ERROR"] = "1"
        try:
            yield
        finally:
            sys.argv, os.environ["HYDRA_FULL_ERROR"] = argv, full_error


def _to_config(job: _Job) -> Config:
    try:
        config = OmegaConf.to_object(job.composed)
    except OmegaConfBaseException as error:
        raise UserError(_in_words(error)) from error
    if job.preset != RESUMED:
        config.preset = job.preset
    return check(config)


def _schema() -> DictConfig:
    schema = OmegaConf.structured(Config)
    OmegaConf.set_struct(schema, True)  # closes `initialize`, which is a plain dict, to unknown keys too
    return schema


# Words for errors


def _in_words(error: BaseException) -> str:
    """One line for what Hydra, OmegaConf or YAML raised: what is wrong and what is needed."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    if cause and cause.full_key:
        return _knob_error_in_words(cause)
    text = str(error).partition("full_key:")[0]  # after it, OmegaConf names its own types
    return " ".join(text.split()) or type(error).__name__


def _knob_error_in_words(error: OmegaConfBaseException) -> str:
    name = error.full_key
    if isinstance(error, (ConfigKeyError, ConfigAttributeError)):
        return _unknown(name)
    if isinstance(error, MissingMandatoryValue):
        return f"{name} has no value: give it one"
    if isinstance(error, ValidationError):
        return f"{name}={_shown(error.value)}: {_needed(name)}"
    if isinstance(error, ConfigTypeError):
        return f"{name}: {_needed(name)}"
    return f"{name}: {str(error).splitlines()[0]}"


def _needed(name: str) -> str:
    kinds = _kinds()
    knob = name.partition("[")[0]  # the whole list, when the error is in one element
    if kinds.get(knob) is None:
        first = next(name for name in kinds if name.startswith(f"{knob}."))
        return f"this is a group of knobs, set one of them, such as {first}"
    return f"{KINDS.get(kinds[knob], 'another value')} is needed"


def _unknown(key: str) -> str:
    names = _similar(key)
    if not names:
        return f"unknown key '{key}': --help shows every knob"
    *most, last = names
    return f"unknown key '{key}': did you mean {', '.join(most) + ' or ' if most else ''}{last}?"


def _similar(key: str) -> list[str]:
    """Knobs that `key` may have meant: the same name in some section, or a slip of the fingers."""
    names = list(_kinds())
    same = [name for name in names if name.endswith(f".{key}")]
    if same or (same := difflib.get_close_matches(key, names, n=1)):
        return same
    ends = {name.rpartition(".")[2] for name in names}
    close = difflib.get_close_matches(key.rpartition(".")[2], sorted(ends), n=1)
    return [name for name in names if name.rpartition(".")[2] in close]


# Help


@dataclass(frozen=True)
class _Knob:
    """One line of the help. A section has no kind: it holds the knobs that follow it."""

    name: str
    help: str
    kind: Any = None
    default: Any = None
    choices: tuple[Any, ...] = ()

    def __str__(self) -> str:
        if self.kind is None:
            return f"\n{self.name}: {self.help}"
        choices = f" ({', '.join(map(str, self.choices))})" if self.choices else ""
        return f"  {f'{self.name}={_shown(self.default)}':<48} {self.help}{choices}"


def _knobs(node: Any, prefix: str = "") -> Iterator[_Knob]:
    kinds = typing.get_type_hints(type(node))
    for item in dataclasses.fields(node):
        name, value, text = prefix + item.name, getattr(node, item.name), item.metadata.get("help", "")
        if dataclasses.is_dataclass(value):
            yield _Knob(name, value.__doc__.splitlines()[0])
            yield from _knobs(value, prefix=f"{name}.")
        elif isinstance(value, dict):
            yield from (_Knob(f"{name}.{key}", text, Any, default) for key, default in value.items())
        else:
            yield _Knob(name, text, kinds[item.name], value, item.metadata.get("choices", ()))


def _kinds() -> dict[str, Any]:
    """The type of every knob, and None for a section, under its dotted name."""
    kinds: dict[str, Any] = {}
    for knob in _knobs(Config()):
        kinds.setdefault(knob.name.rpartition(".")[0] or knob.name, None)  # `initialize` has no line of its own
        kinds[knob.name] = knob.kind
    return kinds


def _shown(value: Any) -> str:
    """A value as one would type it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{','.join(map(_shown, value))}]" if isinstance(value, list) else str(value)


def _presets(config_dir: Path) -> list[str]:
    return sorted(path.stem for path in (config_dir / "preset").glob("*.yaml"))


def _describe_presets(config_dir: Path) -> str:
    """Each preset with the first line of comment in its file."""
    lines = []
    for name in _presets(config_dir):
        text = (config_dir / "preset" / f"{name}.yaml").read_text(encoding="utf-8")
        comments = [line.strip("# ") for line in text.splitlines() if line.startswith("#") and "@package" not in line]
        lines.append(f"  preset={name:<20} {comments[0] if comments else ''}")
    return "\n".join(lines)
