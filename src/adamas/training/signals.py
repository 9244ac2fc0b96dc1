"""Ctrl-C, SIGTERM, SIGHUP (a terminal that is closed), SIGUSR1 and SIGUSR2 ask the run to stop after the step that it is in."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from adamas.utils.torchrun import launched

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
CONTINUE = getattr(signal, "SIGCONT", None)  # not on Windows


class Stopped(Exception):
    """The run was asked to stop and has saved itself."""


class StopRequest:
    """Inside `with StopRequest() as stop:`, `stop.requested` turns true at the first signal. A second Ctrl-C interrupts;
    not one of several processes, to which torchrun passes on the Ctrl-C that they have had themselves. `stop.continued` turns
    true where the process stood still for some time: after Ctrl-Z, or SIGSTOP."""

    def __init__(self) -> None:
        self.requested = self.continued = False

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.signal(number, self._handle) for number in signals_to_handle(*NAMES)}
        if CONTINUE:
            self._before[CONTINUE] = signal.signal(CONTINUE, self._continue)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _continue(self, number: int, frame: FrameType | None) -> None:
        self.continued = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT and launched().size == 1:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def ending_by_itself() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP end the program as an error does, so that it cleans up, where no StopRequest hears them."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in signals_to_handle("SIGTERM", "SIGHUP")}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def signals_to_handle(*names: str) -> list[int]:
    """These signals, but for those that the system does not have, and SIGHUP under nohup: there the program outlives its terminal."""
    nohup = hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [getattr(signal, name) for name in names if hasattr(signal, name) and not (nohup and name == "SIGHUP")]
