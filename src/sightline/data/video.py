"""Videos: frames read one after another and written so, through PyAV (the extra ``video``)."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sightline.errors import SightlineError
from sightline.shapes import UInt8
from sightline.types import Moment

SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})

_WHOLE = 0.9  # of the length that a file declares: sound may last longer than the frames
_TICKS = 60_000  # a second, or a few fewer: MPEG-4 counts to 65,535
# H.264 first. Options: quick, and so good that names drawn in stay readable.
_CODECS = {
    "libx264": {"preset": "veryfast", "crf": "20"},
    "libopenh264": {},
    "mpeg4": {"flags": "+qscale", "global_quality": str(3 * 118)},  # 3 of 1..31, in FFmpeg's unit
}


def is_video(path: str | Path) -> bool:
    """By its suffix."""
    return Path(path).suffix.lower() in SUFFIXES


def check_video(path: str | Path) -> None:
    """Before work that ends in reading it.

    Raises:
        SightlineError: PyAV is not installed.
    """
    _pyav(path)


def read_frames(path: str | Path) -> Iterator[tuple[UInt8[Tensor, "3 H W"], Moment]]:
    """The frames of a video as it is shown: RGB, turned upright as the file says.

    Raises:
        SightlineError: PyAV is not installed, or the file is missing, holds no video, or is damaged
            or cut short; the frames before that have been given.
    """
    av = _pyav(path)
    try:
        # Without the prefix a name such as tcp:x.mp4 would be a place to connect to.
        with av.open(f"file:{path}") as container:
            stream = container.streams.best("video")
            if stream is None:
                raise SightlineError(f"{path} holds no video")
            yield from _frames(container, stream, path)
    except av.FFmpegError as error:
        raise SightlineError(f"cannot read {path} as a video: {error.strerror}") from error


def _frames(container: Any, stream: Any, path: str | Path) -> Iterator[tuple[Tensor, Moment]]:
    stream.thread_type = "AUTO"
    lasts = float(1 / (stream.average_rate or 25))  # seconds a frame
    declared = _declared(container, stream)
    first, count, end = 0.0, 0, 0.0
    for frame in container.decode(stream):
        time = count * lasts if frame.time is None else float(frame.time)
        first = time if count == 0 else first
        yield _upright(frame), Moment(count, time - first)
        count, end = count + 1, time + lasts
    # Both, where both are known: the last frame may be shown for long, and what an editor cut off
    # is still counted among the frames.
    few = stream.frames == 0 or count < _WHOLE * stream.frames
    if count == 0 or (few and end < _WHOLE * declared):
        raise SightlineError(
            f"{path} is cut short: {end:.1f} of {declared:.1f} seconds could be read"
        )


def _declared(container: Any, stream: Any) -> float:
    """How long a file says it lasts, in seconds: 0 where it does not. The video's own length counts
    what an editor cut off, the file's that of the sound: the shorter one holds."""
    known = []
    if container.duration is not None:
        known.append(container.duration / 1e6)
    if stream.duration is not None:
        known.append(float(stream.duration * stream.time_base))
    return min(known, default=0.0)


def _upright(frame: Any) -> UInt8[Tensor, "3 H W"]:
    turns = round(frame.rotation / 90)  # counterclockwise, as numpy turns
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), turns)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def frame_rate(path: str | Path) -> Fraction:
    """Frames a second, on average.

    Raises:
        SightlineError: as in ``read_frames``.
    """
    av = _pyav(path)
    try:
        with av.open(f"file:{path}") as container:
            return container.streams.best("video").average_rate or Fraction(25)
    except av.FFmpegError as error:
        raise SightlineError(f"cannot read {path} as a video: {error.strerror}") from error


@contextmanager
def write_frames(
    path: Path, rate: Fraction, size: tuple[int, int]
) -> Iterator[Callable[[Image.Image, float], None]]:
    """A new video without sound; gives what adds a picture to it, shown from so many seconds on.

    H.264 where PyAV has an encoder for it and both sides are even, as it demands; else MPEG-4.

    Args:
        rate: pictures a second.
        size: width and height.

    Raises:
        SightlineError: PyAV is not installed.
        OSError: the file cannot be written.
    """
    av = _pyav(path)
    rate = rate.limit_denominator(max(1, int(_TICKS / rate)))
    tick = Fraction(1, rate.numerator * max(1, _TICKS // rate.numerator))  # a frame lasts some
    try:
        with av.open(f"file:{path}", "w") as container:
            stream = _add_stream(av, container, rate, size)
            stream.time_base = stream.codec_context.time_base = tick
            shown = -1

            def add(picture: Image.Image, seconds: float) -> None:
                nonlocal shown
                frame = av.VideoFrame.from_image(picture)
                shown = max(shown + 1, round(seconds / tick))  # damaged files go back in time
                frame.pts, frame.time_base = shown, tick
                container.mux(stream.encode(frame))

            yield add
            container.mux(stream.encode())
    except av.FFmpegError as error:
        raise OSError(error.strerror) from error


def _add_stream(av: Any, container: Any, rate: Fraction, size: tuple[int, int]) -> Any:
    there = [name for name in _CODECS if name in av.codecs_available]
    codec = there[0] if all(side % 2 == 0 for side in size) else "mpeg4"
    stream = container.add_stream(codec, rate=rate, options=_CODECS[codec])
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    return stream


def _pyav(path: str | Path) -> Any:
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise SightlineError(
            f"{path}: videos need the package av: pip install 'sightline[video]'"
        ) from error
