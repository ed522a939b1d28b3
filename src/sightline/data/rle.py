"""COCO's run-length encoded masks, behind one door: hotcoco if it is there, else pycocotools.

Both are compiled and give the same bytes. An RLE is ``{"size": [height, width], "counts": bytes}``;
pixels run down the columns.
"""

import functools
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.errors import SightlineError
from sightline.shapes import Bool
from sightline.types import Polygons, Rle


@functools.cache
def _functions() -> Any:
    for package in ("hotcoco", "pycocotools"):
        try:
            return importlib.import_module(f"{package}.mask")
        except ImportError:
            continue
    raise SightlineError("masks need hotcoco: pip install hotcoco")


def encode(maps: Bool[Tensor, "N H W"]) -> list[Rle]:
    if len(maps) == 0:
        return []
    columns = np.asfortranarray(maps.permute(1, 2, 0).to(torch.uint8).numpy())
    return list(_functions().encode(columns))


def decode(rles: Sequence[Rle], size: tuple[int, int] = (0, 0)) -> Bool[Tensor, "N H W"]:
    """Maps; ``size`` (height, width) is theirs where there is not one RLE."""
    if not rles:
        return torch.zeros(0, *size, dtype=torch.bool)
    maps = torch.from_numpy(
        np.ascontiguousarray(_functions().decode(list(rles)).transpose(2, 0, 1))
    )
    return maps.bool()


def from_polygons(polygons: Polygons, size: tuple[int, int]) -> Rle:
    """The union of the polygons, each of three points or more, as pycocotools rasterises them."""
    flat = [polygon.flatten().tolist() for polygon in polygons]
    if not flat:
        return empty(size)
    functions = _functions()
    return dict(functions.merge(functions.frPyObjects(flat, *size)))


def from_counts(counts: Sequence[int], size: tuple[int, int]) -> Rle:
    """An uncompressed RLE's list of run lengths, compressed."""
    rle = {"size": list(size), "counts": list(counts)}
    return dict(_functions().frPyObjects(rle, *size))


def empty(size: tuple[int, int]) -> Rle:
    return encode(torch.zeros(1, *size, dtype=torch.bool))[0]


def rasterise(masks: Sequence[Rle | Polygons], size: tuple[int, int]) -> Bool[Tensor, "N H W"]:
    """Maps of masks of either kind, in a picture of this height and width."""
    rles = [mask if isinstance(mask, dict) else from_polygons(mask, size) for mask in masks]
    return decode(rles, size)


def area(rle: Rle) -> int:
    """Pixels covered."""
    return int(_functions().area(rle))


def box(rle: Rle) -> tuple[float, float, float, float]:
    """The tight box, xyxy; all zero where the mask is empty."""
    x, y, width, height = (float(value) for value in _functions().toBbox(rle))
    return x, y, x + width, y + height
