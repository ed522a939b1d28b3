"""Which choices come out differently when two libraries' numbers differ in the last digits.

Detection ends in choices: above a threshold or not, among the best K or not, which of two boxes is
better, whether they overlap too much. Each choice is taken here twice by the same code, on either
library's numbers for the same candidates; those that differ are given with both values.

Numbers come in pairs: the first axis has torchvision's at 0 and ours at 1.

Of two forms of one model, of which one shows its answers alone, ``answer_ties`` takes the choices
from those: what is in one only was cut off, or suppressed, by a margin that can be seen.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.agreement import SCORE, pairs
from sightline.ops import boxes as box_ops
from sightline.ops.suppress import EMPTY, Detections, Selection, suppress

OVERLAP = 1e-3  # how near to the limit of an IoU is near


def proposal_flips(
    rpn: Any, outputs: Any, images: Any, theirs: tuple[list[Tensor], list[Tensor]], number: int
) -> list[str]:
    """In the region proposal network, for one picture of the batch; ``theirs`` are the logits
    [B, A] and deltas [B, A, 4] of each level, as those of ``outputs``."""
    flips, boxes, scores, levels = [], [], [], []
    sizes = images.sizes[number].expand(2, 2)
    for level, grid in enumerate(rpn.anchors(outputs.pyramid, images)):
        logits = torch.stack([theirs[0][level][number], outputs.objectness[level][number]])
        deltas = torch.stack([theirs[1][level][number], outputs.deltas[level][number]])
        count = min(rpn.amount.candidates, len(grid))
        flips += _cut(f"level {level}, best {count} anchors", logits, count)
        rows = logits.topk(count).indices.unique()
        boxes.append(
            box_ops.clip(box_ops.decode(deltas[:, rows], grid[rows].expand(2, -1, -1)), sizes)
        )
        scores.append(logits[:, rows].sigmoid())
        levels.append(torch.full_like(rows, level))
        flips += _threshold(f"level {level}, objectness", scores[-1], rpn.score)
        flips += _suppression(f"level {level}", boxes[-1], scores[-1], rpn.iou)
    left = _survivors(boxes, scores, levels, rpn.score, rpn.iou)
    return flips + _cut("best proposals", left, rpn.amount.proposals)


def final_flips(
    proposals: Tensor, size: Tensor, selection: Selection, logits: Tensor, deltas: Tensor
) -> list[str]:
    """After the box head on the same proposals, for one picture: logits [2, R, C + 1], background
    last, and deltas [2, R, C, 4]."""
    probabilities = logits.softmax(dim=-1)[..., :-1]
    row, label = (probabilities > selection.score).any(dim=0).nonzero().unbind(1)
    regions = proposals[row].expand(2, -1, -1)
    shifted = box_ops.decode(deltas[:, row, label], regions, (10.0, 10.0, 5.0, 5.0))
    boxes = box_ops.clip(shifted, size.expand(2, 2))
    return _answer_flips(boxes, probabilities[:, row, label], label, selection)


def dense_flips(
    levels: list[tuple[Tensor, Tensor]], selection: Selection, candidates: int
) -> list[str]:
    """Where every anchor of a level answers, for one picture: scores [2, A_l, C] and boxes
    [2, A_l, 4] of each level, of which the best ``candidates`` pairs of an anchor and a class
    enter the suppression."""
    flips, boxes, scores, labels = [], [], [], []
    for level, (score, box) in enumerate(levels):
        row, label = (score > selection.score).any(dim=0).nonzero().unbind(1)
        count, paired = min(candidates, len(row)), score[:, row, label]
        flips += _cut(f"level {level}, best {count} pairs", paired, count)
        best = paired.topk(count).indices.unique()
        boxes.append(box[:, row[best]])
        scores.append(paired[:, best])
        labels.append(label[best])
    return flips + _answer_flips(
        torch.cat(boxes, dim=1), torch.cat(scores, dim=1), torch.cat(labels), selection
    )


def _answer_flips(boxes: Tensor, scores: Tensor, labels: Tensor, selection: Selection) -> list[str]:
    """Among the candidates [2, N] of all classes together."""
    flips = []
    for label in labels.unique().tolist():
        of, what = labels == label, f"class row {label}"
        flips += _threshold(what, scores[:, of], selection.score)
        flips += _suppression(what, boxes[:, of], scores[:, of], selection.iou)
    left = _survivors([boxes], [scores], [labels], selection.score, selection.iou)
    return flips + _cut("best detections", left, selection.top)


def _threshold(what: str, values: Tensor, limit: float) -> list[str]:
    differ = ((values[0] > limit) != (values[1] > limit)).nonzero().flatten()
    return [_line(what, values[:, i]) + f", limit {limit}" for i in differ]


def _cut(what: str, values: Tensor, count: int) -> list[str]:
    """Who is among the best ``count`` in one library only."""
    best = values.topk(min(count, values.shape[1])).indices
    changed = set(best[0].tolist()) ^ set(best[1].tolist())
    return [_line(what, values[:, i]) for i in sorted(changed)]


def _suppression(what: str, boxes: Tensor, scores: Tensor, limit: float) -> list[str]:
    """Pairs that overlap too much in one library only, or whose order differs or is chance, their
    scores being equal."""
    first, second = torch.triu_indices(scores.shape[1], scores.shape[1], offset=1)
    overlaps = box_ops.iou(boxes, boxes)[:, first, second]
    flips = _threshold(f"{what}, IoU", overlaps, limit)
    order = (scores[:, first] - scores[:, second]).sign()
    chance = (order[0] != order[1]) | (order == 0).any(dim=0)
    swapped = chance & (overlaps > limit).any(dim=0)
    for k in swapped.nonzero().flatten():
        a, b = (_line("", scores[:, side[k]]) for side in (first, second))
        flips.append(f"{what}, order of two that overlap:{a};{b}")
    return flips


def _survivors(
    boxes: list[Tensor], scores: list[Tensor], groups: list[Tensor], limit: float, iou: float
) -> Tensor:
    """The scores of the candidates that suppression leaves in both libraries."""
    every, group = torch.cat(scores, dim=1), torch.cat(groups).expand(2, -1)
    counted = torch.where(every > limit, every, EMPTY)
    kinds = int(group.max()) + 1 if group.numel() else 1
    left = suppress(torch.cat(boxes, dim=1), counted, group, kinds, iou)
    return left[:, (left > EMPTY).all(dim=0)]


def _line(what: str, pair: Tensor) -> str:
    return f"{what} {pair[0]:.8f} there, {pair[1]:.8f} here"


@dataclass(frozen=True, eq=False)
class _Lonely:
    """A detection that the other form does not give."""

    here: Detections
    there: Detections
    slot: int

    @property
    def score(self) -> Tensor:
        return self.here.scores[self.slot]

    @property
    def label(self) -> Tensor:
        return self.here.labels[self.slot]

    def overlap(self, other: Detections, slot: int) -> float:
        mine, its = self.here.boxes[self.slot, None], other.boxes[slot, None]
        return box_ops.iou(mine, its).item()

    def __str__(self) -> str:
        return _told(self.here, self.slot)


def answer_ties(
    one: Detections, other: Detections, selection: Selection
) -> tuple[list[str], list[str]]:
    """For one picture (no batch axis): a line for each detection that only one form gives and whose
    near tie is seen in the answers, and one for each whose tie is not."""
    mine, partners = pairs(one, other)
    alone = [
        _Lonely(here, there, slot)
        for here, there, taken in ((one, other, mine), (other, one, partners))
        for slot in (here.scores > EMPTY).nonzero().flatten().tolist()
        if slot not in taken
    ]
    told: dict[_Lonely, str] = {}
    for _ in alone:  # what a tie explains may itself explain another
        for lonely in alone:
            why = _tie(lonely, selection) or _consequence(lonely, list(told), selection)
            if lonely not in told and why:
                told[lonely] = f"{lonely}: {why}"
    return list(told.values()), [str(lonely) for lonely in alone if lonely not in told]


def _tie(lonely: _Lonely, selection: Selection) -> str:
    """The choice by which the other form may lack it, with both values."""
    there, score = lonely.there, lonely.score
    last = there.scores[-1]  # of the slots, of which there are as many as may be given
    if last > EMPTY and score <= last + SCORE:
        return f"beside {last:.6f}, the last place there"
    if score <= selection.score + SCORE:
        return f"beside the threshold {selection.score:g}"
    for slot in _rivals(lonely, there):
        overlap = lonely.overlap(there, slot)
        if overlap > selection.iou and there.scores[slot] <= score + SCORE:
            return f"overlaps by {overlap:.3f} what is kept there: {_told(there, slot)}"
        if abs(overlap - selection.iou) <= OVERLAP:
            return f"overlaps by {overlap:.5f}, limit {selection.iou:g}: {_told(there, slot)}"
    return ""


def _consequence(lonely: _Lonely, told: list[_Lonely], selection: Selection) -> str:
    """The detection with a tie of its own by which the other form lacks this one."""
    others = [each for each in told if each.here is lonely.there]
    rivals = set(_rivals(lonely, lonely.there))
    for each in others:
        if each.slot in rivals and lonely.overlap(each.here, each.slot) > selection.iou:
            return f"suppressed there by {each}"
    full = lonely.there.scores[-1] > EMPTY
    if full and lonely.slot >= len(lonely.here.scores) - len(others):
        return f"its place is taken there by {len(others)} more"
    return ""


def _rivals(lonely: _Lonely, there: Detections) -> list[int]:
    """Slots of its class that are no worse."""
    rivals = (there.labels == lonely.label) & (there.scores >= lonely.score - SCORE)
    return rivals.nonzero().flatten().tolist()


def _told(here: Detections, slot: int) -> str:
    box = [round(value, 1) for value in here.boxes[slot].tolist()]
    return f"class {int(here.labels[slot])} {here.scores[slot]:.6f} at {box}"
