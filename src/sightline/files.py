"""Writing a file, or a folder, so that its name always stands for a whole one, and seeing whether a
file still is."""

import mmap
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sightline.errors import SightlineError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path beside ``path`` to write to, of the same suffix; it takes the name ``path`` if
    no error is raised, and is removed if one is.

    Both the bytes and the new name are on the disk when the block is left.

    Raises:
        SightlineError: the name is a folder's or a device's, the folder cannot be written to, or
            the disk is full.
    """
    check_target(path)
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
        check_folder(folder)
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
    """Before the work whose result is to be written, which may take hours.

    Raises:
        SightlineError: it is a folder, or a device, whose name the file would take; or no file can
            be made there.
    """
    try:
        if path.is_dir():
            raise SightlineError(f"{path} is a folder: name a file to write")
        if path.exists() and not path.is_file():
            raise SightlineError(f"{path} is a device, not a file: name a file to write")
        above = next(folder for folder in path.absolute().parents if folder.exists())
    except OSError as error:
        raise SightlineError(f"{path}: cannot be written ({error.strerror})") from error
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise SightlineError(f"{path}: cannot be written (no file can be made in {above})")


def check_folder(folder: Path) -> None:
    """Before the work whose result is to fill it.

    Raises:
        SightlineError: it is there and not empty.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise SightlineError(f"{folder} is there already: name a new folder")


# To be written into a file that is to be sealed, as what it says under the key "seal": in a header
# of JSON, in ONNX's (protobuf: the length stands before a text), in an attribute of OpenVINO's XML.
UNSEALED = "crc32:00000000"
_SEAL, _DIGITS = re.compile(rb'seal(?:": ?"|\x12\x0e| value=")crc32:'), 8


def seal(path: Path, *others: Path) -> None:
    """Put the CRC-32 of a file, and of others that belong to it, in the place of the ``UNSEALED``
    that stands in it as its seal."""
    place, found = _sealed(path, others)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"%08x" % found)


def is_sealed(path: Path, *others: Path) -> bool:
    """Whether the file carries a seal; formats have none of their own against a flipped bit.

    Raises:
        SightlineError: it does, and some byte has changed since.
    """
    place, found = _sealed(path, others)
    if place < 0:
        return False
    with path.open("rb") as file:
        file.seek(place)
        digits = file.read(_DIGITS)
    if digits == UNSEALED.encode()[-_DIGITS:]:
        return False
    if digits != b"%08x" % found:
        raise SightlineError(f"{path}: damaged: its bytes are not those that were written")
    return True


def _sealed(path: Path, others: Iterable[Path]) -> tuple[int, int]:
    """Where the digits of the seal stand, -1 where there are none, and what they should be."""
    if path.stat().st_size == 0:
        return -1, 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = next((found.end() for found in _SEAL.finditer(data)), -1)
        if place < 0:
            return -1, 0
        with memoryview(data) as view:
            found = zlib.crc32(view[:place])
            found = zlib.crc32(view[place + _DIGITS :], found)
    for other in others:
        found = zlib.crc32(other.read_bytes(), found)
    return place, found


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
