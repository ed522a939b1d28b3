"""What is in a split, in numbers."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.data.packed import Packed
from sightline.shapes import Float

# Square pixels: COCO's limits between small, medium and large.
_AREAS = {"small": 0.0, "medium": 32.0**2, "large": 96.0**2}
# The side of a square of the box's area, as a share of that of the picture's.
_SHARES = {"under 5 %": 0.0, "5 to 10 %": 0.05, "10 to 20 %": 0.1, "20 to 40 %": 0.2, "over": 0.4}


class Summary(NamedTuple):
    pictures: int
    unlabelled: int  # pictures without things, a map or captions
    things: int
    ignored: int  # crowds, difficult ones
    classes: dict[str, int]  # things of each
    pixels: dict[str, int]  # of each class of the label maps
    areas: dict[str, int]  # boxes by their area, by COCO's limits
    shares: dict[str, int]  # boxes by their side relative to the picture's


def summarise(data: Packed, unlabelled: Sequence[int], pixels: Mapping[int, int]) -> Summary:
    """``unlabelled`` are pictures, ``pixels`` those of each label in the label maps."""
    numbers = data.spans[:, 1] - data.spans[:, 0]
    rows = torch.cat([torch.arange(a, b) for a, b in data.spans.tolist()] or [data.labels[:0]])
    sides = data.boxes[rows, 2:] - data.boxes[rows, :2]
    area = sides.prod(1)
    whole = data.sizes.prod(1).repeat_interleave(numbers)
    counts = data.labels[rows].bincount(minlength=len(data.classes)).tolist()
    return Summary(
        pictures=len(data),
        unlabelled=len(unlabelled),
        things=len(rows),
        ignored=int(data.ignore[rows].sum()),
        classes=dict(zip(data.classes.names, counts, strict=True)),
        pixels={name: pixels[label] for label, name in enumerate(_of_maps(data))},
        areas=_histogram(area, _AREAS),
        shares=_histogram((area / whole).sqrt(), _SHARES),
    )


def _of_maps(data: Packed) -> tuple[str, ...]:
    """The classes that label maps count: the stuff after the things; none where there are none."""
    return () if data.semantic is None else (*data.classes.names, *data.classes.stuff)


def _histogram(values: Float[Tensor, " N"], bins: dict[str, float]) -> dict[str, int]:
    """How many values are in each bin, which reaches from its lower limit to the next."""
    limits = torch.tensor(list(bins.values())[1:])
    counts = torch.bucketize(values, limits, right=True).bincount(minlength=len(bins)).tolist()
    return dict(zip(bins, counts, strict=True))
