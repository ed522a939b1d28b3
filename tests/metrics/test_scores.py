"""Score thresholds chosen per class."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.metrics.scores import choose_scores
from sightline.ops.boxes import coverage
from sightline.types import Scene
from tests.metrics.scenes import TWO, random_pairs, scene

A, B, FAR = (0, 0, 10, 10, 0), (20, 20, 30, 30, 0), (60, 60, 70, 70, 0)


def test_half_way_to_the_first_answer_not_worth_keeping() -> None:
    choice = choose_scores([scene(A, B)], [scene(A, B, FAR, scores=[0.9, 0.6, 0.4])], TWO)["cat"]
    assert choice.score == pytest.approx(0.5)
    assert (choice.f1, choice.precision, choice.recall) == (1, 1, 1)


def test_worth_a_wrong_answer() -> None:
    """Up to 0.5: precision 2/3, recall 1, F1 0.8; up to 0.9 alone: 1, 1/2, 2/3."""
    choice = choose_scores([scene(A, B)], [scene(A, FAR, B, scores=[0.9, 0.7, 0.5])], TWO)["cat"]
    assert choice.score == 0.25
    assert choice.f1 == pytest.approx(0.8)


def test_equal_scores_stand_or_fall_together() -> None:
    answers = [scene(A, FAR, scores=[0.5, 0.5])]
    choice = choose_scores([scene(A)], answers, TWO)["cat"]
    assert choice.precision == 0.5


def test_no_threshold_lies_below_what_was_looked_at() -> None:
    """One right answer at 0.06, of those above 0.05: half way between the two."""
    found = [scene(A, scores=[0.06])]
    assert choose_scores([scene(A)], found, TWO, above=0.05)["cat"].score == pytest.approx(0.055)


def test_answers_in_a_crowd_do_not_move_the_threshold() -> None:
    """Two parts of a crowd, scored between the two right answers: not worth a higher threshold."""
    crowd, parts = (40, 40, 90, 90, 0), [(40, 40, 50, 50, 0), (70, 70, 80, 80, 0)]
    truths = [scene(A, B, crowd, ignore=torch.tensor([False, False, True]))]
    answers = [scene(A, *parts, B, scores=[0.9, 0.8, 0.7, 0.6])]
    choice = choose_scores(truths, answers, TWO)["cat"]
    assert choice.score == pytest.approx(0.3)
    assert (choice.precision, choice.recall) == (1, 1)


def test_class_without_a_right_answer_is_left_out() -> None:
    assert choose_scores([scene(A)], [scene(FAR, scores=[0.9])], TWO) == {}
    assert choose_scores([], [], TWO) == {}


@settings(max_examples=8)
@given(st.integers(0, 10**6))
def test_no_threshold_is_better(seed: int) -> None:
    truths, answers, classes = random_pairs(seed)
    choices = choose_scores(truths, answers, classes)
    for label, name in enumerate(classes.names):
        if name in choices:
            tried = [_f1(truths, answers, label, step / 20) for step in range(21)]
            assert choices[name].f1 == pytest.approx(max(tried))
            assert _f1(truths, answers, label, choices[name].score) == pytest.approx(max(tried))


def _f1(truths: list[Scene], answers: list[Scene], label: int, score: float) -> float:
    """Answer by answer: the best scored to a truth is right; none counts to a difficult one, nor,
    if it is not right, in a region."""
    right = wrong = total = 0
    for truth, answer in zip(truths, answers, strict=True):
        true, found = truth.things, answer.things
        total += int(((true.labels == label) & ~true.ignore).sum())
        taken = set()
        mine = (found.labels == label) & (found.scores > score)
        rows = mine.nonzero().flatten()
        rows = rows[found.scores[rows].argsort(descending=True, stable=True)]
        region = true.ignore & ~true.difficult
        regions = true.boxes[region & (true.labels == label)]
        for box in found.boxes[rows]:
            best = _best_overlap(box, true.boxes, (true.labels == label) & ~region)
            if best is not None and true.ignore[best]:
                continue
            if best is not None and best not in taken:
                right += 1
                taken.add(best)
            elif not (coverage(box[None], regions) >= 0.5).any():
                wrong += 1
    return 2 * right / max(right + wrong + total, 1)


def _best_overlap(box: torch.Tensor, boxes: torch.Tensor, mine: torch.Tensor) -> int | None:
    best, best_iou = None, 0.5
    for row in mine.nonzero().flatten().tolist():
        low, high = torch.maximum(box[:2], boxes[row, :2]), torch.minimum(box[2:], boxes[row, 2:])
        shared = (high - low).clamp(min=0).prod()
        areas = (box[2:] - box[:2]).prod() + (boxes[row, 2:] - boxes[row, :2]).prod()
        iou = float(shared / (areas - shared))
        if iou >= best_iou and (best is None or iou > best_iou):
            best, best_iou = row, iou
    return best
