"""Pascal VOC's average precision."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sightline.metrics.table import table
from sightline.metrics.voc import overlap, voc_numbers
from sightline.types import Classes, Scene
from tests.metrics.scenes import TWO, random_pairs, scene

A, B, FAR = (0, 0, 10, 10, 0), (20, 20, 30, 30, 0), (60, 60, 70, 70, 0)


def test_right_wrong_right() -> None:
    numbers = voc_numbers([scene(A, B)], [scene(A, FAR, B, scores=[0.9, 0.8, 0.7])], TWO)
    # Recall 1/2, 1/2, 1 at precision 1, 1/2, 2/3: the area is 1/2 * 1 + 1/2 * 2/3; of the eleven
    # points six (0 to 0.5) find precision 1 and five 2/3.
    assert numbers["VOC@0.5"] == pytest.approx(5 / 6)
    assert numbers["VOC11@0.5"] == pytest.approx((6 + 5 * 2 / 3) / 11)


def test_classes_apart_and_averaged() -> None:
    truths = [scene(A, (20, 20, 30, 30, 1))]
    numbers = voc_numbers(truths, [scene(A, (20, 20, 30, 30, 0), scores=[0.9, 0.8])], TWO)
    assert numbers.per_class["cat"]["VOC@0.5"] == 1
    assert numbers.per_class["dog"]["VOC@0.5"] == 0
    assert numbers["VOC@0.5"] == 0.5


def test_second_answer_to_a_truth_is_wrong() -> None:
    numbers = voc_numbers([scene(A, B)], [scene(A, A, B, scores=[0.9, 0.8, 0.7])], TWO)
    assert numbers["VOC@0.5"] == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


def test_answer_to_a_taken_truth_does_not_fall_back_to_another() -> None:
    """Both answers overlap the first truth most; the second would reach the other one as well."""
    truths = [scene((0, 0, 10, 10, 0), (2, 0, 12, 10, 0))]
    answers = [scene((0, 0, 10, 10, 0), (0.5, 0, 10.5, 10, 0), scores=[0.9, 0.8])]
    assert voc_numbers(truths, answers, TWO)["VOC@0.5"] == 0.5


def test_threshold_is_reached_by_equality() -> None:
    truths, answers = [scene((0, 0, 10, 10, 0))], [scene((0, 0, 5, 10, 0), scores=[0.9])]
    numbers = voc_numbers(truths, answers, TWO, ious=[0.5, 0.6])
    assert numbers["VOC@0.5"] == 1
    assert numbers["VOC@0.6"] == 0


def test_difficult_truths_count_neither_way() -> None:
    truths = [scene(A, B, **difficult(False, True))]
    answers = [scene(B, B, A, scores=[0.9, 0.8, 0.7])]
    assert voc_numbers(truths, answers, TWO)["VOC@0.5"] == 1
    alone = voc_numbers([scene(B, **difficult(True))], answers, TWO)
    assert math.isnan(alone["VOC@0.5"])


def difficult(*flags: bool) -> dict[str, Any]:
    return {"ignore": torch.tensor(flags), "extra": {"difficult": torch.tensor(flags)}}


def test_a_part_of_a_difficult_thing_is_wrong_and_a_part_of_a_region_is_not() -> None:
    """The left fifth of B comes first: by the kit it is wrong (IoU 0.2 with the difficult B), so
    that A is right at precision 1/2; of a crowd's region it is simply not counted."""
    truths = [scene(A, B, **difficult(False, True))]
    answers = [scene((20, 20, 22, 30, 0), A, scores=[0.9, 0.8])]
    assert voc_numbers(truths, answers, TWO)["VOC@0.5"] == 0.5
    region = [scene(A, B, ignore=torch.tensor([False, True]))]
    assert voc_numbers(region, answers, TWO)["VOC@0.5"] == 1
    # Half of it beside the region is enough at 0.5 and too little at 0.75; another class's region
    # is nothing to it.
    answers = [scene((18, 20, 22, 30, 0), A, scores=[0.9, 0.8])]
    numbers = voc_numbers(region, answers, TWO, ious=[0.5, 0.75])
    assert (numbers["VOC@0.5"], numbers["VOC@0.75"]) == (1, 0.5)
    region[0].things.labels[1] = 1
    assert voc_numbers(region, answers, TWO)["VOC@0.5"] == 0.5


def test_a_thing_in_a_region_is_found_all_the_same() -> None:
    """Once: what finds it again is an answer in the region."""
    around = (0, 0, 11, 10, 0)
    truths = [scene(A, around, B, ignore=torch.tensor([False, True, False]))]
    answers = [scene(A, A, B, scores=[0.9, 0.8, 0.7])]
    assert voc_numbers(truths, answers, TWO)["VOC@0.5"] == 1


def test_inclusive_boxes_are_pixels_with_both_ends() -> None:
    truths = [scene((3, 3, 3, 3, 0))]  # one pixel
    answers = [scene((3, 3, 3, 4, 0), scores=[0.5])]  # two pixels, one of them the right one
    assert voc_numbers(truths, answers, TWO, inclusive=True)["VOC@0.5"] == 1
    assert voc_numbers(truths, answers, TWO)["VOC@0.5"] == 0  # continuous: no area at all


def test_a_class_without_truth_is_not_averaged() -> None:
    numbers = voc_numbers([scene(A)], [scene(A, (0, 0, 9, 9, 1), scores=[0.9, 0.8])], TWO)
    assert math.isnan(numbers.per_class["dog"]["VOC11@0.5"])
    assert numbers["VOC11@0.5"] == 1


@pytest.mark.parametrize("pictures", [0, 1, 3])
def test_empty_scenes(pictures: int) -> None:
    empty = [Scene((10, 10))] * pictures
    assert math.isnan(voc_numbers(empty, empty, TWO)["VOC@0.5"])


def test_answers_of_another_picture_are_refused() -> None:
    truths, answers, classes = random_pairs(0)
    with pytest.raises(ValueError, match="answer 0 is of picture 11, not of 0"):
        voc_numbers(truths, answers[::-1], classes)
    with pytest.raises(ValueError, match="11 answers for 12 truths"):
        voc_numbers(truths, answers[1:], classes)


@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([0.1, 0.5, 0.75]))
def test_equals_the_naive_loop(seed: int, inclusive: bool, threshold: float) -> None:
    truths, answers, classes = random_pairs(seed)
    numbers = voc_numbers(truths, answers, classes, ious=[threshold], inclusive=inclusive)
    for label, name in enumerate(classes.names):
        eleven, area = naive(truths, answers, label, threshold, inclusive)
        row = numbers.per_class[name]
        assert row[f"VOC11@{threshold}"] == pytest.approx(eleven, abs=1e-12, nan_ok=True)
        assert row[f"VOC@{threshold}"] == pytest.approx(area, abs=1e-12, nan_ok=True)


@given(st.integers(0, 10**6))
def test_order_of_pictures_does_not_matter_to_the_overlaps(seed: int) -> None:
    truths, answers, _ = random_pairs(seed)
    there = overlap(table(truths), table(answers))
    back = overlap(table(truths[::-1]), table(answers[::-1]))
    np.testing.assert_array_equal(np.sort(there.ious), np.sort(back.ious))


def naive(
    truths: list[Scene], answers: list[Scene], label: int, threshold: float, inclusive: bool
) -> tuple[float, float]:
    """11-point and area AP of one class, answer by answer, as in VOCevaldet.m."""
    boxes = [t.things.boxes[t.things.labels == label].tolist() for t in truths]
    ignored = [t.things.ignore[t.things.labels == label].tolist() for t in truths]
    difficult = [t.things.difficult[t.things.labels == label].tolist() for t in truths]
    taken = [[False] * len(b) for b in boxes]
    total = sum(not i for row in ignored for i in row)
    if total == 0:
        return math.nan, math.nan
    found = [
        (float(score), picture, box)
        for picture, a in enumerate(answers)
        for box, name, score in zip(
            a.things.boxes.tolist(), a.things.labels, a.things.scores, strict=True
        )
        if name == label
    ]
    right = wrong = 0
    points = []
    for _, picture, box in sorted(found, key=lambda row: -row[0]):
        ious = [naive_iou(box, true, inclusive) for true in boxes[picture]]
        kinds = list(zip(ignored[picture], difficult[picture], strict=True))
        regions = [true for true, kind in zip(boxes[picture], kinds, strict=True) if kind == REGION]
        things = [row for row, kind in enumerate(kinds) if kind != REGION]
        best = max(things, key=ious.__getitem__, default=None)
        inside = any(naive_share(box, r, inclusive) >= threshold for r in regions)
        if best is not None and ious[best] >= threshold:
            if difficult[picture][best]:
                continue
            if taken[picture][best] and inside:
                continue
            right, wrong = right + (not taken[picture][best]), wrong + taken[picture][best]
            taken[picture][best] = True
        elif inside:
            continue
        else:
            wrong += 1
        points.append((right / total, right / (right + wrong)))
    eleven = sum(
        max((p for r, p in points if r >= step), default=0) for step in np.linspace(0, 1, 11)
    )
    area = last = 0.0
    for k, (recall, _) in enumerate(points):
        area += (recall - last) * max(p for _, p in points[k:])
        last = recall
    return eleven / 11, area


REGION = (True, False)  # ignored, and not for being difficult


def naive_share(a: list[float], b: list[float], inclusive: bool) -> float:
    """Of ``a`` inside ``b``: the IoU of the two where their union is taken to be ``a``."""
    low, high = map(max, a[:2], b[:2]), map(min, a[2:], b[2:])
    return naive_iou(a, [*low, *high], inclusive)


def naive_iou(a: list[float], b: list[float], inclusive: bool) -> float:
    one = 1 if inclusive else 0
    width = min(a[2], b[2]) - max(a[0], b[0]) + one
    height = min(a[3], b[3]) - max(a[1], b[1]) + one
    if width <= 0 or height <= 0:
        return 0
    shared = width * height
    area = [(x2 - x1 + one) * (y2 - y1 + one) for x1, y1, x2, y2 in (a, b)]
    return shared / (sum(area) - shared)


def test_one_class_list_longer_than_the_labels() -> None:
    classes = Classes(("cat", "dog", "cow"))
    assert set(voc_numbers([scene(A)], [scene()], classes).per_class) == {"cat", "dog", "cow"}
