"""Pictures from files: RGB bytes, upright, whatever the file held.

Decoded by torchcodec where it is installed and knows the format (JPEG, PNG, WebP, AVIF), by Pillow
otherwise. Both give the same picture: turned as the EXIF orientation says, grey and palette
expanded to three channels, an alpha channel dropped (the colours under it stay, as in torchvision
and OpenCV), 16 bits scaled to 8 (65535 becomes 255), CMYK converted, the first frame of many.
"""

import functools
import importlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from sightline.data.records import RecordError
from sightline.errors import SightlineError
from sightline.pillow import from_pillow
from sightline.shapes import UInt8

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg"}
    | {".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
# What Pillow's decoders raise for a damaged file, and what where it says it is of enormous size.
DAMAGED = (
    *(OSError, EOFError, RuntimeError, SyntaxError, ValueError, TypeError, AttributeError),
    *(LookupError, ArithmeticError, AssertionError, struct.error, zlib.error),
)
TOO_LARGE = (Image.DecompressionBombError, MemoryError)
_ORIENTATION = 274  # the EXIF tag
_TURNED = (5, 6, 7, 8)  # orientations that swap height and width


def read_image(path: str | Path) -> UInt8[Tensor, "3 H W"]:
    """The picture in a file.

    Raises:
        SightlineError: the file is missing or holds no picture that can be decoded.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SightlineError(f"cannot read {path}: {error.strerror}") from error
    try:
        return decode_image(data)
    except SightlineError as error:
        raise SightlineError(f"cannot read {path} as a picture: {error}") from error


def decode_image(data: bytes) -> UInt8[Tensor, "3 H W"]:
    """The picture in the bytes of a file.

    Raises:
        SightlineError: neither decoder can read them, or they say they are a picture of more than
            Pillow's limit of 179 million pixels.
    """
    _check_size(data)
    decode = torchcodec_decoder()
    picture = None if decode is None else _try_torchcodec(decode, data)
    return _decode_with_pillow(data) if picture is None else picture


def _check_size(data: bytes) -> None:
    """A few bytes may decode to more than the memory, and torchcodec would try."""
    try:
        Image.open(io.BytesIO(data)).close()
    except TOO_LARGE as error:
        raise SightlineError(str(error)) from error
    except DAMAGED:
        return  # the decoders have their say


@functools.cache
def torchcodec_decoder() -> Callable[..., Any] | None:
    """torchcodec's decoder, or None where it is absent or does not load (importing takes a second).

    The loader calls this before it forks, so that its workers need not import it again.
    """
    try:
        decoders = importlib.import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError):
        return None
    decode: Callable[..., Any] = decoders.decode_image
    return decode


def _try_torchcodec(decode: Callable[..., Any], data: bytes) -> Tensor | None:
    """None where it does not know the format or finds the data corrupt: Pillow then has its say.

    GIFs are left to Pillow: torchcodec paints transparent pixels in the background colour.
    """
    if data.startswith(b"GIF"):
        return None
    try:
        picture: Tensor = decode(data, mode="RGB")
    except (ValueError, RuntimeError):
        return None
    return picture[0] if picture.ndim == 4 else picture


def _decode_with_pillow(data: bytes) -> UInt8[Tensor, "3 H W"]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return from_pillow(image)
    except UnidentifiedImageError as error:
        raise SightlineError("unknown format") from error
    except (*DAMAGED, *TOO_LARGE) as error:
        raise SightlineError(str(error) or repr(error)) from error


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width of the picture in a file, upright, from its header alone.

    Raises:
        RecordError: the file is missing or is no picture.
    """
    kind = "unreadable-picture"
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.format != "TIFF" and _orientation(image) in _TURNED
    except UnidentifiedImageError as error:
        told = f"cannot read {path} as a picture: unknown format"
        raise RecordError(kind, told) from error
    except (*DAMAGED, *TOO_LARGE) as error:
        raise RecordError(kind, f"cannot read {path}: {error}") from error
    return (width, height) if turned else (height, width)


def _orientation(image: Image.Image) -> int:
    """Pillow would decode a whole PNG to look for EXIF data behind the pixels; we do not."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return int(image.getexif().get(_ORIENTATION, 1))
