"""Answers and truths of the same group side by side, one row for each pair."""

import numpy as np
from numpy.typing import NDArray


def pairs(
    answers: NDArray[np.int64], truths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of an answer with a truth of its group, as rows of both: answer by answer, the
    truths of each in their order. Each thing is given by the number of its group."""
    order = np.argsort(truths, kind="stable")
    first = np.searchsorted(truths[order], answers, "left")
    count = np.searchsorted(truths[order], answers, "right") - first
    start = np.cumsum(count) - count
    of_answer = np.repeat(np.arange(len(count)), count)
    return of_answer, order[np.arange(count.sum()) - np.repeat(start - first, count)]


def best(
    of_answer: NDArray[np.int64],
    of_truth: NDArray[np.int64],
    ious: NDArray[np.float64],
    answers: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each of so many ``answers`` the truth it overlaps most, the first where several tie, and
    by how much; -1 and 0 where it is in no pair."""
    by_overlap = np.lexsort((-ious, of_answer))  # stable: of equal ones the first comes first
    rows, first = np.unique(of_answer[by_overlap], return_index=True)
    chosen = by_overlap[first]
    truths, most = np.full(answers, -1), np.zeros(answers)
    truths[rows], most[rows] = of_truth[chosen], ious[chosen]
    return truths, most


def pair_iou(
    a: NDArray[np.float64], b: NDArray[np.float64], inclusive: bool = False
) -> NDArray[np.float64]:
    """Intersection over union of row i of ``a`` with row i of ``b``; 0 for boxes without area.

    ``inclusive`` boxes are pixel indices, both ends inside: from 3 to 5 is three pixels wide.
    """
    shared = _area(_shared(a, b), inclusive)
    return _ratio(shared, _area(a, inclusive) + _area(b, inclusive) - shared)


def pair_coverage(
    a: NDArray[np.float64], b: NDArray[np.float64], inclusive: bool = False
) -> NDArray[np.float64]:
    """The share of row i of ``a`` that row i of ``b`` covers; 0 for boxes without area."""
    return _ratio(_area(_shared(a, b), inclusive), _area(a, inclusive))


def _shared(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The box that each pair has in common, turned inside out where there is none."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    return np.concatenate([low, high], axis=1)


def _area(boxes: NDArray[np.float64], inclusive: bool) -> NDArray[np.float64]:
    one = 1.0 if inclusive else 0.0
    return (boxes[:, 2:] - boxes[:, :2] + one).clip(min=0).prod(axis=1)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
