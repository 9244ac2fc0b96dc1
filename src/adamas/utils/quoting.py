"""Arguments `name=value` that can be pasted into a shell and that are read as they were meant, whatever a path holds."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

PLAIN = re.compile(r"[\w./@%+:~=-][\w./@%+:~= -]*")  # needs no quotes
QUOTES = "'\""


def assignment(name: str, value: str | Path) -> str:
    """`name=value` as every command reads it."""
    return f"{name}={as_value(str(value))}"


def as_value(text: str) -> str:
    """Quoted where a comma, a bracket, a quote or a `${` would mean something."""
    plain = PLAIN.fullmatch(text) and text == text.strip() and text.lower() != "null"
    return text if plain else quoted(text)


def as_short(word: str) -> str:
    """An assignment without quotes that it does not need."""
    name, _, value = word.partition("=")
    return assignment(name, unquoted(value)) if unquoted(value) != value else word


def quoted(text: str) -> str:
    """In double quotes of Hydra's grammar, which stand for the text itself: nothing in it is interpolated."""
    text = re.sub(r'(\\*)("|\Z)', lambda m: 2 * m[1] + ('\\"' if m[2] else ""), escaped(text))
    return f'"{text}"'


def unquoted(text: str) -> str:
    """What a value stands for: the text between its quotes, or itself without them."""
    if len(text) < 2 or text[0] not in QUOTES or text[-1] != text[0]:
        return text
    quote, inner = text[0], text[1:-1]
    inner = re.sub(rf"(\\+)({quote}|\Z)", lambda m: "\\" * (len(m[1]) // 2) + m[2], inner)
    return re.sub(r"(\\+)\$\{", lambda m: "\\" * (len(m[1]) // 2) + "${", inner)


def escaped(text: str) -> str:
    """The text as OmegaConf must be given it so that its `${` begin no interpolation."""
    return re.sub(r"(\\*)\$\{", lambda m: "\\" * (2 * len(m[1]) + 1) + "${", text)


def split(text: str) -> list[str]:
    """The parts between commas that are in no quotes and no brackets."""
    return ["".join(part) for part in _parts(text)]


def _parts(text: str) -> Iterator[list[str]]:
    part: list[str] = []
    quote, depth, backslashes = "", 0, 0
    for letter in text:
        if quote:
            quote = "" if letter == quote and backslashes % 2 == 0 else quote
        elif letter in QUOTES and not "".join(part).strip():  # a quote inside a word is a letter
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in ")}]":
            depth -= 1
        elif letter == "," and depth <= 0:
            yield part
            part = []
            continue
        backslashes = backslashes + 1 if letter == "\\" else 0
        part.append(letter)
    yield part


def as_typed(argv: list[str]) -> str:
    """A process's command line (sys.argv) as a person types it."""
    program, *arguments = argv or [""]
    path = Path(program)
    if path.suffix != ".py":
        words = [path.name]
    elif path.parts[-3:] == ("adamas", "cli", "__main__.py"):
        words = ["adamas"]
    else:
        words = ["python", program]
    return shlex.join([*words, *arguments])
