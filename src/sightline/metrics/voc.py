"""Average precision as Pascal VOC counts it: 11-point (2007) and area (2010 on).

The rules are those of VOC's development kit (VOCevaldet.m, VOCap.m): an answer is compared with the
truth of its class and picture that it overlaps most, taken or not; the overlap must reach the
threshold; of the answers to one truth the best scored is right and the others are wrong; an answer
to a difficult truth counts neither way.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.metrics.evaluation import Evaluation, mean
from sightline.metrics.table import Table, check_pairs, table
from sightline.types import Classes, Scene

RECALLS = np.linspace(0, 1, 11)  # the same doubles as the kit's 0:0.1:1


class Overlaps(NamedTuple):
    """D answers, best scored first, and the truth of its class and picture each overlaps most."""

    labels: NDArray[Any]  # int [D]
    scores: NDArray[Any]  # float64 [D]
    truths: NDArray[Any]  # int [D] row among the truths, -1 where the picture has none
    ious: NDArray[Any]  # float64 [D]
    difficult: NDArray[Any]  # bool [D] whether that truth is


class Curve(NamedTuple):
    """One class at one threshold, an answer more at each step; difficult truths left out."""

    scores: NDArray[Any]  # float64 [D]
    recalls: NDArray[Any]  # float64 [D]
    precisions: NDArray[Any]  # float64 [D]


def voc_numbers(
    truths: Sequence[Scene],
    answers: Sequence[Scene],
    classes: Classes,
    ious: Sequence[float] = (0.5,),
    inclusive: bool = False,
) -> Evaluation:
    """``VOC11@0.5`` (11-point) and ``VOC@0.5`` (area) at each threshold, 0..1, per class and
    averaged over the classes that have a truth which is not difficult; NaN where there is none.

    Args:
        truths: ``things.ignore`` marks the difficult ones.
        answers: one for each truth, of the same picture.
        inclusive: boxes are pixel indices, both ends inside, as in VOC's own files: a box from 3
            to 5 is three pixels wide. Ours are continuous, and so are those our VOC reader gives.
    """
    check_pairs(truths, answers)
    true = table(truths)
    overlaps = overlap(true, table(answers), inclusive)
    counts = np.bincount(true.labels[~true.ignore], minlength=len(classes))
    rows: list[dict[str, float]] = [{} for _ in classes.names]
    for threshold in ious:
        for label, curve in enumerate(curves(overlaps, counts, threshold)):
            measured = counts[label] > 0
            rows[label][f"VOC11@{threshold:g}"] = eleven_point(curve) if measured else np.nan
            rows[label][f"VOC@{threshold:g}"] = area(curve) if measured else np.nan
    per_class = dict(zip(classes.names, rows, strict=True))
    names = [f"{kind}@{threshold:g}" for kind in ("VOC11", "VOC") for threshold in ious]
    overall = {name: mean([row[name] for row in rows]) for name in names}
    return Evaluation(kind="voc", overall=overall, per_class=per_class, images=len(truths))


def overlap(truths: Table, answers: Table, inclusive: bool = False) -> Overlaps:
    """For each answer the truth it overlaps most, the first where several tie."""
    answers = answers.take(np.argsort(-answers.scores, kind="stable"))
    classes = 1 + max(truths.labels.max(initial=0), answers.labels.max(initial=0))
    truth_group = truths.images * classes + truths.labels
    order = np.argsort(truth_group, kind="stable")
    group = answers.images * classes + answers.labels
    first = np.searchsorted(truth_group[order], group, "left")
    count = np.searchsorted(truth_group[order], group, "right") - first

    # All pairs of an answer with a truth of its group, one row each.
    start = np.cumsum(count) - count
    pair_answer = np.repeat(np.arange(len(count)), count)
    pair_truth = order[np.arange(count.sum()) - np.repeat(start - first, count)]
    pairs = pair_iou(answers.boxes[pair_answer], truths.boxes[pair_truth], inclusive)

    best = np.full(len(count), -1)
    ious = np.zeros(len(count))
    by_overlap = np.lexsort((-pairs, pair_answer))  # stable: of equal ones the first comes first
    some = count > 0
    chosen = by_overlap[start[some]]
    best[some], ious[some] = pair_truth[chosen], pairs[chosen]
    difficult = np.append(truths.ignore, False)[best]  # -1, no truth, finds the False
    return Overlaps(answers.labels, answers.scores, best, ious, difficult)


def pair_iou(
    a: NDArray[np.float64], b: NDArray[np.float64], inclusive: bool = False
) -> NDArray[np.float64]:
    """Intersection over union of row i of ``a`` with row i of ``b``; 0 for boxes without area."""
    one = 1.0 if inclusive else 0.0
    shared = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]) + one
    shared_area = shared.clip(min=0).prod(axis=1)
    area_a = (a[:, 2:] - a[:, :2] + one).clip(min=0).prod(axis=1)
    area_b = (b[:, 2:] - b[:, :2] + one).clip(min=0).prod(axis=1)
    union = area_a + area_b - shared_area
    return np.divide(shared_area, union, out=np.zeros_like(union), where=union > 0)


def curves(overlaps: Overlaps, counts: NDArray[np.int64], threshold: float) -> list[Curve]:
    """Precision and recall of each class at one IoU threshold; ``counts`` [C] are the truths that
    are not difficult."""
    reached = (overlaps.ious >= threshold) & (overlaps.truths >= 0)
    rows = np.flatnonzero(reached)
    _, first_of_truth = np.unique(overlaps.truths[rows], return_index=True)
    right = np.zeros_like(reached)
    right[rows[first_of_truth]] = True
    counted = ~(reached & overlaps.difficult)
    return [
        _curve(overlaps, right, counted & (overlaps.labels == label), int(count))
        for label, count in enumerate(counts)
    ]


def _curve(
    overlaps: Overlaps, right: NDArray[np.bool_], rows: NDArray[np.bool_], count: int
) -> Curve:
    hits = np.cumsum(right[rows])
    return Curve(
        scores=overlaps.scores[rows],
        recalls=hits / max(count, 1),
        precisions=hits / np.arange(1, len(hits) + 1),
    )


def eleven_point(curve: Curve) -> float:
    """The mean of the best precision at a recall of at least 0, 0.1, ... 1."""
    return float(
        np.mean([curve.precisions[curve.recalls >= recall].max(initial=0) for recall in RECALLS])
    )


def area(curve: Curve) -> float:
    """The area under the curve, each precision raised to the best at the same recall or more."""
    envelope = np.maximum.accumulate(curve.precisions[::-1])[::-1]
    return float(np.sum(np.diff(curve.recalls, prepend=0) * envelope))
