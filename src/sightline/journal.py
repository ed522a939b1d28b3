"""What a run says and hears: JSON lines in its folder, a line that people watch, and Ctrl-C.

The log goes on where a resumed run goes on: lines written after the last checkpoint are cut off
and written again.
"""

import json
import math
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from rich.progress import BarColumn, Progress, TextColumn

from sightline import distributed
from sightline.console import Console
from sightline.errors import SightlineError, drop_output

Item = TypeVar("Item")


class Journal:
    """One for a process; all but process 0 are given no path and stay silent."""

    def __init__(self, path: Path | None) -> None:
        self.console = Console(quiet=path is None, highlight=False, markup=False, soft_wrap=True)
        self.path = path
        self.best: float | None = None  # score of the best pass so far, shown with every step
        self._began, self._first = time.monotonic(), -1
        self._last, self._pace = time.monotonic(), 0.0  # seconds a picture
        self._bar: Progress | None = None

    @property
    def live(self) -> bool:
        """Whether the progress line can be redrawn at every step."""
        return self.console.is_terminal and not self.console.quiet

    def cut(self, length: int) -> None:
        """Drop what a killed run wrote after its last checkpoint: all beyond ``length`` bytes."""
        if self.path is not None:
            with self._written(), self.path.open("ab") as file:
                file.truncate(min(length, file.tell()))

    def length(self) -> int:
        """Bytes in the log, all of them on the disk."""
        if self.path is None:
            return 0
        with self._written(), self.path.open("ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def write(self, record: Mapping[str, Any]) -> None:
        """One line of the log; NaN, which JSON lacks, becomes null."""
        if self.path is not None:
            with self._written(), self.path.open("a") as file:
                file.write(json.dumps(_without_nan(record)) + "\n")

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Raises:
        SightlineError: the log cannot be written to, or the disk is full.
        """
        try:
            yield
        except OSError as error:
            raise SightlineError(f"{self.path}: cannot be written ({error.strerror})") from error

    def say(self, what: Any) -> None:
        """Text or anything that rich draws, for the person who watches; once nobody does, as
        behind ``| head``, the run goes on in silence."""
        try:
            self.console.print(what)
        except BrokenPipeError:
            self.console.quiet = True
            drop_output()

    def start_clock(self) -> None:
        """Pictures are trained on from now: what went before does not count as time for them."""
        self._last = time.monotonic()

    def count(self, images: int) -> None:
        """So many pictures have been trained on since the last call."""
        now = time.monotonic()
        pace = (now - self._last) / images
        self._pace = pace if self._pace == 0 else 0.9 * self._pace + 0.1 * pace
        self._last = now

    def speed(self) -> float:
        """Pictures a second, over the last ten steps or so."""
        return 1 / self._pace if self._pace else 0.0

    def show(self, step: int, steps: int, line: str) -> None:
        """The progress line: redrawn in a terminal, one after another elsewhere."""
        best = "" if self.best is None else f"  best {self.best:.3f}"
        line = f"{line}  {self._time_left(step, steps)} left{best}"
        if not self.live:
            self.say(f"step {step}/{steps}  {line}")
            return
        if self._bar is None:
            columns = (
                BarColumn(20),
                TextColumn("{task.completed}/{task.total}  {task.description}", markup=False),
            )
            # Drawn from this thread alone: the loader forks.
            self._bar = Progress(*columns, console=self.console, auto_refresh=False)
            self._bar.add_task("", total=steps)
            self._bar.start()
        task = self._bar.task_ids[0]
        self._bar.update(task, completed=step, description=line)
        self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _time_left(self, step: int, steps: int) -> str:
        """From the mean pace since this process began, validation and all."""
        if self._first < 0:
            self._first, self._began = step, time.monotonic()
            return "?"
        pace = (time.monotonic() - self._began) / max(1, step - self._first)
        return duration(pace * (steps - step))


def duration(seconds: float) -> str:
    """``2 h 05 min``, ``4 min 10 s`` or ``12 s``."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def pass_text(values: Mapping[str, Any]) -> str:
    """One line on a pass, from what the log says of it: ``train`` and ``val`` hold numbers."""
    parts = {"loss": values["train"]["loss"]}
    parts |= {
        f"val {n}": values["val"][n] for n in ("loss", "AP", "AP50", "mIoU") if n in values["val"]
    }
    return f"pass {values['pass']}: " + ", ".join(f"{n} {v:.4f}" for n, v in parts.items())


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nan(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Stopped(KeyboardInterrupt):
    """The run was asked to stop and has come to a point where it can be saved."""


class StopRequest:
    """Within, Ctrl-C and SIGTERM ask the run to stop; a second one ends it at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self.__exit__()
        # The loader's workers may die of the same signal, for which PyTorch would raise an error
        # wherever the loop happens to be. Not SIG_DFL: Python complains where one has died already.
        self._before = {}
        if hasattr(signal, "SIGCHLD"):  # not on Windows
            self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _nothing)

    def check(self) -> None:
        """Where the run can be saved, and where every process comes as often as the others.

        Raises:
            Stopped: one of the processes was asked to stop.
        """
        if distributed.agreed(self.asked):
            raise Stopped

    def until(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, up to the one during which this process was asked to stop.

        The signal may also end the loader's workers: their error then is none.
        """
        try:
            for item in items:
                yield item
                if self.asked:
                    return
        except (RuntimeError, OSError, EOFError):  # EOFError and OSError: on the way from a worker
            if not self.asked:
                raise


def _nothing(number: int, frame: FrameType | None) -> None:
    """What there is to do when a worker has ended."""


def command() -> str:
    """What was typed to start this process, as far as that can be told."""
    name, *rest = sys.orig_argv
    if len(rest) > 0 and Path(rest[0]).name == "sightline":  # the script that pip installs
        name, *rest = ["sightline", *rest[1:]]
    return shlex.join([name, *rest])
