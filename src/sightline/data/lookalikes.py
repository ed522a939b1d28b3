"""Pictures decoded to see whether they are whole, of what size, and the same as one another."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sightline.data.images import decode_image, read_image, torchcodec_decoder
from sightline.data.sources import READERS
from sightline.errors import SightlineError
from sightline.shapes import UInt8
from sightline.threads import ahead, helpers

_SIDE = 16  # cells of a thumbnail on a side
_NEAR = 3.0  # root mean square difference of two thumbnails, in grey levels of 255
_CONTRAST = 10.0  # grey levels: flatter thumbnails resemble one another for no reason
_BLOCK = 256  # thumbnails compared at a time with all others
_LOST = 128  # what decoders fill in for what is missing of a JPEG
_ROWS = 8  # the height of a JPEG's blocks
_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
_END = b"\xff\xd9"  # the marker at the end of a JPEG
_MORE = b"\x55" * 64  # some coefficients


class Look(NamedTuple):
    """What one look at a picture tells."""

    size: tuple[int, int] = (0, 0)  # height, width, upright
    digest: bytes = b""  # of size and pixels
    thumbnail: NDArray[np.float32] = np.zeros(0, np.float32)  # grey, flat
    lost: int = 0  # rows at the bottom that are missing
    error: str = ""  # why it cannot be decoded


def look_at(paths: Iterable[Path]) -> dict[Path, Look]:
    """Every picture once, decoded in threads."""
    once = list(dict.fromkeys(paths))
    torchcodec_decoder()  # imported once, before the threads ask for it
    with helpers(READERS) as pool:
        begun = (pool.submit(_look, path) for path in once)
        return dict(zip(once, ahead(begun, 2 * READERS), strict=True))


def _look(path: Path) -> Look:
    try:
        picture = read_image(path)
    except SightlineError as error:
        told = str(error).removeprefix(f"cannot read {path}").removeprefix(" as a picture")
        return Look(error=told.lstrip(": "))
    height, width = picture.shape[1:]
    digest = hashlib.blake2b(f"{height}x{width}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(picture.permute(1, 2, 0).numpy()).data)
    return Look((height, width), digest.digest(), _thumbnail(picture), _lost_rows(picture, path))


def _thumbnail(picture: UInt8[Tensor, "3 H W"]) -> NDArray[np.float32]:
    """16 x 16 weighted means: the same for a picture of another size."""
    cells = F.interpolate(picture[None], (_SIDE, _SIDE), mode="bilinear", antialias=True)
    return cells[0].float().mean(0).flatten().numpy()


def _lost_rows(picture: UInt8[Tensor, "3 H W"], path: Path) -> int:
    """Where a JPEG ends properly but too early, decoders fill the rest with one grey. If it was
    painted in that grey, more data before its end make no difference."""
    if path.suffix.lower() not in _JPEG or not (picture[:, -_ROWS:] == _LOST).all():
        return 0
    data = path.read_bytes()
    end = data.rfind(_END)
    try:
        if decode_image(data[:end] + _MORE + data[end:]).equal(picture):
            return 0
    except SightlineError:
        return 0  # nothing can be said
    whole = (picture != _LOST).any(0).any(1).nonzero()
    return picture.shape[1] - (int(whole.max()) + 1 if len(whole) else 0)


def same(looks: Sequence[Look]) -> Iterator[list[int]]:
    """The places of pictures that are the same pixel by pixel, two or more together."""
    groups: dict[bytes, list[int]] = {}
    for place, look in enumerate(looks):
        groups.setdefault(look.digest, []).append(place)
    return (places for places in groups.values() if len(places) > 1)


def nearly_same(looks: Sequence[Look]) -> Iterator[tuple[int, int]]:
    """For each picture that is nearly the same as one before it, though not pixel by pixel, its
    place after that of the nearest: saved anew, resized, a little brighter, the next frame."""
    if not looks:
        return
    thumbnails = np.stack([look.thumbnail for look in looks])
    contrast = thumbnails.std(axis=1) > _CONTRAST
    norms = (thumbnails**2).mean(axis=1)
    for first in range(0, len(looks), _BLOCK):
        rows = slice(first, first + _BLOCK)
        earlier = thumbnails[: first + _BLOCK]
        products = thumbnails[rows] @ earlier.T / thumbnails.shape[1]
        squares = norms[rows, None] + norms[: len(earlier)] - 2 * products
        for place, row in enumerate(squares, first):
            found = np.flatnonzero((row[:place] < _NEAR**2) & contrast[:place])
            near: list[int] = found.tolist()
            others = [n for n in near if looks[n].digest != looks[place].digest]
            if contrast[place] and others:
                yield min(others, key=row.__getitem__), place
