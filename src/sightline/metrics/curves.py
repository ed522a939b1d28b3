"""Precision over recall, and the average precision that is read off it."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

COCO_RECALLS = np.linspace(0, 1, 101)
VOC_RECALLS = np.linspace(0, 1, 11)  # the same doubles as the kit's 0:0.1:1


class Curve(NamedTuple):
    """One class at one threshold, an answer more at each step, best scored first."""

    scores: NDArray[Any]  # float64 [D]
    recalls: NDArray[Any]  # float64 [D]
    precisions: NDArray[Any]  # float64 [D]


def curve(scores: NDArray[np.float64], right: NDArray[np.bool_], count: int) -> Curve:
    """From the scores of answers, best first, whether each is right, and the number of truths."""
    hits = np.cumsum(right)
    return Curve(scores, hits / max(count, 1), hits / np.arange(1, len(hits) + 1))


def curves_by_class(
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    right: NDArray[np.bool_],
    counted: NDArray[np.bool_],
    counts: NDArray[np.int64],
) -> list[Curve]:
    """A curve for each class, from answers in any order, of which some are ``counted``; ``counts``
    [C] are the truths to be found."""
    order = np.argsort(-scores, kind="stable")
    order = order[counted[order]]
    own = [order[labels[order] == label] for label in range(len(counts))]
    return [curve(scores[rows], right[rows], int(n)) for rows, n in zip(own, counts, strict=True)]


def sampled(curve: Curve, recalls: NDArray[np.float64]) -> NDArray[np.float64]:
    """The best precision at a recall of at least each of ``recalls``, 0 where none reaches it; its
    mean is VOC's average precision over 11 recalls, COCO's over 101."""
    return np.append(_envelope(curve), 0.0)[np.searchsorted(curve.recalls, recalls, "left")]


def area(curve: Curve) -> float:
    """The area under the curve, each precision raised to the best at the same recall or more."""
    return float(np.sum(np.diff(curve.recalls, prepend=0) * _envelope(curve)))


def _envelope(curve: Curve) -> NDArray[np.float64]:
    return np.maximum.accumulate(curve.precisions[::-1])[::-1]
