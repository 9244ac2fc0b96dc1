"""What a person reads instead of a traceback: one line that says what is wrong."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """Something that the user can put right. Its text is one line: what is wrong and what to do."""


class LostProcess(UserError):
    """One of the processes of a run has died. Those that are left say so, be they the first one or not."""


def exit_code(main: Callable[[], int | None], speaks: Callable[[Exception], bool] = lambda error: True) -> int:
    """Runs a program. 2 and one line, unless it is not this process that `speaks` of the error, for what its user can put
    right; 130 for Ctrl-C."""
    try:
        return main() or 0
    except (UserError, OSError) as error:
        line = one_line(error)
        if line is None:
            raise
        if speaks(error):
            print("error:", line, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def one_line(error: UserError | OSError) -> str | None:
    """None for a fault of the program: an OSError that is about no file."""
    if isinstance(error, UserError):
        return " ".join(str(error).splitlines())
    room = "; make room: what was saved last is good" if error.errno in NO_ROOM else ""
    if error.filename is None and not room:
        return None
    return (f"{error.filename}: " if error.filename else "") + f"{error.strerror}{room}"
