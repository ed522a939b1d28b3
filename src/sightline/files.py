"""Writing a file, or a folder, so that its name always stands for a whole one."""

import os
import shutil
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


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Gives a new folder beside ``folder`` to fill; it takes the name ``folder`` if no error is
    raised, and is removed if one is.

    Raises:
        SightlineError: ``folder`` is there and not empty, or cannot be written to.
    """
    beside = folder.absolute().with_name(f".{folder.absolute().name}.writing")
    try:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise SightlineError(f"{folder} is there already: name a new folder")
        shutil.rmtree(beside, ignore_errors=True)  # of a run that was killed
        beside.mkdir(parents=True)
        yield beside
        if folder.exists():
            folder.rmdir()
        beside.rename(folder)
    except OSError as error:
        raise SightlineError(f"{folder}: cannot be written ({error})") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


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
