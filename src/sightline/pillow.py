"""Pillow images as the library takes them: for whatever reads pictures and whatever draws them."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from sightline.errors import SightlineError
from sightline.shapes import UInt8


def from_pillow(image: Image.Image) -> UInt8[Tensor, "3 H W"]:
    """A Pillow image of any mode as RGB bytes, turned as its EXIF orientation says.

    Raises:
        SightlineError: pixels without a known range (floating point, or integers above 16 bits).
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise SightlineError("floating point pixels have no known range: save it as 8 or 16 bits")
    if image.mode.startswith("I"):
        return _from_16_bits(np.asarray(image))
    pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _from_16_bits(values: NDArray[np.integer]) -> Tensor:
    if values.min() < 0 or values.max() > 65535:
        raise SightlineError("its pixels are outside 0..65535: save it as 8 or 16 bits")
    grey = np.rint(values / 257).astype(np.uint8)
    return torch.from_numpy(grey).expand(3, -1, -1).contiguous()
