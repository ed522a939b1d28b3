"""Average precision as Pascal VOC counts it: 11-point (2007) and area (2010 on).

The rules are those of VOC's development kit (VOCevaldet.m, VOCap.m): an answer is compared with the
truth of its class and picture that it overlaps most, taken or not; the overlap must reach the
threshold; of the answers to one truth the best scored is right and the others are wrong; an answer
to a difficult truth counts neither way.

The kit knows no regions with who knows how many things in them, such as COCO's crowds. For those
COCO's rule is taken: they are no truths, and an answer that is not right counts neither way where
the threshold's share of it or more lies in one of its class. An ignored truth is such a region,
unless its ``extra["difficult"]`` says that it is one thing.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.metrics.curves import VOC_RECALLS, Curve, area, curves_by_class, sampled
from sightline.metrics.evaluation import Evaluation, mean
from sightline.metrics.pairs import best, pair_coverage, pair_iou, pairs
from sightline.metrics.table import Table, check_pairs, table
from sightline.types import Classes, Scene


class Overlaps(NamedTuple):
    """D answers, best scored first, and the truth of its class and picture each overlaps most."""

    labels: NDArray[Any]  # int [D]
    scores: NDArray[Any]  # float64 [D]
    truths: NDArray[Any]  # int [D] row among the truths, -1 where the picture has none
    ious: NDArray[Any]  # float64 [D]
    difficult: NDArray[Any]  # bool [D] whether that truth is
    inside: NDArray[Any]  # float64 [D] the largest share of the answer that lies in one region


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
        truths: ``things.ignore`` marks regions, and with ``extra["difficult"]`` difficult things.
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
        for label, points in enumerate(curves(overlaps, counts, threshold)):
            measured = counts[label] > 0
            rows[label][f"VOC11@{threshold:g}"] = (
                float(sampled(points, VOC_RECALLS).mean()) if measured else np.nan
            )
            rows[label][f"VOC@{threshold:g}"] = area(points) if measured else np.nan
    per_class = dict(zip(classes.names, rows, strict=True))
    names = [f"{kind}@{threshold:g}" for kind in ("VOC11", "VOC") for threshold in ious]
    overall = {name: mean([row[name] for row in rows]) for name in names}
    return Evaluation(kind="voc", overall=overall, per_class=per_class, images=len(truths))


def overlap(truths: Table, answers: Table, inclusive: bool = False) -> Overlaps:
    """For each answer the truth it overlaps most, the first where several tie, and how deep it lies
    in a region."""
    answers = answers.take(np.argsort(-answers.scores, kind="stable"))
    region = truths.ignore & ~truths.difficult
    of_answer, of_truth = _pairs(answers, truths, np.flatnonzero(~region))
    shares = pair_iou(answers.boxes[of_answer], truths.boxes[of_truth], inclusive)
    chosen, ious = best(of_answer, of_truth, shares, len(answers.labels))
    difficult = np.append(truths.difficult, False)[chosen]  # -1, no truth, finds the False
    of_answer, of_region = _pairs(answers, truths, np.flatnonzero(region))
    inside = np.zeros(len(answers.labels))
    covered = pair_coverage(answers.boxes[of_answer], truths.boxes[of_region], inclusive)
    np.maximum.at(inside, of_answer, covered)
    return Overlaps(answers.labels, answers.scores, chosen, ious, difficult, inside)


def _pairs(
    answers: Table, truths: Table, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of an answer with those ``rows`` of the truths that are of its picture and class,
    answer by answer."""
    classes = 1 + max(truths.labels.max(initial=0), answers.labels.max(initial=0))
    group = (truths.images * classes + truths.labels)[rows]
    of_answer, row = pairs(answers.images * classes + answers.labels, group)
    return of_answer, rows[row]


def curves(overlaps: Overlaps, counts: NDArray[np.int64], threshold: float) -> list[Curve]:
    """Precision and recall of each class at one IoU threshold; ``counts`` [C] are the truths that
    are not difficult."""
    reached = (overlaps.ious >= threshold) & (overlaps.truths >= 0)
    rows = np.flatnonzero(reached)
    _, first_of_truth = np.unique(overlaps.truths[rows], return_index=True)
    right = np.zeros_like(reached)
    right[rows[first_of_truth]] = True
    counted = ~(reached & overlaps.difficult) & (right | (overlaps.inside < threshold))
    return curves_by_class(overlaps.scores, overlaps.labels, right, counted, counts)
