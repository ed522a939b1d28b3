"""Which candidate answers for which object, and which candidates a step learns from.

Candidates are anchors, points or proposals. A matching is one integer each: the row of its object,
or ``NEGATIVE`` (background) or ``NEUTRAL`` (no part in the loss).
"""

import torch
from torch import Tensor

from sightline.ops.boxes import coverage, iou
from sightline.shapes import Bool, Float, Int

NEGATIVE = -1
NEUTRAL = -2


def match_by_iou(
    overlaps: Float[Tensor, "N A"],
    negative: tuple[float, float],
    positive_from: float,
    force_best: bool = False,
) -> Int[Tensor, " A"]:
    """Each candidate goes to the object it overlaps most: an object's row from ``positive_from``
    up, NEGATIVE where the overlap is in ``negative`` (from, below), NEUTRAL elsewhere.

    ``force_best`` gives every object the candidates that overlap it most, however little (Faster
    R-CNN, section 3.1.2, rule i), ties included; a candidate so forced stays with the object that
    it itself overlaps most. An object that touches no candidate is not forced.
    """
    if overlaps.shape[0] == 0:
        alone = NEGATIVE if negative[0] <= 0 else NEUTRAL
        return overlaps.new_full((overlaps.shape[1],), alone, dtype=torch.long)
    best, row = overlaps.max(dim=0)
    background = (best >= negative[0]) & (best < negative[1])
    matches = torch.where(background, NEGATIVE, NEUTRAL)
    matches = torch.where(best >= positive_from, row, matches)
    if force_best and overlaps.shape[1] > 0:
        highest = overlaps.amax(dim=1, keepdim=True)
        forced = ((overlaps == highest) & (highest > 0)).any(dim=0)
        matches = torch.where(forced, row, matches)
    return matches


def best_of_each(overlaps: Float[Tensor, "N A"]) -> Int[Tensor, " A"]:
    """Each object takes one candidate, that which it overlaps most: an object's row, NEGATIVE where
    a candidate is not taken (SSD, section 2.2, "Matching strategy").

    Of objects that want the same candidate the one that overlaps it most gets it, and the others
    have none; nor has one that touches no candidate.
    """
    if overlaps.numel() == 0:
        return overlaps.new_full((overlaps.shape[1],), NEGATIVE, dtype=torch.long)
    highest, candidate = overlaps.max(dim=1, keepdim=True)
    wanted = torch.zeros_like(overlaps).scatter(1, candidate, highest)
    most, row = wanted.max(dim=0)
    return torch.where(most > 0, row, NEGATIVE)


def match_boxes(
    candidates: Float[Tensor, "A 4"],
    objects: Float[Tensor, "N 4"],
    ignore: Bool[Tensor, " N"],
    negative: tuple[float, float],
    positive_from: float,
    force_best: bool = False,
    ignore_from: float = 0.5,
    visible: Float[Tensor, "A 4"] | None = None,
) -> Int[Tensor, " A"]:
    """``match_by_iou`` that honours ignore regions: those are no object's match, and a candidate
    that would be negative is neutral where one ignore region covers ``ignore_from`` of it, or of
    what is ``visible`` of it where candidates reach beyond the picture; and where it would not be
    negative if the ignored things were objects (around a small one, or its best candidate)."""
    rows = (~ignore).nonzero().flatten()
    matches = match_by_iou(iou(objects[rows], candidates), negative, positive_from, force_best)
    if len(rows) < len(objects):
        matches = torch.where(matches >= 0, _at(rows, matches), matches)
        regions, seen = objects[ignore], candidates if visible is None else visible
        covered = (coverage(seen, regions) >= ignore_from).any(dim=1)
        near = (0.0, negative[1])
        alike = match_by_iou(iou(regions, candidates), near, positive_from, force_best) != NEGATIVE
        matches = torch.where((covered | alike) & (matches == NEGATIVE), NEUTRAL, matches)
    return matches


def _at(rows: Tensor, index: Tensor) -> Tensor:
    """``rows[index]`` where the index may be out of range (and its value is not used)."""
    if len(rows) == 0:
        return index
    return rows[index.clamp(min=0)]


def sample_balanced(
    matches: Int[Tensor, " A"], count: int, positive_share: float, seed: int | None
) -> tuple[Int[Tensor, " P"], Int[Tensor, " M"]]:
    """At most ``count`` candidates, at most ``positive_share`` of them positive, the rest negative:
    the indices of each, drawn at random.

    The draw depends on ``seed`` alone (None: on torch's global state), so that a picture draws the
    same in whatever batch or process it is.
    """
    positive = (matches >= 0).nonzero().flatten()
    negative = (matches == NEGATIVE).nonzero().flatten()
    positives = min(len(positive), int(count * positive_share))
    negatives = min(len(negative), count - positives)
    generator = None
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
    return (
        _draw(positive, positives, generator),
        _draw(negative, negatives, generator),
    )


def _draw(pool: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    if count == len(pool):
        return pool
    order = torch.randperm(len(pool), generator=generator)[:count]
    return pool[order.to(pool.device)]
