"""What a person reads instead of a traceback: one line that says what is wrong."""

from __future__ import annotations

import difflib
import errno
import sys
from collections.abc import Callable, Iterable

from adamas.utils.console import be_lenient, say

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
ABSENT = (
    errno.ENOENT,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)  # the user's, if they named it
PASSING = (
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EBUSY,
    errno.EAGAIN,
    errno.ENOLCK,
    errno.EHOSTDOWN,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
)


class UserError(Exception):
    """Something that the user can put right. Its text is one line: what is wrong and what to do."""


class MissingFile(UserError):
    """A file that is not there and may come back, as with a mount: what refers to it is not damaged."""


class LostProcess(UserError):
    """One of the processes of a run has died. Those that are left say so, be they the first one or not."""


def exit_code(main: Callable[[], int | None], speaks: Callable[[Exception], bool] = lambda error: True) -> int:
    """Runs a program. With one line, unless it is not this process that `speaks` of the error: 2 for what its user can put
    right, 1 for what may pass by itself. 130 for Ctrl-C. What is left is a fault of the program, and is raised."""
    be_lenient()
    try:
        return main() or 0
    except (UserError, OSError) as error:
        code = code_of(error)
        if code is None:
            raise
        if speaks(error):
            say(f"error: {one_line(error)}", error=True)
        return code
    except KeyboardInterrupt:
        return 130


def code_of(error: BaseException) -> int | None:
    """2 for what a user can put right, 1 for what may pass by itself, None for a fault of the program."""
    if isinstance(error, UserError):
        return 2
    if not isinstance(error, OSError):
        return None
    if is_passing(error):
        return 1
    about = error.filename is not None
    users = error.errno in NO_ROOM or (about and error.errno in REFUSED)
    return 2 if users or (about and error.errno in ABSENT and _named_by_the_user(error.filename)) else None


def is_passing(error: BaseException) -> bool:
    """A disk, a network or a machine that may be well again at the next try."""
    return isinstance(error, OSError) and error.errno in PASSING


def did_you_mean(name: str, known: Iterable[str], otherwise: str, cutoff: float = 0.6) -> str:
    """A hint with the nearest of the known names, or `otherwise` where none is as near as `cutoff`, of 0 to 1."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return f"did you mean {near[0]}?" if near else otherwise


def one_line(error: BaseException) -> str:
    if not isinstance(error, OSError):
        return " ".join(str(error).splitlines())
    advice = {2: "; make room" if error.errno in NO_ROOM else "", 1: "; try again"}
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or type(error).__name__}{advice.get(code_of(error) or 0, '')}"


def _named_by_the_user(filename: object) -> bool:
    return isinstance(filename, str) and any(filename and filename in word for word in sys.argv[1:])
