"""Printing that cannot end a run: a terminal may be ASCII, and whoever reads may go away (`| head`, a closed window)."""

from __future__ import annotations

import os
import sys
import unicodedata
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm


class Lasting:
    """A text stream that drops what it cannot write. tqdm takes it as `file=`."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if self._stream is not None:
            try:
                self._stream.write(encodable(text, self._stream.encoding))
            except (OSError, ValueError):  # ValueError: it is closed
                _redirect_to_nowhere(self._stream)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                _redirect_to_nowhere(self._stream)

    def __eq__(self, other: object) -> bool:  # tqdm compares streams, to clear the bars before a line
        return self._stream is getattr(other, "_stream", other)

    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say(text: str = "", error: bool = False) -> None:
    """Prints a line, on stderr for an `error`."""
    stream = Lasting(sys.stderr if error else sys.stdout)
    stream.write(text + "\n")
    stream.flush()


def warn(text: str) -> None:
    """Prints a line on stderr."""
    say(text, error=True)


def progress_bar(total: int | None, unit: str, **options: Any) -> tqdm:
    """A bar on stderr; a line every half minute where that is no terminal.

    Args:
        options: others of tqdm.
    """
    from tqdm import tqdm  # takes 50 ms, for which most commands need not wait

    live = sys.stderr is not None and sys.stderr.isatty()
    return tqdm(total=total, unit=unit, mininterval=0.2 if live else 30, file=Lasting(sys.stderr), **options)


def format_duration(seconds: float) -> str:
    """3_700 -> "1 h 2 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = max(1, round(seconds / 60))
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    named = [(days, "days" if days > 1 else "day"), (hours, "h"), (minutes if not days else 0, "min")]
    return " ".join(f"{n} {name}" for n, name in named if n)


def encodable(text: str, encoding: str | None) -> str:
    """`text`, without accents and with question marks where the encoding has no such letters."""
    encoding = encoding or "ascii"
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        return plain.encode(encoding, "replace").decode(encoding)


def be_lenient() -> None:
    """Whatever else prints to stdout never fails for a letter that it cannot show."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _redirect_to_nowhere(stream: TextIO) -> None:
    """What follows, and what the stream still holds, goes to the null device, also when Python ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
