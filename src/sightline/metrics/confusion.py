"""Which class is taken for which."""

import numpy as np
from numpy.typing import NDArray

from sightline.metrics.detection import Matching
from sightline.metrics.pairs import pair_iou, pairs


def confusion(matching: Matching) -> NDArray[np.int64]:
    """How often a truth of each class was answered with each class, [C + 1, C + 1], at the first
    threshold of the matching.

    Rows are truths, columns answers. The last column counts the truths that no answer reached, the
    last row the answers on no truth. Right answers come first; then, best scored first, a wrong one
    takes the truth of another class, not yet taken, that it overlaps most. Each truth, and each
    answer that is counted, is in one cell; ignored truths are in none.
    """
    classes = matching.classes
    table = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    right = matching.right()
    np.add.at(table, (matching.answers.labels[right],) * 2, 1)
    left = ~matching.truths.ignore
    left[matching.found[0][right]] = False
    idle = matching.counted[0] & ~right
    for answer, truth in _meetings(matching, idle, left):
        if idle[answer] and left[truth]:
            idle[answer] = left[truth] = False
            table[matching.truths.labels[truth], matching.answers.labels[answer]] += 1
    table[:classes, classes] = np.bincount(matching.truths.labels[left], minlength=classes)
    table[classes, :classes] = np.bincount(matching.answers.labels[idle], minlength=classes)
    return table


def _meetings(
    matching: Matching, idle: NDArray[np.bool_], left: NDArray[np.bool_]
) -> list[tuple[int, int]]:
    """Answers and truths that overlap enough: best scored first, for each the best overlap first.

    None is of one class: COCO's rules would have matched it.
    """
    answers, truths = np.flatnonzero(idle), np.flatnonzero(left)
    of_answer, of_truth = pairs(matching.answers.images[answers], matching.truths.images[truths])
    of_answer, of_truth = answers[of_answer], truths[of_truth]
    ious = pair_iou(matching.answers.boxes[of_answer], matching.truths.boxes[of_truth])
    order = np.lexsort((-ious, of_answer, -matching.answers.scores[of_answer]))
    order = order[ious[order] >= matching.ious[0]]
    return list(zip(of_answer[order].tolist(), of_truth[order].tolist(), strict=True))
