"""Run-length encoded masks, behind one door: hotcoco where it is installed, else pycocotools.

Both are compiled and give the same bytes. An RLE is ``{"size": [height, width], "counts": bytes}``;
pixels run down the columns.
"""

import contextlib
import functools
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.errors import SightlineError
from sightline.shapes import Bool, Int
from sightline.types import Masks, Polygons, Rle


@functools.cache
def _functions() -> Any:
    for package in ("hotcoco", "pycocotools"):
        with contextlib.suppress(ImportError):
            return import_module(f"{package}.mask")
    raise SightlineError("masks need the package hotcoco: pip install hotcoco")


def encode(maps: Bool[Tensor, "N H W"]) -> list[Rle]:
    if len(maps) == 0:
        return []
    columns = np.asfortranarray(maps.permute(1, 2, 0).to(torch.uint8).cpu().numpy())
    return list(_functions().encode(columns))


def decode(rles: Sequence[Rle], size: tuple[int, int]) -> Bool[Tensor, "N H W"]:
    """``size`` is height, width: that of the maps where there is not one RLE. The maps lie in
    memory column by column, as in the RLE: turning them would cost ten times the decoding."""
    if not rles:
        return torch.zeros(0, *size, dtype=torch.bool)
    maps = _functions().decode(list(rles)).view(np.bool_)
    return torch.from_numpy(maps.transpose(2, 0, 1))


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


def to_rles(masks: Masks, size: tuple[int, int]) -> list[Rle]:
    """Masks of any kind as RLE of a picture of this height and width."""
    if isinstance(masks, Tensor):
        return encode(masks)
    return [mask if isinstance(mask, dict) else from_polygons(mask, size) for mask in masks]


def rasterise(masks: Masks, size: tuple[int, int]) -> Bool[Tensor, "N H W"]:
    """Maps of masks of any kind, in a picture of this height and width."""
    return masks if isinstance(masks, Tensor) else decode(to_rles(masks, size), size)


def areas(rles: Sequence[Rle]) -> Int[Tensor, " N"]:
    """In pixels."""
    return torch.tensor([int(_functions().area(rle)) for rle in rles], dtype=torch.long)
