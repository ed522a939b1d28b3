"""The one error that becomes a line for the user, and warnings as lines."""

import sys
from typing import TextIO


class SightlineError(Exception):
    """A mistake the user can mend: which file, which record, what is wrong, what to do.

    The command line turns this error, and nothing else, into one line and exit code 2;
    any other exception is a bug of ours and keeps its traceback.
    """


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
