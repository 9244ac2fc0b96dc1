"""What all commands share: arguments, quoting, printing, exit codes."""

from __future__ import annotations

import errno
import io
import os
import shlex
import signal
import sys
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Optional

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import MISSING, OmegaConf

from adamas.cli.main import COMMANDS, main
from adamas.config import arguments
from adamas.config.hints import game_name
from adamas.config.literals import literal
from adamas.config.schema import setting
from adamas.training.signals import StopRequest
from adamas.utils import torchrun
from adamas.utils.console import Lasting, say
from adamas.utils.errors import UserError, code_of, exit_code
from adamas.utils.quoting import as_typed, assignment, split, unquoted

NASTY = st.text(st.sampled_from("ab1_ ./,=:{}[]()$\\'\"#~*?!-é\n"), min_size=1, max_size=12)


def hydras(word: str) -> str:
    """What a text setting is after Hydra and OmegaConf have read it."""
    (override,) = OverridesParser.create().parse_overrides([literal(word, sweeping=False)])
    config = OmegaConf.create({"runs": ""})
    OmegaConf.update(config, "runs", override.value())
    return config.runs


@settings(deadline=None, max_examples=300)
@given(NASTY)
@example("\\\n")
def test_what_is_printed_can_be_pasted_and_is_read_as_it_was_meant(name: str) -> None:
    word = assignment("runs", Path(name))
    assert shlex.split(shlex.join([word])) == [word]
    assert unquoted(word.partition("=")[2]) == str(Path(name))
    assert hydras(word) == str(Path(name))
    assert arguments.read(Some, ["run=x", f"runs=[{word[5:]},b]"]).runs == [str(Path(name)), "b"]
    assert arguments.read(Some, [f"run={word[5:]}"]).run == str(Path(name))


@pytest.mark.parametrize(
    "text", ["2026_11_28", "1e5", "true", "007", "0x1", "nan", "a(b)", "a=b", "~/x", "é", "x y", "on"]
)
def test_a_text_setting_is_taken_as_it_was_typed(text: str) -> None:
    assert hydras(f"runs={text}") == text
    assert literal(f"runs={text},b", sweeping=True) == f'runs="{text}","b"'
    assert arguments.read(Some, [f"run={text}"]).run == text


def test_commas_in_quotes_and_brackets_part_nothing() -> None:
    assert split('a,"b,c",d[e,f],it\'s,g') == ["a", '"b,c"', "d[e,f]", "it's", "g"]


@pytest.mark.parametrize(
    ("argv", "typed"),
    [
        (["/x/bin/adamas", "train", "runs=a b"], "adamas train 'runs=a b'"),
        (["/x/adamas/cli/__main__.py", "play"], "adamas play"),
        (["src/main.py", "env=Pong"], "python src/main.py env=Pong"),
    ],
)
def test_a_command_line_is_shown_as_it_is_typed(argv: list[str], typed: str) -> None:
    assert as_typed(argv) == typed


# Arguments


@dataclass
class Some:
    """A schema."""

    run: str = setting(MISSING, "a run folder")
    runs: list[str] = setting([], "run folders")
    count: int = setting(3, "of them", least=1)
    out: Optional[str] = setting(None, "a folder")
    newest: bool = setting(False, "the newest alone")
    games: list[str] = setting(["all"], "some")


def test_help_shows_every_default() -> None:
    shown = [line.split()[0] for line in arguments.help_text(Some, "").splitlines() if line]
    assert shown == ["run=RUN", "runs=[]", "count=3", "out=null", "newest=false", "games=[all]"]


def test_arguments_have_the_types_of_their_schema() -> None:
    assert arguments.read(Some, ["run=1", "count=5", "--newest", "runs=[a,'b,c']", "out=null"]) == Some(
        run="1", runs=["a", "b,c"], count=5, newest=True
    )
    assert arguments.read(Some, ["run=x", "newest=true", "runs=a", "--out=b"]) == Some("x", ["a"], 3, "b", True)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "run= is needed: a run folder"),
        (["runs/Pong/1"], "'runs/Pong/1' cannot be read: write run=runs/Pong/1, or see --help"),
        (["cuont=3"], "unknown key 'cuont': did you mean count?"),
        (["run=x", "runs="], "runs= names none: leave it out, or give some: runs=[A,B]"),
        (["run=x", "count=x"], "count=x: a whole number is needed"),
        (["run=x", "count=0"], "count=0 is too small: the least is 1"),
        (["run=x", "newest=maybe"], "newest=maybe: true or false is needed"),
    ],
)
def test_a_wrong_argument_is_one_line(words: list[str], line: str) -> None:
    with pytest.raises(UserError) as raised:
        arguments.read(Some, words)
    assert str(raised.value) == line


def test_a_wrong_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for word, line in (
        ("trian", "unknown command 'trian': did you mean train?"),
        ("env=Pong", "unknown command 'env=Pong': write adamas train env=Pong"),
        ("qqq", f"unknown command 'qqq': commands: {', '.join(COMMANDS)}"),
    ):
        assert main([word]) == 2
        assert capsys.readouterr().err == f"error: {line}\n"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_shown_by_a_terminal_that_knows_no_accents(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    assert main([*filter(None, [command]), "--help"]) == 0
    screen.flush()
    shown = screen.buffer.getvalue().decode("ascii")
    assert "usage:" in shown
    assert command in ("", "train", "play") or f"adamas {command}" in shown
    assert command != "evaluate" or "Frechet distance" in shown


@pytest.mark.parametrize(
    ("text", "game"),
    [
        ("ALE/Venture-v5", "Venture"),
        ("ALE/Venture", "Venture"),
        ("BreakoutNoFrameskip-v4", "Breakout"),
        ("BreakoutDeterministic-v0", "Breakout"),
        ("Breakout-v4", "Breakout"),
        ("Breakout", "Breakout"),
        ("Breakout-ram-v4", "Breakout-ram-v4"),
        ("ms_pacman", "ms_pacman"),
    ],
)
def test_gymnasiums_ids_are_games(text: str, game: str) -> None:
    assert game_name(text) == game


# Printing


class Gone(io.StringIO):
    """A terminal that was closed."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")

    def fileno(self) -> int:
        raise io.UnsupportedOperation


def test_printing_outlives_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        for stream in (pipe, Gone(), None):
            monkeypatch.setattr(sys, "stdout", stream)
            say("nobody reads this")
            say("nor this")
        closed = io.StringIO()
        closed.close()
        assert Lasting(closed).write("x") == 1


# Exit codes


@pytest.mark.parametrize(
    ("number", "filename", "code"),
    [
        (errno.EACCES, "x", 2),
        (errno.EROFS, "x", 2),
        (errno.ENOSPC, None, 2),
        (errno.ENOENT, "named", 2),
        (errno.EEXIST, "named", 2),
        (errno.EISDIR, "named/config.yaml", None),
        (errno.ENOENT, "internal", None),
        (errno.ENOENT, None, None),
        (errno.EIO, "named", 1),
        (errno.ESTALE, None, 1),
        (errno.EBADF, "x", None),
    ],
)
def test_only_what_a_user_can_put_right_is_exit_code_2(
    number: int, filename: str | None, code: int | None, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(sys, "argv", ["adamas", "train", "dataset=named"])
    error = OSError(number, os.strerror(number), filename)
    assert code_of(error) == code

    def fails() -> None:
        raise error

    if code is None:
        with pytest.raises(OSError, match=os.strerror(number)):
            exit_code(fails)
    else:
        assert exit_code(fails) == code
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("environment", "launched", "told"),
    [
        ({}, (0, 1), False),
        ({"RANK": "1", "WORLD_SIZE": "2"}, (0, 1), True),
        ({"RANK": "x"}, (0, 1), True),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"}, (1, 2), False),
        ({"RANK": "5", "WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"}, (0, 1), True),
    ],
)
def test_what_a_launcher_left_behind_is_ignored_with_a_line(environment, launched, told, monkeypatch) -> None:
    for name in torchrun.SET:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert torchrun.launched() == launched
    assert bool(torchrun.left_over()) == told


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has none")
@pytest.mark.usefixtures("default_hangup")
def test_a_closed_terminal_asks_to_stop_but_not_under_nohup() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.requested
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.requested


def test_words_without_a_name_get_the_names_of_a_command_in_order() -> None:
    assert arguments.with_names(["a", "--x", "b", "c"], ("source", "out")) == ["source=a", "--x", "out=b", "c"]
    assert arguments.with_names(["out=b", "a", "c"], ("source", "out")) == ["out=b", "source=a", "c"]


def test_a_path_with_an_equals_sign_is_a_word_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b").mkdir()
    assert arguments.with_names(["env=Pong", "a=b", "c"], ("source", "out")) == ["env=Pong", "source=a=b", "out=c"]
    assert arguments.with_names([longer := f"columns=[a:{'b' * 300}]"], ("source",)) == [longer], "no name of a file"


@pytest.mark.parametrize("kind", [int, float, str])
def test_null_is_no_value_where_there_may_be_none(kind: type) -> None:
    schema = make_dataclass("Schema", [("x", Optional[kind], setting(kind(1), "x"))])
    assert (arguments.read(schema, []).x, arguments.read(schema, ["x=null"]).x) == (kind(1), None)
    assert arguments.read(schema, ["x=2"]).x == kind("2")
    if kind is not str:
        with pytest.raises(UserError, match=r"x=many: a (whole )?number is needed"):
            arguments.read(schema, ["x=many"])
