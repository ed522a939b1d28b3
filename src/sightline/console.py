"""Rich's console, which leaves to us what it means that nobody reads."""

import errno
import os

from rich.console import Console as RichConsole


class Console(RichConsole):
    """Behind a pipe that was closed, rich's own would end the process with exit code 1, in the
    midst of whatever it does."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
