"""A score threshold for each class, chosen on validation data."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sightline.metrics.curves import Curve
from sightline.metrics.table import check_pairs, table
from sightline.metrics.voc import curves, overlap
from sightline.types import Classes, Scene


class Choice(NamedTuple):
    """The threshold of one class, and what it gives on the data it was chosen on, 0..1."""

    score: float  # answers scored higher are kept
    f1: float
    precision: float
    recall: float


def choose_scores(
    truths: Sequence[Scene],
    answers: Sequence[Scene],
    classes: Classes,
    iou: float = 0.5,
    above: float = 0.0,
) -> dict[str, Choice]:
    """For each class the threshold with the best F1, the harmonic mean of precision and recall.

    Right and wrong are as in VOC: the best scored answer that reaches ``iou`` with a truth is
    right, further ones to it are wrong, answers to ignored truths count neither way. The threshold
    lies half way between the lowest score it keeps and the next (or ``above``: only answers scored
    higher are among those given), so that rounding flips no answer; of several best ones the
    highest is taken. A class for which no answer is right is left out.
    """
    check_pairs(truths, answers)
    true = table(truths)
    counts = np.bincount(true.labels[~true.ignore], minlength=len(classes))
    by_class = curves(overlap(true, table(answers)), counts, iou)
    return {
        name: _best(curve, above)
        for name, curve in zip(classes.names, by_class, strict=True)
        if curve.recalls.any()
    }


def _best(curve: Curve, above: float) -> Choice:
    following = np.append(curve.scores[1:], above)
    # Equal scores stand or fall together: only the last of them is a place to cut.
    possible = curve.scores > following
    total = curve.precisions + curve.recalls
    f1 = 2 * curve.precisions * curve.recalls / np.where(total > 0, total, 1)
    cut = int(np.argmax(np.where(possible, f1, -1)))
    score = float(curve.scores[cut] + following[cut]) / 2
    return Choice(score, float(f1[cut]), float(curve.precisions[cut]), float(curve.recalls[cut]))
