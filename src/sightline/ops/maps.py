"""Label maps: what the logits of every pixel are charged, and the map they make of a picture."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.shapes import Float, Int
from sightline.types import UNLABELLED, Loss, Placement, Scene

_AT_ONCE = 1 << 26  # numbers that are resized together


def pixel_cross_entropy(
    logits: Float[Tensor, "B C H W"],
    targets: Sequence[Scene],
    weights: Float[Tensor, " C"] | None = None,
) -> Loss:
    """Summed over the labelled pixels, over their number. ``weights`` say how much a pixel of each
    class counts."""
    true = torch.stack([_map_of(scene) for scene in targets])
    # Summed here: on a GPU the sum inside draws another last digit each time.
    each = F.cross_entropy(logits, true, weights, ignore_index=UNLABELLED, reduction="none")
    return Loss(each.sum(), (true != UNLABELLED).sum().to(each.dtype))


def _map_of(scene: Scene) -> Int[Tensor, "H W"]:
    """Raises:
    ValueError: the scene has no map.
    """
    if scene.semantic is None:
        raise ValueError(f"{scene.path or 'a target'} has no label map to learn from")
    return scene.semantic.long()


def to_maps(logits: Float[Tensor, "B C H W"], placements: Sequence[Placement]) -> list[Scene]:
    """The likeliest label of every pixel of the original pictures. The logits are resized, not the
    labels: edges stay as smooth as the model sees them."""
    scenes = []
    for each, place in zip(logits, placements, strict=True):
        top, left = place.offset
        inside = each[:, top : top + place.size[0], left : left + place.size[1]]
        scenes.append(Scene(place.original, semantic=_likeliest(inside, place.original)))
    return scenes


def _likeliest(logits: Float[Tensor, "C h w"], size: tuple[int, int]) -> Int[Tensor, "H W"]:
    """Some classes at a time: all of a large photo's would fill the memory."""
    step = max(1, _AT_ONCE // (size[0] * size[1]))
    best, labels = _best(logits[:step], size)
    for first in range(step, len(logits), step):
        other, found = _best(logits[first : first + step], size)
        better = other > best
        best = torch.where(better, other, best)
        labels = torch.where(better, found + first, labels)
    return labels


def _best(logits: Float[Tensor, "C h w"], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    if tuple(logits.shape[-2:]) != tuple(size):
        logits = F.interpolate(logits[None], size=size, mode="bilinear")[0]
    best, labels = logits.max(dim=0)
    return best, labels
