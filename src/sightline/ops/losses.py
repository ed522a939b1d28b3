"""Losses as sums over what counts. An entry that is to be ignored adds nothing and no gradient.

Counts are float32 whatever the logits are: bfloat16 skips every odd number above 256.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.shapes import Bool, Float, Int, Shaped

IGNORED = -1  # the label of an entry without a say


def smooth_l1(
    prediction: Float[Tensor, "*N"], target: Float[Tensor, "*N"], beta: float = 1.0
) -> Float[Tensor, "*N"]:
    """0.5 d^2 / beta where |d| < beta, else |d| - 0.5 beta (Fast R-CNN, equation 3, has beta 1).
    ``beta`` 0 is the absolute difference."""
    distance = (prediction - target).abs()
    if beta == 0:
        return distance
    return torch.where(distance < beta, 0.5 * distance**2 / beta, distance - 0.5 * beta)


def cross_entropy_sum(
    logits: Float[Tensor, "N C"],
    labels: Int[Tensor, " N"],
    weights: Float[Tensor, " C"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The summed cross-entropy of a softmax and the number of entries that are not IGNORED.

    ``weights`` of the classes change the sum and not the number: an entry's share in the loss is
    its own weight's, whatever else is in the batch.
    """
    if weights is not None:
        weights = weights.to(logits.dtype)
    total = F.cross_entropy(logits, labels, weights, reduction="sum", ignore_index=IGNORED)
    return total, (labels != IGNORED).sum().float()


def binary_cross_entropy_sum(
    logits: Float[Tensor, "*N"], labels: Shaped[Tensor, "*N"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The summed cross-entropy of independent sigmoids, labels 0, 1 or IGNORED, and the number of
    entries that are not IGNORED."""
    counted = labels != IGNORED
    each = F.binary_cross_entropy_with_logits(
        logits, labels.clamp(min=0).to(logits.dtype), reduction="none"
    )
    return torch.where(counted, each, 0).sum(), counted.sum().float()


def sigmoid_focal(
    logits: Float[Tensor, "*N"],
    targets: Shaped[Tensor, "*N"],
    alpha: float | None = 0.25,
    gamma: float = 2.0,
) -> Float[Tensor, "*N"]:
    """Focal loss of independent sigmoids, targets 0 or 1 (RetinaNet, equation 5): cross-entropy
    times ``(1 - p_t)**gamma``, which is small where the answer is right already, and times
    ``alpha`` for a 1 and ``1 - alpha`` for a 0. None: without that; ``gamma`` 0 is cross-entropy.
    """
    target = targets.to(logits.dtype)
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = torch.sigmoid(torch.where(target > 0, -logits, logits))  # 1 - p_t
    if alpha is not None:
        each = each * torch.where(target > 0, alpha, 1 - alpha)
    return each if gamma == 0 else each * wrong**gamma


def softmax_focal(
    logits: Float[Tensor, "N C"],
    labels: Int[Tensor, " N"],
    gamma: float = 2.0,
) -> Float[Tensor, " N"]:
    """Focal loss of one softmax over C classes, background among them; ``gamma`` 0 is
    cross-entropy. In single precision at least: autocast on a CPU leaves log_softmax in bfloat16,
    unlike the sigmoid form, and a sum over all anchors is too long for that."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    log_right = F.log_softmax(logits, dim=1).gather(1, labels[:, None])[:, 0]
    return -log_right if gamma == 0 else -log_right * (1 - log_right.exp()) ** gamma


def hard_negatives(
    losses: Float[Tensor, "B A"], negative: Bool[Tensor, "B A"], counts: Int[Tensor, " B"]
) -> Bool[Tensor, "B A"]:
    """Of each picture's negative candidates the ``counts`` with the highest loss, or all where
    there are no more; of equal losses the first (SSD, section 2.2, "Hard negative mining")."""
    worst = torch.where(negative, losses, -torch.inf).argsort(dim=1, descending=True, stable=True)
    place = torch.arange(losses.shape[1], device=losses.device)
    chosen = torch.zeros_like(negative).scatter(1, worst, place < counts[:, None])
    return chosen & negative
