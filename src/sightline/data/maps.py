"""Maps of numbers in picture files: what classes, segments or things the pixels show."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from sightline.data.images import DAMAGED, TOO_LARGE
from sightline.data.records import RecordError
from sightline.data.strings import Strings
from sightline.errors import SightlineError
from sightline.shapes import Int
from sightline.types import UNLABELLED, Panoptic, Segment

Numbers = NDArray[np.int64]
_SHOWN = 5  # values named in an error


@dataclass(frozen=True, eq=False)
class PackedLabels:
    """The label map of each picture: a file that is read when it is asked for."""

    paths: Strings  # relative to the root; empty where a picture has none: all is unlabelled
    values: Int[Tensor, " V"]  # in the files, sorted
    labels: Int[Tensor, " V"]  # what each stands for

    def map(self, index: int, root: str, size: tuple[int, int]) -> Int[Tensor, "H W"]:
        path = self.paths[index]
        if not path:
            return torch.full(size, UNLABELLED)
        return read_labels(Path(root, path), size, self.values, self.labels)

    def take(self, rows: Int[Tensor, " J"]) -> "PackedLabels":
        return replace(self, paths=self.paths.take(rows))


@dataclass(frozen=True, eq=False)
class PackedPanoptic:
    """The panoptic map of each picture, a file that is read when it is asked for, and what its
    segments are."""

    paths: Strings  # relative to the root; empty where a picture has none: all is void
    spans: Int[Tensor, "I 2"]  # of each picture among the segments
    segments: Int[Tensor, "S 4"]  # id, label, thing, ignore

    def map(self, index: int, root: str, size: tuple[int, int]) -> Panoptic:
        path = self.paths[index]
        if not path:
            return Panoptic(torch.zeros(size, dtype=torch.long), [])
        first, last = self.spans[index].tolist()
        segments = [
            Segment(number, label, bool(thing), ignore=bool(ignore))
            for number, label, thing, ignore in self.segments[first:last].tolist()
        ]
        return read_panoptic(Path(root, path), size, segments)

    def take(self, rows: Int[Tensor, " J"]) -> "PackedPanoptic":
        return replace(self, paths=self.paths.take(rows), spans=self.spans[rows])


def read_numbers(path: str | Path) -> Numbers:
    """The number in each pixel, height by width: grey values and palette entries as they stand, 8
    or 16 bits; a colour is red + 256 green + 65536 blue, as in COCO's panoptic maps.

    Raises:
        RecordError: the file is missing or holds no picture that can be decoded.
    """
    try:
        with Image.open(path) as image:
            single = len(image.getbands()) == 1 and image.mode != "F"
            pixels = np.asarray(image if single else image.convert("RGB")).astype(np.int64)
    except UnidentifiedImageError as error:
        told = f"cannot read {path} as a picture: unknown format"
        raise RecordError("unreadable-map", told) from error
    except (*DAMAGED, *TOO_LARGE) as error:
        raise RecordError("unreadable-map", f"cannot read {path}: {error}") from error
    if pixels.ndim == 2:
        return pixels
    red, green, blue = pixels.transpose(2, 0, 1)
    return red + 256 * green + 65536 * blue


def read_labels(
    path: Path, size: tuple[int, int], values: Int[Tensor, " V"], labels: Int[Tensor, " V"]
) -> Int[Tensor, "H W"]:
    """A label map: each of the sorted ``values`` in the file replaced by its label.

    Raises:
        SightlineError: the file cannot be read, is not of this size, or holds another value.
    """
    numbers = read_sized(path, size)
    places = _places(numbers, values.numpy(), f"{path} holds values that stand for no class")
    return torch.from_numpy(labels.numpy()[places])


def read_panoptic(path: Path, size: tuple[int, int], segments: list[Segment]) -> Panoptic:
    """A map of segment ids; what belongs to no listed segment must be void, 0.

    Raises:
        SightlineError: the file cannot be read, is not of this size, or holds another id.
    """
    numbers = read_sized(path, size)
    listed = np.array(sorted({0, *(segment.id for segment in segments)}))
    _places(numbers, listed, f"{path} holds segments that are not listed")
    return Panoptic(torch.from_numpy(numbers), segments)


def _places(numbers: Numbers, listed: Numbers, otherwise: str) -> Numbers:
    """Where each number stands in a sorted list. (In numpy: torch takes five times as long.)"""
    places = np.searchsorted(listed, numbers).clip(max=len(listed) - 1)
    strange = listed[places] != numbers
    if strange.any():
        found = np.unique(numbers[strange]).tolist()
        told = ", ".join(map(str, found[:_SHOWN])) + (", ..." if len(found) > _SHOWN else "")
        raise SightlineError(f"{otherwise}: {told}")
    return places


def read_sized(path: Path, size: tuple[int, int]) -> Numbers:
    """As ``read_numbers``, of a picture of this height and width.

    Raises:
        SightlineError: also, the map is of another size.
    """
    numbers = read_numbers(path)
    if numbers.shape != size:
        height, width = numbers.shape
        raise SightlineError(f"{path} is {width}x{height}, its picture {size[1]}x{size[0]}")
    return numbers
