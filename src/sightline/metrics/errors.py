"""What kind of error each wrong answer is, and what each kind costs in average precision.

The kinds and costs are those of "TIDE: A General Toolbox for Identifying Object Detection Errors"
(Bolya et al., ECCV 2020, section 2), by the paper's names Cls, Loc, Both, Dupe, Bkg and Miss. The
paper leaves open what an answer is that fits two kinds: as in the authors' tool the first of place,
class, duplicate and background that fits is taken, and both if none does.
"""

from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from sightline.metrics.curves import COCO_RECALLS, Curve, curves_by_class, sampled
from sightline.metrics.detection import Matching
from sightline.metrics.pairs import best, pair_iou, pairs

Kind = Literal["class", "place", "both", "duplicate", "background", "missed"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_CLASS, _PLACE, _BOTH, _DUPLICATE, _BACKGROUND, _MISSED = range(len(KINDS))


_PerClass = NDArray[np.float64]  # [C] NaN for a class without truth


class Errors(NamedTuple):
    """Of D answers to N truths of C classes, at one IoU threshold."""

    kinds: NDArray[np.int64]  # [D] number of the kind; -1 where right or not counted
    meant: NDArray[np.int64]  # [D] row of the truth that a class or place error meant; else -1
    missed: NDArray[np.bool_]  # [N] not found, and meant by no class or place error
    ap: _PerClass  # average precision
    costs: NDArray[np.float64]  # [K, C] what it gains if all errors of a kind are mended
    false_positives: _PerClass  # what it gains if every wrong answer is left out
    false_negatives: _PerClass  # what it gains if only the truths that are found had to be


def find_errors(matching: Matching, background: float = 0.1) -> Errors:
    """The errors at the first threshold of the matching.

    A wrong answer is an error of place where it overlaps a truth of its class by ``background`` or
    more but less than the threshold; of class where it reaches the threshold with a truth of
    another class; a duplicate where a better scored answer has its truth; background where it
    overlaps nothing by more than ``background``; else of both class and place. Ignored truths are
    no truths here, and answers that lie in them no answers.

    A class or place error is mended by making it right, the best scored one for each truth that is
    not found; all other wrong answers by leaving them out; a missed truth by not asking for it.
    """
    wrong = np.flatnonzero(matching.counted[0] & (matching.found[0] < 0))
    kinds, meant = np.full((2, len(matching.answers.labels)), -1)
    kinds[wrong], meant[wrong] = _classify(matching, wrong, background)
    free = ~matching.truths.ignore
    free[matching.found[0][matching.right()]] = False
    missed = free.copy()
    missed[meant[meant >= 0]] = False

    able = np.flatnonzero(np.append(free, False)[meant])
    able = able[np.argsort(-matching.answers.scores[able], kind="stable")]
    chosen = able[np.unique(meant[able], return_index=True)[1]]

    def ap(*mended: int, chosen: NDArray[np.int64], missed: NDArray[np.bool_]) -> _PerClass:
        faulty = np.isin(kinds, mended)
        turned = chosen[faulty[chosen]]
        asked = ~matching.truths.ignore & ~(missed & (_MISSED in mended))
        return _ap(matching, ~faulty, turned, meant[turned], asked)

    base = ap(chosen=chosen, missed=missed)
    costs = [ap(kind, chosen=chosen, missed=missed) - base for kind in range(len(KINDS))]
    left_out = ap(*range(_MISSED), chosen=chosen[:0], missed=missed)
    not_asked = ap(_MISSED, chosen=chosen, missed=free)
    return Errors(kinds, meant, missed, base, np.array(costs), left_out - base, not_asked - base)


def _classify(
    matching: Matching, wrong: NDArray[np.int64], background: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The kind of each wrong answer, and the truth it meant."""
    answers, asked = matching.answers.take(wrong), np.flatnonzero(~matching.truths.ignore)
    truths, foreground = matching.truths.take(asked), matching.ious[0]
    of_answer, of_truth = pairs(answers.images, truths.images)
    ious = pair_iou(answers.boxes[of_answer], truths.boxes[of_truth])
    alike = answers.labels[of_answer] == truths.labels[of_truth]
    same, same_iou = best(of_answer[alike], of_truth[alike], ious[alike], len(wrong))
    other, other_iou = best(of_answer[~alike], of_truth[~alike], ious[~alike], len(wrong))
    kinds = np.select(
        [
            (same_iou >= background) & (same_iou < foreground),
            other_iou >= foreground,
            same_iou >= foreground,
            np.maximum(same_iou, other_iou) <= background,
        ],
        [_PLACE, _CLASS, _DUPLICATE, _BACKGROUND],
        _BOTH,
    )
    meant = np.select([kinds == _PLACE, kinds == _CLASS], [same, other], -1)
    return kinds, np.where(meant < 0, -1, np.append(asked, -1)[meant])


def _ap(
    matching: Matching,
    kept: NDArray[np.bool_],
    turned: NDArray[np.int64],
    into: NDArray[np.int64],
    asked: NDArray[np.bool_],
) -> _PerClass:
    """The average precision of each class, of the answers that are ``kept`` and those ``turned
    into`` the truths they meant, to the truths that are ``asked`` for."""
    labels, right = matching.answers.labels.copy(), matching.right()
    labels[turned], right[turned] = matching.truths.labels[into], True
    counts = np.bincount(matching.truths.labels[asked], minlength=matching.classes)
    curves = curves_by_class(
        matching.answers.scores, labels, right, matching.counted[0] & (right | kept), counts
    )
    ap = [_average(curve, int(count)) for curve, count in zip(curves, counts, strict=True)]
    return np.where(matching.counts() > 0, ap, np.nan)


def _average(curve: Curve, count: int) -> float:
    """Where nothing is left to be found: 1 if nothing was, 0 otherwise."""
    return float(sampled(curve, COCO_RECALLS).mean() if count else len(curve.scores) == 0)
