"""Boxes: formats, areas, overlaps, clipping, and the deltas that carry an anchor onto a box.

A box is x1, y1, x2, y2 in pixels, in continuous coordinates: its width is ``x2 - x1``. A box of
zero or negative width or height has area 0 and overlaps nothing.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.shapes import Bool, Float, Int, Shaped

# The largest factor by which a delta may stretch a box: 1000 pixels from a 16-pixel cell. It keeps
# exp() finite on untrained weights.
MAX_LOG_SCALE = math.log(1000 / 16)


def from_xywh(boxes: Shaped[Tensor, "*N 4"]) -> Shaped[Tensor, "*N 4"]:
    """From left, top, width, height (COCO's files)."""
    corner, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([corner, corner + size], dim=-1)


def to_xywh(boxes: Shaped[Tensor, "*N 4"]) -> Shaped[Tensor, "*N 4"]:
    """To left, top, width, height."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], dim=-1)


def from_cxcywh(boxes: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N 4"]:
    """From centre x, centre y, width, height."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def to_cxcywh(boxes: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N 4"]:
    """To centre x, centre y, width, height."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def area(boxes: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N"]:
    """In square pixels; 0 for a box turned inside out."""
    width, height = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).unbind(-1)
    return width * height


def intersection(a: Float[Tensor, "*B N 4"], b: Float[Tensor, "*B M 4"]) -> Float[Tensor, "*B N M"]:
    """The area that each pair shares."""
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    width, height = (high - low).clamp(min=0).unbind(-1)
    return width * height


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, and 0 where there is no whole."""
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1), 0)


def iou(a: Float[Tensor, "*B N 4"], b: Float[Tensor, "*B M 4"]) -> Float[Tensor, "*B N M"]:
    """Intersection over union of each pair, 0..1."""
    shared = intersection(a, b)
    return _ratio(shared, area(a)[..., :, None] + area(b)[..., None, :] - shared)


def coverage(a: Float[Tensor, "*B N 4"], b: Float[Tensor, "*B M 4"]) -> Float[Tensor, "*B N M"]:
    """The share of each box of ``a`` that each box of ``b`` covers, 0..1: how deep a candidate lies
    in an ignore region."""
    return _ratio(intersection(a, b), area(a)[..., :, None])


def giou(a: Float[Tensor, "*B N 4"], b: Float[Tensor, "*B M 4"]) -> Float[Tensor, "*B N M"]:
    """Generalised IoU of each pair, -1..1 (Rezatofighi et al. 2019, algorithm 1)."""
    shared = intersection(a, b)
    union = area(a)[..., :, None] + area(b)[..., None, :] - shared
    low = torch.minimum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.maximum(a[..., :, None, 2:], b[..., None, :, 2:])
    hull = area(torch.cat([low, high], dim=-1))
    return _ratio(shared, union) - _ratio(hull - union, hull)


def clip(boxes: Float[Tensor, "*B N 4"], sizes: Shaped[Tensor, "*B 2"]) -> Float[Tensor, "*B N 4"]:
    """Boxes cut off at the border of their picture, whose height and width ``sizes`` gives."""
    limit = sizes.flip(-1)[..., None, :].to(boxes.dtype)
    limit = torch.cat([limit, limit], dim=-1)
    return torch.minimum(boxes.clamp(min=0), limit)


def at_least(boxes: Float[Tensor, "*N 4"], side: float) -> Bool[Tensor, "*N"]:
    """Which boxes are at least ``side`` pixels wide and high."""
    return ((boxes[..., 2:] - boxes[..., :2]) >= side).all(-1)


Weights = tuple[float, float, float, float]


def encode(
    boxes: Float[Tensor, "*N 4"], anchors: Float[Tensor, "*N 4"], weights: Weights = (1, 1, 1, 1)
) -> Float[Tensor, "*N 4"]:
    """The deltas that carry each anchor onto its box (R-CNN, appendix C, equations 6-9): the shift
    of the centre in anchor sizes and the logarithm of the stretch, times ``weights``.

    Sides are taken as at least 1e-6 pixels, so that a degenerate box gives a finite delta.
    """
    target, anchor = to_cxcywh(boxes), to_cxcywh(anchors)
    size, anchor_size = target[..., 2:].clamp(min=1e-6), anchor[..., 2:].clamp(min=1e-6)
    shift = (target[..., :2] - anchor[..., :2]) / anchor_size
    stretch = torch.log(size / anchor_size)
    return torch.cat([shift, stretch], dim=-1) * boxes.new_tensor(weights)


def decode(
    deltas: Float[Tensor, "*N 4"], anchors: Float[Tensor, "*N 4"], weights: Weights = (1, 1, 1, 1)
) -> Float[Tensor, "*N 4"]:
    """The inverse of ``encode`` (R-CNN, equations 1-4), the log scale clamped at MAX_LOG_SCALE."""
    anchor = to_cxcywh(anchors)
    shift, stretch = (deltas / deltas.new_tensor(weights)).split(2, dim=-1)
    centre = shift * anchor[..., 2:] + anchor[..., :2]
    half = torch.exp(stretch.clamp(max=MAX_LOG_SCALE)) * anchor[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def image_index(boxes: Sequence[Tensor]) -> Int[Tensor, " R"]:
    """Which picture each box is of, for one list of boxes a picture."""
    counts = torch.tensor([len(b) for b in boxes], device=boxes[0].device)
    return torch.arange(len(boxes), device=counts.device).repeat_interleave(counts)


def slot_index(boxes: Float[Tensor, "B R 4"]) -> Int[Tensor, " BR"]:
    """Which picture each slot of a fixed-shape batch is of."""
    rows = torch.arange(boxes.shape[0], device=boxes.device)
    return rows[:, None].expand(boxes.shape[:2]).flatten()
