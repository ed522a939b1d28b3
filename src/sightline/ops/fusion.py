"""What several looks at one picture say, made one answer: Soft-NMS and weighted box fusion.

As in ``suppress``, B pictures have N slots each, a slot whose score is ``EMPTY`` holds nothing and
takes no part, and boxes of different groups (classes) have nothing to do with one another. Both go
through the boxes of a picture one by one, best first, through all pictures at once.

Navaneeth Bodla and others, Soft-NMS, 2017: https://arxiv.org/abs/1704.04503
Roman Solovyev and others, Weighted Boxes Fusion, 2019: https://arxiv.org/abs/1910.13302
"""

from typing import Literal

import torch
from torch import Tensor

from sightline.ops import boxes as box_ops
from sightline.ops.suppress import EMPTY
from sightline.shapes import Float, Int


def soften(
    boxes: Float[Tensor, "B N 4"],
    scores: Float[Tensor, "B N"],
    groups: Int[Tensor, "B N"],
    form: Literal["linear", "gaussian"] = "gaussian",
    iou: float = 0.3,
    sigma: float = 0.5,
) -> Float[Tensor, "B N"]:
    """Soft-NMS: the scores, lowered by every better box of the group as far as it overlaps.

    ``linear`` multiplies by 1 - IoU where the IoU is ``iou`` or more, ``gaussian`` by
    exp(-IoU^2 / ``sigma``) everywhere; the defaults are the paper's. The best of what is left is
    taken after each lowering. Nothing is dropped: that is for whoever says below which score an
    answer is none.
    """
    softened, done = scores.clone(), scores <= EMPTY
    rows = torch.arange(len(scores), device=scores.device)
    for _ in range(_most_filled(scores)):
        best = softened.masked_fill(done, -torch.inf).argmax(dim=1)
        done[rows, best] = True
        overlaps = box_ops.iou(boxes[rows, best][:, None], boxes)[:, 0]
        overlaps = overlaps * (groups == groups[rows, best][:, None])
        if form == "linear":
            factors = torch.where(overlaps < iou, 1, 1 - overlaps)
        else:
            factors = torch.exp(-overlaps.square() / sigma)
        softened = torch.where(done, softened, softened * factors)
    return softened


def fuse_boxes(
    boxes: Float[Tensor, "B N 4"],
    scores: Float[Tensor, "B N"],
    groups: Int[Tensor, "B N"],
    weights: Float[Tensor, "B N"],
    looks: float,
    iou: float = 0.55,
) -> tuple[Float[Tensor, "B N 4"], Float[Tensor, "B N"]]:
    """Weighted box fusion: boxes of one group that overlap become one box, their mean.

    Best first, each box joins the cluster of its group whose mean overlaps it most, by more than
    ``iou``, or begins one. Box and score of a cluster stand in the slot of the box that began it,
    its best; the other slots become empty. The mean of the boxes is weighted by score x weight. The
    score is the weighted mean, lowered where fewer looks have seen the thing than there are.

    Args:
        weights: how much the look counts that each box comes from, above 0.
        looks: the sum of the weights of all looks.
    """
    filled, tiny = scores > EMPTY, torch.finfo(scores.dtype).tiny
    masses = (scores * weights).clamp(min=tiny)  # a box of score 0 has a place all the same
    order = masses.masked_fill(~filled, -1).argsort(dim=1, descending=True, stable=True)
    means = boxes.clone()
    mass, votes = torch.zeros_like(scores), torch.zeros_like(scores)  # of the clusters begun
    rows = torch.arange(len(scores), device=scores.device)
    for slot in order.T[: _most_filled(scores)]:
        box, group = boxes[rows, slot], groups[rows, slot]
        overlaps = box_ops.iou(box[:, None], means)[:, 0]
        overlaps = overlaps * ((mass > 0) & (groups == group[:, None]))
        best, cluster = overlaps.max(dim=1)
        cluster = torch.where(best > iou, cluster, slot)
        counted = filled[rows, slot]
        mass[rows, cluster] += masses[rows, slot] * counted
        votes[rows, cluster] += weights[rows, slot] * counted
        share = masses[rows, slot] * counted / mass[rows, cluster].clamp(min=tiny)
        means[rows, cluster] += (box - means[rows, cluster]) * share[:, None]
    # The mean divides by the T boxes of the cluster, the lowering multiplies by min(T, N) / N for N
    # looks: together, one division by the larger of the two.
    fused = mass / votes.clamp(min=looks)
    return means, torch.where(votes > 0, fused, EMPTY)


def _most_filled(scores: Float[Tensor, "B N"]) -> int:
    """The largest number of answers in a picture."""
    return int((scores > EMPTY).sum(dim=1).max()) if scores.numel() else 0
