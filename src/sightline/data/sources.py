"""What is looked at: files, folders, globs, arrays, tensors, Pillow images, videos; found, and read
in threads ahead of whoever looks."""

import glob
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sightline.data.images import DAMAGED, SUFFIXES, read_image
from sightline.data.video import is_video, read_frames
from sightline.errors import SightlineError
from sightline.pillow import from_pillow
from sightline.shapes import UInt8
from sightline.threads import ahead, helpers
from sightline.types import Moment

Source = str | Path | NDArray[Any] | Tensor | Image.Image
OnError = Callable[[SightlineError], None]

READERS = 4  # threads that decode pictures


class Picture(NamedTuple):
    pixels: UInt8[Tensor, "3 H W"]
    path: str = ""
    moment: Moment | None = None  # of a frame of a video


def find_sources(sources: Source | Iterable[Source]) -> Iterator[Source]:
    """Folders and globs replaced by the picture and video files in them, sorted by name.

    Raises:
        SightlineError: a path that does not exist or cannot be looked at, a folder or glob without
            a picture, or what is neither a path nor a picture.
    """
    if isinstance(sources, str | Path):
        yield from _files(str(sources))
    elif isinstance(sources, np.ndarray | Tensor | Image.Image):
        yield sources
    elif isinstance(sources, Iterable):
        for source in sources:
            yield from find_sources(source)
    else:
        raise SightlineError(
            f"{type(sources).__name__} is no source: give files, folders, globs, arrays, tensors "
            "or Pillow images"
        )


def _files(source: str) -> list[Path]:
    try:
        return _existing(source)
    except OSError as error:
        raise SightlineError(f"cannot read {source}: {error.strerror}") from error


def _existing(source: str) -> list[Path]:
    path = Path(source)
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if _is_looked_at(file))
        if not found:
            raise SightlineError(
                f"no picture in {path}; those in its folders: '{path / '**' / '*.jpg'}'"
            )
        return found
    if path.is_char_device() or path.is_block_device():
        raise SightlineError(f"{source} is a device, not a picture")
    if path.exists():
        return [path]
    if glob.has_magic(source):
        matches = sorted(map(Path, glob.glob(source, recursive=True)))  # noqa: PTH207, any root
        found = [file for file in matches if _is_looked_at(file)]
        if not found:
            raise SightlineError(f"no picture matches {source}")
        return found
    raise SightlineError(f"no such file or folder: {source}")


def _is_looked_at(path: Path) -> bool:
    return (path.suffix.lower() in SUFFIXES or is_video(path)) and path.is_file()


def read_ahead(
    sources: Iterable[Source], count: int, on_error: OnError | None = None
) -> Generator[Picture, None, None]:
    """The picture of each source, every frame of a video, in order: ``count`` are read or being
    read beyond the one asked for. Closing the iterator ends the threads.

    Args:
        on_error: is told of each source that cannot be read, and the others go on; left out, the
            first one raises.
    """
    with helpers(READERS) as several, helpers(1) as one:
        for read in ahead(_begun(sources, several, one), count):
            if isinstance(read, Picture):
                yield read
            elif read is not None:
                if on_error is None:
                    raise read
                on_error(read)


Read = Picture | SightlineError | None  # nothing: after the end of a video


def _begun(sources: Iterable[Source], several: Executor, one: Executor) -> Iterator[Future[Read]]:
    """Pictures are read side by side; the frames of a video can only follow one another."""
    for source in sources:
        if isinstance(source, str | Path) and is_video(source):
            video = _Video(source)
            while not video.ended:
                yield one.submit(video.read)
        else:
            yield several.submit(_read, source)


class _Video:
    """The frames of a video, one for each call, then nothing."""

    def __init__(self, path: str | Path) -> None:
        self.ended = False
        self._path, self._frames = str(path), read_frames(path)

    def read(self) -> Read:
        try:
            for pixels, moment in self._frames:
                return Picture(pixels, self._path, moment)
        except SightlineError as error:
            self.ended = True
            return error
        self.ended = True
        return None


def _read(source: Source) -> Read:
    try:
        if isinstance(source, str | Path):
            return Picture(read_image(source), str(source))
        return Picture(
            _from_image(source) if isinstance(source, Image.Image) else _from_array(source)
        )
    except SightlineError as error:
        return error


def _from_image(image: Image.Image) -> UInt8[Tensor, "3 H W"]:
    """An image that was opened from a file is read from it only now."""
    try:
        return from_pillow(image)
    except DAMAGED as error:
        name = getattr(image, "filename", "") or "a Pillow image"
        raise SightlineError(f"cannot read {name} as a picture: {error}") from error


def _from_array(values: NDArray[Any] | Tensor) -> UInt8[Tensor, "3 H W"]:
    """HxWx3 or HxW as numpy has them, 3xHxW, 1xHxW or HxW as torch has them."""
    shape = "x".join(map(str, values.shape))
    wanted = "HxWx3 or HxW" if isinstance(values, np.ndarray) else "3xHxW or HxW"
    kind = "an array" if isinstance(values, np.ndarray) else "a tensor"
    if isinstance(values, np.ndarray):
        if values.dtype != np.uint8:
            raise SightlineError(f"{kind} of {values.dtype}: bytes (uint8, 0..255) are wanted")
        values = torch.from_numpy(np.ascontiguousarray(values))
        values = values.permute(2, 0, 1) if values.ndim == 3 else values
    if values.dtype != torch.uint8:
        raise SightlineError(f"{kind} of {values.dtype}: bytes (uint8, 0..255) are wanted")
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or len(values) not in (1, 3) or values.numel() == 0:
        raise SightlineError(f"{kind} of shape {shape}: {wanted} is wanted")
    return values.expand(3, -1, -1)
