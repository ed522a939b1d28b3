"""Suppression of duplicates in fixed shapes: the tail that every detector ends in.

Answers keep one shape from the network to the end: a slot whose score is ``EMPTY`` holds nothing.
The slots are trimmed to a ragged list only by ``to_scenes``, outside the graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.shapes import Float, Int, Shaped
from sightline.types import Instances, Placement, Scene

EMPTY = -1.0


@dataclass(frozen=True)
class Selection:
    """Which answers a detector gives.

    ``by`` "class": each class of each region is a candidate of its own, scored by that class.
    ``by`` "background": a region is one candidate, scored by how little it looks like background,
    1 - P(background), and named after its best class; the ``top`` least background-like are kept.
    Only a model whose ``by_background`` is true selects so.
    """

    score: float = 0.05  # answers scored at most this are dropped
    iou: float = 0.5  # of two answers of one class that overlap more, the better stays
    top: int = 100  # answers a picture, at most
    candidates: int = 4096  # the best so many enter the suppression
    by: Literal["class", "background"] = "class"


class Detections(NamedTuple):
    """D slots a picture, best first; a slot with score -1 is empty."""

    boxes: Float[Tensor, "B D 4"]
    scores: Float[Tensor, "B D"]
    labels: Int[Tensor, "B D"]


def take(values: Shaped[Tensor, "B N *rest"], index: Int[Tensor, "B K"]) -> Tensor:
    """For each picture the rows that its index names: [B, K, ...]; zeros where there are none, as
    the empty slots of ``top`` point at a row nevertheless."""
    rest = values.shape[2:]
    if values.shape[1] == 0:
        return values.new_zeros(*index.shape, *rest)
    index = index.reshape(*index.shape, *(1 for _ in rest)).expand(*index.shape, *rest)
    return values.gather(1, index)


def top(
    scores: Float[Tensor, "B N"], count: int, empty: float = EMPTY
) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
    """The ``count`` best of each picture and where they are, best first. Where there are fewer, the
    slots after them are ``empty`` (which must be below all that counts) and point at row 0."""
    rows = scores.shape[1]
    padded = F.pad(scores, (0, count), value=empty)
    best, index = padded.topk(count, dim=1)
    return best, torch.where(index < rows, index, 0)


def top_pairs(
    scores: Float[Tensor, "B N C"], count: int
) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"], Int[Tensor, "B K"]]:
    """The ``count`` best pairs of a row and a class: scores, rows and classes. They lie in the
    ``count`` rows whose best class is best, so that the others need not be sorted."""
    best, row = top(scores.amax(dim=2), count)
    inside = torch.where(best[..., None] > EMPTY, take(scores, row), EMPTY)
    kept, pair = top(inside.flatten(1), count)
    return kept, take(row, pair // scores.shape[2]), pair % scores.shape[2]


@torch.library.custom_op("sightline::nms_mask", mutates_args=())
def _nms_mask(boxes: Tensor, scores: Tensor, groups: Tensor, kinds: int, iou: float) -> Tensor:
    from torchvision.ops import batched_nms

    mask = torch.zeros_like(scores, dtype=torch.bool)
    for kept, box, score, group in zip(mask, boxes, scores, groups, strict=True):
        filled = (score > EMPTY).nonzero().flatten()
        keep = batched_nms(box[filled].float(), score[filled].float(), group[filled], iou)
        kept[filled[keep]] = True
    return mask


@_nms_mask.register_fake
def _(boxes: Tensor, scores: Tensor, groups: Tensor, kinds: int, iou: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def suppress(
    boxes: Float[Tensor, "B N 4"],
    scores: Float[Tensor, "B N"],
    groups: Int[Tensor, "B N"],
    kinds: int,
    iou: float,
) -> Float[Tensor, "B N"]:
    """Greedy suppression: the scores, EMPTY for a box that overlaps a better one of its group and
    picture by more than ``iou``. Empty slots take no part. Groups are 0 to ``kinds`` - 1."""
    keep = _nms_mask(boxes.detach(), scores.detach(), groups, kinds, iou)
    return torch.where(keep, scores, EMPTY)


def finish(
    boxes: Float[Tensor, "B N 4"],
    scores: Float[Tensor, "B N"],
    labels: Int[Tensor, "B N"],
    classes: int,
    selection: Selection,
) -> Detections:
    """Suppression per class and the best of what is left: N candidates in, D slots out."""
    scores, index = top(suppress(boxes, scores, labels, classes, selection.iou), selection.top)
    return Detections(take(boxes, index), scores, take(labels, index))


def to_scenes(detections: Detections, placements: Sequence[Placement]) -> list[Scene]:
    """Without the empty slots, in the pixels of the original pictures."""
    scenes = []
    for boxes, scores, labels, place in zip(*detections[:3], placements, strict=True):
        filled = scores > EMPTY
        things = Instances(place.boxes_back(boxes[filled]), labels[filled], scores[filled])
        scenes.append(Scene(size=place.original, things=things))
    return scenes
