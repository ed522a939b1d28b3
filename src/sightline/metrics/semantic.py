"""How well label maps agree, counted by pixels. Fully Convolutional Networks for Semantic
Segmentation, Long et al., 2015, section 5, "Metrics". https://arxiv.org/abs/1411.4038

Pixels that are unlabelled in the truth count neither way. All numbers come from one table over all
pictures together, so that it is of no consequence how they are divided among batches or processes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.metrics.evaluation import Evaluation, mean
from sightline.metrics.table import check_pairs
from sightline.shapes import Int
from sightline.types import UNLABELLED, Classes, Scene


def semantic_numbers(
    truths: Sequence[Scene], answers: Sequence[Scene], classes: Classes
) -> Evaluation:
    """Truth and answer i are of one picture, both with a label map.

    Raises:
        ValueError: a map is missing or of another size, or an answer to another picture.
    """
    check_pairs(truths, answers)
    labels = len(classes.in_maps)
    counts = torch.zeros(labels, labels + 1, dtype=torch.int64)
    for truth, answer in zip(truths, answers, strict=True):
        if truth.semantic is None or answer.semantic is None:
            raise ValueError(f"{truth.path or truth.image_id}: a label map is missing")
        counts += count_pixels(truth.semantic, answer.semantic, labels)
    return numbers_of(counts, classes, len(truths))


def count_pixels(
    truth: Int[Tensor, "H W"], answer: Int[Tensor, "H W"], labels: int
) -> Int[Tensor, "C D"]:
    """How many pixels of each class were answered with each class: rows are truths, columns
    answers, and a last column counts those answered with none (255, say)."""
    known = truth != UNLABELLED
    true, said = truth[known].long(), answer[known].long()
    said = torch.where((said >= 0) & (said < labels), said, labels)
    pairs = true * (labels + 1) + said
    return torch.bincount(pairs, minlength=labels * (labels + 1)).view(labels, labels + 1)


def numbers_of(counts: Int[Tensor, "C D"], classes: Classes, images: int) -> Evaluation:
    """The numbers of a table that ``count_pixels`` made, or a sum of such.

    Of each class: IoU, recall (the share of its pixels that were found; the paper's accuracy of a
    class) and precision. Overall: the mean of each over the classes, the IoU weighted by how
    frequent a class is (fwIoU), and the share of all pixels that are right (accuracy). A class that
    is neither in the truth nor in an answer has no IoU.
    """
    table = counts.double().cpu().numpy()
    right, true, said = np.diagonal(table), table.sum(1), table[:, :-1].sum(0)
    iou = _share(right, true + said - right)
    recall, precision = _share(right, true), _share(right, said)
    weighted = np.where(true > 0, true * iou, 0.0)
    sums = np.array([weighted.sum(), right.sum()])
    weighted_iou, accuracy = _share(sums, np.full(2, true.sum())).tolist()
    overall = {"mIoU": mean(iou.tolist()), "fwIoU": weighted_iou, "accuracy": accuracy}
    columns = {"IoU": iou, "recall": recall, "precision": precision}
    overall |= {name: mean(columns[name].tolist()) for name in ("recall", "precision")}
    per_class = {
        name: {column: float(values[row]) for column, values in columns.items()}
        for row, name in enumerate(classes.in_maps)
    }
    return Evaluation("semantic", overall, per_class, images)


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN where there is nothing to have a share of."""
    with np.errstate(invalid="ignore"):
        return np.divide(part, whole)
