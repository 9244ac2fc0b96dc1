"""docs/own-game.md as a newcomer follows it: its file, its commands, and the dream that the page then shows."""

from __future__ import annotations

import re
import shlex
import urllib.request
from pathlib import Path

import pytest
from helpers import ROOT, TINY, only_run, start, train
from playing import Player
from websockets.sync.client import connect

PAGE = (ROOT / "docs" / "own-game.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def command(program: str) -> list[str]:
    """The arguments of the page's one command that begins so."""
    (line,) = [line for block in blocks("bash") for line in block.splitlines() if line.startswith(program)]
    return shlex.split(line.removeprefix(program))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("newcomer")
    (source,) = blocks("python")
    name, _, rest = source.partition("\n")
    (made / name.removeprefix("# ")).write_text(rest)
    return made


@pytest.mark.slow
def test_the_page_leads_from_a_file_to_a_dream_in_the_browser(folder: Path) -> None:
    run = train(*command("adamas train"), *TINY, cwd=folder)
    program = (
        str(ROOT / "src" / "play.py"),
    )  # as the installed program, which does not look for modules in this folder
    process = start(*command("adamas play"), "port=0", "device=cpu", cwd=folder, program=program)
    try:
        assert process.stdout is not None
        opened = f"{process.stdout.readline()}{process.stdout.readline()}"
        assert f"playing my_game:Catch-v0: {run.relative_to(folder)}" in opened
        address = re.search(r"http://(\S+)/\?(token=\S+)", opened)
        assert address
        with urllib.request.urlopen(address[0], timeout=60) as page:
            assert b"<canvas" in page.read()
        with connect(
            f"ws://{address[1]}/socket?{address[2]}&client=me", origin=f"http://{address[1]}", proxy=None
        ) as ws:
            player = Player(ws)
            facts, _ = player.wait("hello")
            assert (facts["actions"], facts["keys"]) == (["NOOP", "LEFT", "RIGHT"], ["LEFT", "RIGHT"])
            player.send({"type": "keys", "held": ["RIGHT"], "number": 1})
            header, pictures = player.wait("frame", lambda header: header["action"] == 2)
            assert header["pictures"][:2] == ["dream", "real"]
            assert len(pictures) == len(header["pictures"]) * 84 * 84
    finally:
        process.terminate()
        process.communicate()
    assert only_run(folder) == run


def test_what_the_page_says_in_passing_is_so() -> None:
    (table,) = [part for part in PAGE.split("\n## ") if part.startswith("What an env needs")]
    assert "env=CarRacing-v3 env_kwargs={continuous:false}" in table
    for named in re.findall(r"\]\(([\w.-]+\.md)\)", PAGE):
        assert (ROOT / "docs" / named).is_file()
