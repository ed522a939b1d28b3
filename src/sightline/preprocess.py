"""From pictures of any size to a batch: resize rule, channel order, mean and deviation, padding.

A model owns its ``Preprocess``; it is saved with the weights, so that a checkpoint is used right by
whoever loads it, whichever library it came from.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import SightlineError
from sightline.shapes import Float, UInt8
from sightline.types import Images, Placement

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# What the ResNets of MSRA see: bytes, blue first, less their mean (Caffe's, and Detectron2's).
MSRA_PIXELS: dict[str, Any] = {
    "mean": (103.53 / 255, 116.28 / 255, 123.675 / 255),
    "std": (1 / 255, 1 / 255, 1 / 255),
    "channels": "bgr",
}
LARGEST = 1 << 16  # pixels on a side


@runtime_checkable
class Preparing(Protocol):
    """What makes a batch of pictures: a ``Preprocess``, or what leaves that to several models."""

    def size(self, height: int, width: int) -> tuple[int, int]: ...

    def canvas(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]: ...

    def __call__(
        self, pictures: Sequence[UInt8[Tensor, "3 _ _"]]
    ) -> tuple[Any, list[Placement]]: ...


@dataclass(frozen=True)
class Preprocess:
    """Either ``fixed`` (height, width: the picture is stretched), or the short side is brought to
    ``short`` unless the long side would pass ``long``; with neither, the size stays.

    ``mean`` and ``std`` are for values in 0..1, in the order of ``channels``.
    ``resize`` "bytes" rounds the size and resizes the bytes (fast); "torchvision" does as
    torchvision's detection models do: the size rounded down (640 columns scaled by 5/3 become
    1066), the picture normalised first and resized then; "bytes_down" as its segmentation models
    do with tensors: the size rounded down, the bytes resized and each rounded once.

    Raises:
        SightlineError: a size below one pixel or beyond any picture's, means or deviations that
            are none.
    """

    short: int | None = 800
    long: int | None = 1333
    fixed: tuple[int, int] | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    channels: Literal["rgb", "bgr"] = "rgb"
    multiple: int = 32
    antialias: bool = True
    resize: Literal["bytes", "bytes_down", "torchvision"] = "bytes"

    def __post_init__(self) -> None:
        sides = {"short": self.short, "long": self.long, "multiple": self.multiple}
        if self.fixed is not None:
            sides |= {"height": self.fixed[0], "width": self.fixed[1]}
        for name, pixels in sides.items():
            if pixels is not None and not 1 <= pixels <= LARGEST:
                raise SightlineError(
                    f"pictures cannot be resized to {name} {pixels}: 1 to {LARGEST}"
                )
        if len(self.mean) != 3 or not all(map(math.isfinite, self.mean)):
            raise SightlineError(f"pictures have three finite means, not {self.mean}")
        if len(self.std) != 3 or not all(0 < value < math.inf for value in self.std):
            raise SightlineError(f"pictures have three deviations above 0, not {self.std}")
        if self.channels not in ("rgb", "bgr") or self.resize not in (
            "bytes",
            "bytes_down",
            "torchvision",
        ):
            raise SightlineError(f"unknown channels {self.channels} or resize {self.resize}")

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width a picture is scaled to; never less than one pixel."""
        if self.fixed is not None:
            return self.fixed
        if self.short is None:
            return height, width
        scale = self.short / min(height, width)
        if self.long is not None:
            scale = min(scale, self.long / max(height, width))
        if self.resize != "bytes":
            return max(1, math.floor(height * scale)), max(1, math.floor(width * scale))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def scaled(self, factor: float) -> "Preprocess":
        """To look at pictures so many times as large.

        Raises:
            SightlineError: their size is not ours to choose.
        """
        if factor == 1:
            return self
        if self.fixed is not None or self.short is None:
            kept = "one size" if self.fixed is not None else "the size they have"
            raise SightlineError(f"this model takes pictures of {kept}: no other scale is possible")
        long = None if self.long is None else round(self.long * factor)
        return replace(self, short=round(self.short * factor), long=long)

    def __call__(
        self, pictures: Sequence[UInt8[Tensor, "3 _ _"]]
    ) -> tuple[Images, list[Placement]]:
        """RGB bytes in; a padded batch and how each picture was placed in it out."""
        placements = [
            Placement(original=_size(picture), size=self.size(*_size(picture)))
            for picture in pictures
        ]
        height, width = self.canvas([place.size for place in placements])
        shape = len(pictures), 3, height, width
        pixels = torch.empty(shape, dtype=torch.float32, device=pictures[0].device)
        for row, picture, place in zip(pixels, pictures, placements, strict=True):
            self._put(picture, row[:, : place.size[0], : place.size[1]])
            row[:, place.size[0] :] = 0
            row[:, : place.size[0], place.size[1] :] = 0
        sizes = torch.tensor([place.size for place in placements], device=pixels.device)
        return Images(pixels, sizes), placements

    def canvas(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Height and width of the batch that holds these sizes: the largest, rounded up."""
        height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
        step = self.multiple
        return -(-height // step) * step, -(-width // step) * step

    def _put(self, picture: UInt8[Tensor, "3 _ _"], place: Float[Tensor, "3 _ _"]) -> None:
        """The picture, normalised, as large as its place in the batch. It is written there at once:
        new memory of the size of a batch costs more time than the arithmetic."""
        if self.resize != "torchvision" or _size(picture) == _size(place):
            self._normalise(self._resize(picture, _size(place)), place)
        else:
            normalised = torch.empty(picture.shape, dtype=place.dtype, device=place.device)
            self._normalise(picture, normalised)
            place.copy_(self._resize(normalised, _size(place)))

    def _resize(self, picture: Tensor, size: tuple[int, int]) -> Tensor:
        if _size(picture) == size:
            return picture
        fast = self.resize == "bytes" and picture.device.type == "cpu"
        if picture.dtype == torch.uint8 and not fast:
            return self._interpolate(picture.float(), size).round().clamp(0, 255).byte()
        return self._interpolate(picture, size)

    def _interpolate(self, picture: Tensor, size: tuple[int, int]) -> Tensor:
        """Of bytes on a CPU alone, where they are rounded after the columns and after the rows:
        PyTorch has no such kernel elsewhere."""
        return F.interpolate(
            picture[None], size=size, mode="bilinear", align_corners=False, antialias=self.antialias
        )[0]

    def _normalise(self, picture: UInt8[Tensor, "3 H W"], into: Float[Tensor, "3 H W"]) -> None:
        if self.channels == "bgr":
            picture = picture.flip(0)
        mean = torch.tensor(self.mean, device=picture.device)[:, None, None]
        std = torch.tensor(self.std, device=picture.device)[:, None, None]
        torch.div(picture, 255, out=into)
        into.sub_(mean).div_(std)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Preprocess":
        """The inverse of ``to_json``, through JSON or not.

        Raises:
            SightlineError: a field that this version does not know.
        """
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise SightlineError(f"preprocessing has unknown fields: {', '.join(sorted(unknown))}")
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)


def _size(picture: Tensor) -> tuple[int, int]:
    return picture.shape[-2], picture.shape[-1]
