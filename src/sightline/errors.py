"""The one error that becomes a line for the user, warnings as lines, and exit codes."""

import errno
import io
import os
import sys
import warnings
from collections.abc import Callable
from typing import TextIO


class SightlineError(Exception):
    """A mistake the user can mend: which file, which record, what is wrong, what to do.

    The command line turns this error, and nothing else, into one line and exit code 2;
    any other exception is a bug of ours and keeps its traceback.
    """


def as_command(work: Callable[[], int]) -> int:
    """Do the work of a process; gives its exit code: that of the work, 2 after a mistake the user
    can mend (told in one line), 130 after Ctrl-C, 141 where nobody reads the output any more.

    Names in the user's files may hold what no encoding can write: printed, it becomes an escape.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        try:
            code = work()
            sys.stdout.flush()
            return code
        except SightlineError as error:
            return refuse(error)
        except KeyboardInterrupt:
            return 130
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ENOSPC):
                raise
            drop_output()
            return 141 if error.errno == errno.EPIPE else refuse(error)


def drop_output() -> None:
    """What is still to be written out when Python ends would meet the same error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def refuse(error: Exception) -> int:
    """The one line, and the exit code."""
    print("error:", " ".join(str(error).split()), file=sys.stderr)
    return 2


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """In place of ``warnings.showwarning``: what was dropped or mended in the user's data is one
    line; where in our code is no matter."""
    print("warning:", " ".join(str(message).split()), file=file or sys.stderr)
