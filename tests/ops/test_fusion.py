"""Soft-NMS and weighted box fusion: by hand, and beside the papers' loops."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sightline.ops.boxes import iou
from sightline.ops.fusion import fuse_boxes, soften
from sightline.ops.suppress import EMPTY

ONE = torch.tensor([[0.0, 0, 10, 10]])
SIDE = torch.tensor([[0.0, 0, 10, 5]])  # IoU with ONE: 50 / 100
FAR = torch.tensor([[50.0, 50, 60, 60]])


def batch(*boxes: Tensor) -> Tensor:
    return torch.cat(boxes)[None]


def test_soft_nms_by_hand() -> None:
    """The second box overlaps the first by 0.5; the third nothing; the fourth is of another
    class."""
    boxes = batch(ONE, SIDE, FAR, SIDE)
    scores, groups = torch.tensor([[0.9, 0.8, 0.7, 0.6]]), torch.tensor([[0, 0, 0, 1]])
    linear = soften(boxes, scores, groups, "linear", iou=0.3)
    assert linear[0].tolist() == pytest.approx([0.9, 0.8 * 0.5, 0.7, 0.6])
    gaussian = soften(boxes, scores, groups, "gaussian", sigma=0.5)
    assert gaussian[0].tolist() == pytest.approx([0.9, 0.8 * math.exp(-0.25 / 0.5), 0.7, 0.6])


def test_linear_soft_nms_leaves_what_overlaps_less_than_the_threshold() -> None:
    scores, groups = torch.tensor([[0.9, 0.8]]), torch.zeros(1, 2, dtype=torch.long)
    assert torch.equal(soften(batch(ONE, SIDE), scores, groups, "linear", iou=0.51), scores)


def test_a_lowered_box_takes_its_new_turn() -> None:
    """ONE lowers SIDE to 0.4, below the third box: that one is next and lowers SIDE once more,
    instead of being lowered by it."""
    low = torch.tensor([[0.0, 5, 10, 10]])  # IoU with ONE 0.5, with SIDE 0
    tall = torch.tensor([[0.0, 0, 5, 5]])  # IoU with ONE 0.25, with SIDE 0.5
    boxes, groups = batch(ONE, SIDE, tall, low), torch.zeros(1, 4, dtype=torch.long)
    softened = soften(boxes, torch.tensor([[0.9, 0.8, 0.7, 0.6]]), groups, "linear", iou=0.3)
    assert softened[0].tolist() == pytest.approx([0.9, 0.8 * 0.5 * 0.5, 0.7, 0.6 * 0.5])


def test_soft_nms_with_a_narrow_gaussian_lowers_all_that_overlap_to_nothing() -> None:
    scores, groups = torch.tensor([[0.9, 0.8, 0.7]]), torch.zeros(1, 3, dtype=torch.long)
    softened = soften(batch(ONE, SIDE, FAR), scores, groups, sigma=1e-3)
    assert softened[0].tolist() == pytest.approx([0.9, 0, 0.7], abs=1e-6)


def fused(
    boxes: Tensor, scores: list[float], groups: list[int], weights: list[float], looks: float
) -> tuple[Tensor, Tensor]:
    means, left = fuse_boxes(
        boxes,
        torch.tensor([scores]),
        torch.tensor([groups]),
        torch.tensor([weights]).float(),
        looks,
    )
    return means[0], left[0]


def test_weighted_box_fusion_by_hand() -> None:
    """Two of three looks see ONE, a little apart: the mean lies 0.8 : 0.4 between them, and the
    score 0.6 counts 2/3. FAR is seen once."""
    shifted = ONE + 1.5  # IoU with ONE: 8.5^2 / (200 - 8.5^2) = 0.565
    boxes, scores = fused(batch(shifted, ONE, FAR), [0.4, 0.8, 0.9], [0, 0, 0], [1, 1, 1], 3)
    assert scores.tolist() == pytest.approx([EMPTY, 0.6 * 2 / 3, 0.9 / 3])
    assert torch.allclose(boxes[1], ONE[0] + 1.5 * 0.4 / 1.2)
    assert torch.equal(boxes[2], FAR[0])


def test_a_look_of_weight_two_counts_as_two_looks() -> None:
    shifted = ONE + 1.0
    heavy = fused(batch(ONE, shifted), [0.6, 0.8], [0, 0], [2, 1], 3)
    twice = fused(batch(ONE, ONE, shifted), [0.6, 0.6, 0.8], [0, 0, 0], [1, 1, 1], 3)
    assert heavy[1][0] == pytest.approx((2 * 0.6 + 0.8) / 3)
    # Twice the same box does not begin the cluster, as 2 x 0.6 does: its slot is the third.
    assert twice[1].tolist() == pytest.approx([EMPTY, EMPTY, (0.6 + 0.6 + 0.8) / 3])
    assert torch.allclose(heavy[0][0], twice[0][2])


def test_more_boxes_than_looks_do_not_raise_a_score_above_the_mean() -> None:
    _, scores = fused(batch(ONE, ONE, ONE), [0.9, 0.6, 0.3], [0, 0, 0], [1, 1, 1], 2)
    assert scores.tolist() == pytest.approx([0.6, EMPTY, EMPTY])


def test_one_look_without_overlaps_is_left_as_it_is() -> None:
    boxes = batch(ONE / 3, FAR / 7, SIDE / 3)
    means, scores = fused(boxes, [0.3, 0.7, 0.0], [0, 0, 1], [1, 1, 1], 1)
    assert torch.equal(means, boxes[0])
    assert torch.allclose(scores, torch.tensor([0.3, 0.7, 0.0]), atol=1e-9)


def test_classes_are_not_fused() -> None:
    _, scores = fused(batch(ONE, ONE), [0.5, 0.4], [0, 1], [1, 1], 1)
    assert scores.tolist() == pytest.approx([0.5, 0.4])


def test_boxes_without_area_stay_apart_and_finite() -> None:
    point = torch.tensor([[5.0, 5, 5, 5]])
    boxes, scores = fused(batch(point, point), [0.5, 0.0], [0, 0], [1, 1], 1)
    assert scores.tolist() == pytest.approx([0.5, 0.0])
    assert torch.equal(boxes, torch.cat([point, point]))


@pytest.mark.parametrize("pictures", [0, 2])
@pytest.mark.parametrize("filled", [0, 3])
def test_empty_is_normal(pictures: int, filled: int) -> None:
    scores = torch.full((pictures, filled), EMPTY)
    boxes, groups = torch.zeros(pictures, filled, 4), torch.zeros(pictures, filled).long()
    assert torch.equal(soften(boxes, scores, groups), scores)
    assert torch.equal(soften(boxes, scores, groups, "linear"), scores)
    assert torch.equal(fuse_boxes(boxes, scores, groups, torch.ones_like(scores), 1.0)[1], scores)


def overlap(a: Tensor, b: Tensor) -> float:
    return iou(a[None], b[None]).item()


def naive_soft_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, factor: Callable[[float], float]
) -> list[float]:
    """The paper's figure 3, class by class."""
    left = scores.tolist()
    waiting = {row for row, score in enumerate(left) if score != EMPTY}
    while waiting:
        best = max(waiting, key=lambda row: left[row])
        waiting.remove(best)
        for row in waiting:
            if groups[row] == groups[best]:
                left[row] *= factor(overlap(boxes[best], boxes[row]))
    return left


def naive_fusion(
    boxes: Tensor, scores: Tensor, groups: Tensor, weights: Tensor, looks: float, limit: float
) -> list[tuple[int, list[float], float]]:
    """The paper's steps, each mean from its members anew: of each cluster the box that began it,
    the mean, the score."""

    def mean(cluster: list[int]) -> Tensor:
        mass = (scores * weights)[cluster]
        return (boxes[cluster] * mass[:, None]).sum(0) / mass.sum()

    clusters: list[list[int]] = []
    for row in (scores * weights).argsort(descending=True).tolist():
        if scores[row] == EMPTY:
            continue
        same = [cluster for cluster in clusters if groups[cluster[0]] == groups[row]]
        best = max(same, key=lambda cluster: overlap(mean(cluster), boxes[row]), default=None)
        if best is not None and overlap(mean(best), boxes[row]) > limit:
            best.append(row)
        else:
            clusters.append([row])
    found = []
    for cluster in clusters:
        total = float(weights[cluster].sum())
        average = float((scores * weights)[cluster].sum()) / total
        score = average * min(total, looks) / looks
        found.append((cluster[0], mean(cluster).tolist(), score))
    return found


def drawn(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two pictures with boxes around a few places, in two classes; every fifth slot is empty."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.randint(0, 3, (2, 20, 1), generator=generator) * 30.0
    corner = place + torch.rand(2, 20, 2, generator=generator) * 4
    size = torch.rand(2, 20, 2, generator=generator) * 6 + 10
    scores = torch.rand(2, 20, generator=generator) * 0.98 + 0.01
    scores[:, ::5] = EMPTY
    groups = torch.randint(0, 2, (2, 20), generator=generator)
    return torch.cat([corner, corner + size], dim=2), scores, groups


@given(st.integers(0, 10_000))
def test_soft_nms_equals_the_naive_loop(seed: int) -> None:
    boxes, scores, groups = drawn(seed)
    linear, gaussian = (soften(boxes, scores, groups, form) for form in ("linear", "gaussian"))
    for row in range(2):
        given_ = boxes[row], scores[row], groups[row]
        assert linear[row].tolist() == pytest.approx(
            naive_soft_nms(*given_, lambda share: 1 - share if share >= 0.3 else 1)
        )
        assert gaussian[row].tolist() == pytest.approx(
            naive_soft_nms(*given_, lambda share: math.exp(-share * share / 0.5))
        )


@given(st.integers(0, 10_000))
def test_weighted_box_fusion_equals_the_naive_loop(seed: int) -> None:
    boxes, scores, groups = drawn(seed)
    weights = torch.tensor([1.0, 2.0, 0.5, 1.5]).repeat(2, 5)
    means, left = fuse_boxes(boxes, scores, groups, weights, 5.0, iou=0.55)
    for row in range(2):
        found = naive_fusion(boxes[row], scores[row], groups[row], weights[row], 5.0, 0.55)
        assert {slot for slot, _, _ in found} == set(
            (left[row] > EMPTY).nonzero().flatten().tolist()
        )
        for slot, box, score in found:
            assert left[row, slot].item() == pytest.approx(score, rel=1e-5)
            assert means[row, slot].tolist() == pytest.approx(box, rel=1e-4)


def test_pictures_do_not_touch_one_another() -> None:
    boxes, scores, groups = drawn(1)
    weights = torch.ones_like(scores)
    together, softened = (
        fuse_boxes(boxes, scores, groups, weights, 4.0),
        soften(boxes, scores, groups),
    )
    for row in range(2):
        alone = slice(row, row + 1)
        means, left = fuse_boxes(boxes[alone], scores[alone], groups[alone], weights[alone], 4.0)
        assert torch.equal(means, together[0][alone])
        assert torch.equal(left, together[1][alone])
        assert torch.equal(soften(boxes[alone], scores[alone], groups[alone]), softened[alone])
