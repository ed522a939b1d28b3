"""Writing a file so that its name always stands for a whole one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sightline.errors import SightlineError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path beside ``path`` to write to, of the same suffix; it takes the name ``path`` if
    no error is raised, and is removed if one is.

    Both the bytes and the new name are on the disk when the block is left.

    Raises:
        SightlineError: the folder cannot be written to, or the disk is full.
    """
    beside = path.with_name(f".{path.stem}.writing{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        _sync(beside)
        beside.replace(path)
        if os.name == "posix":  # elsewhere a folder cannot be opened, and need not be
            _sync(path.parent)
    except OSError as error:
        raise SightlineError(f"{path}: cannot be written ({error})") from error
    finally:
        with suppress(OSError):
            beside.unlink()


def check_target(path: Path) -> None:
    """Before the work whose result is to be written.

    Raises:
        SightlineError: it is a folder.
    """
    if path.is_dir():
        raise SightlineError(f"{path} is a folder: name a file to write")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
