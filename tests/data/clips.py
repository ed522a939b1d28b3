"""Small videos for tests, written by PyAV itself and not by the code that is tested."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

RATE = Fraction(25)


def write_clip(
    path: Path,
    pictures: Sequence[Tensor],
    rate: Fraction = RATE,
    codec: str = "mpeg4",
    shown: Sequence[int] | None = None,
    **options: str,
) -> Path:
    """Pictures [3, H, W] of one size; ``shown`` has the moment of each in 1 / rate seconds."""
    import av

    height, width = pictures[0].shape[1:]
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 2_000_000  # colours stay close
        for number, picture in enumerate(pictures):
            pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number if shown is None else shown[number]
            frame.time_base = 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    """A file of sound alone."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.float32), "fltp", "mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn(path: Path, matrix: Sequence[int]) -> None:
    """Let an MP4 be shown turned. In the track's header, 40 bytes after the name of the box, stands
    a matrix of nine 32-bit numbers, (a b u, c d v, x y w); a, b, c, d are given here and take
    (x, y) to (ax + cy, bx + dy), y downwards."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    for place, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[at + place : at + place + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
