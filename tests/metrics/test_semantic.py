"""Label maps compared: by hand, with a naive twin, and where there is nothing to compare."""

import math

import pytest
import torch

from sightline.metrics.semantic import count_pixels, numbers_of, semantic_numbers
from sightline.types import Classes, Scene

CLASSES = Classes(("car",), stuff=("road", "sky"))


def scene(*rows: list[int], image_id: int = 0) -> Scene:
    return Scene((len(rows), len(rows[0])), semantic=torch.tensor(rows), image_id=image_id)


def test_by_hand() -> None:
    """Of 4 pixels of road 3 are found, one is called car; both of the car's are found; the one of
    sky is called road; one is unlabelled."""
    truth = scene([1, 1, 1, 1], [0, 0, 2, 255])
    answer = scene([1, 1, 1, 0], [0, 0, 1, 2])
    found = semantic_numbers([truth], [answer], CLASSES)
    assert found.per_class["car"] == pytest.approx({"IoU": 2 / 3, "recall": 1, "precision": 2 / 3})
    assert found.per_class["road"] == pytest.approx(
        {"IoU": 3 / 5, "recall": 3 / 4, "precision": 3 / 4}
    )
    assert found.per_class["sky"] == pytest.approx(
        {"IoU": 0, "recall": 0, "precision": math.nan}, nan_ok=True
    )
    assert found["mIoU"] == pytest.approx((2 / 3 + 3 / 5 + 0) / 3)
    assert found["fwIoU"] == pytest.approx(2 / 7 * 2 / 3 + 4 / 7 * 3 / 5)
    assert found["accuracy"] == pytest.approx(5 / 7)
    assert found["recall"] == pytest.approx((1 + 3 / 4 + 0) / 3)
    assert found["precision"] == pytest.approx((2 / 3 + 3 / 4) / 2)
    assert found.images == 1


def test_the_naive_twin() -> None:
    """Each class by its own two masks."""
    truths = [scene(*torch.randint(0, 3, (5, 7)).tolist(), image_id=n) for n in range(4)]
    answers = [scene(*torch.randint(0, 3, (5, 7)).tolist(), image_id=n) for n in range(4)]
    truths[1].semantic[2:4] = 255  # type: ignore[index]
    found = semantic_numbers(truths, answers, CLASSES)
    true = torch.stack([s.semantic for s in truths])  # type: ignore[misc]
    said = torch.stack([s.semantic for s in answers])  # type: ignore[misc]
    known = true != 255
    ious = []
    for label, name in enumerate(CLASSES.in_maps):
        a, b = (true == label) & known, (said == label) & known
        ious.append(((a & b).sum() / (a | b).sum()).item())
        assert found.per_class[name]["IoU"] == pytest.approx(ious[-1])
        assert found.per_class[name]["recall"] == pytest.approx(((a & b).sum() / a.sum()).item())
    assert found["mIoU"] == pytest.approx(sum(ious) / 3)
    assert found["accuracy"] == pytest.approx((true == said)[known].float().mean().item())


def test_the_truth_itself_is_worth_1_and_the_order_of_pictures_nothing() -> None:
    truths = [scene([0, 1], [2, 255], image_id=1), scene([1, 1], [255, 255], image_id=2)]
    answers = [scene([0, 2], [2, 0], image_id=1), scene([1, 0], [0, 0], image_id=2)]
    perfect = semantic_numbers(truths, truths, CLASSES)
    assert set(perfect.overall.values()) == {1.0}
    found = semantic_numbers(truths, answers, CLASSES)
    assert semantic_numbers(truths[::-1], answers[::-1], CLASSES) == found


def test_pixels_answered_with_no_class_are_wrong() -> None:
    """Both unlabelled and a label the data lack: one of three pixels of road is found."""
    found = semantic_numbers([scene([1, 1, 1])], [scene([1, 255, 7])], CLASSES)
    assert found.per_class["road"]["IoU"] == pytest.approx(1 / 3)
    assert found["accuracy"] == pytest.approx(1 / 3)


def test_a_class_that_is_nowhere_has_no_number() -> None:
    found = semantic_numbers([scene([1, 1])], [scene([1, 1])], CLASSES)
    assert math.isnan(found.per_class["car"]["IoU"])
    assert found["mIoU"] == 1


def test_nothing_labelled_gives_no_number() -> None:
    truth = scene([255, 255])
    assert all(map(math.isnan, semantic_numbers([truth], [truth], CLASSES).overall.values()))
    assert all(map(math.isnan, semantic_numbers([], [], CLASSES).overall.values()))


def test_counts_of_parts_add_up() -> None:
    truth, answer = torch.randint(0, 3, (6, 8)), torch.randint(0, 3, (6, 8))
    whole = count_pixels(truth, answer, 3)
    parts = [count_pixels(truth[rows], answer[rows], 3) for rows in (slice(2), slice(2, 6))]
    assert torch.equal(whole, sum(parts, torch.zeros(3, 4).long()))
    assert whole.sum() == 48
    assert numbers_of(whole, CLASSES, 1).per_class.keys() == {"car", "road", "sky"}


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="a label map is missing"):
        semantic_numbers([scene([1])], [Scene((1, 1), image_id=0)], CLASSES)
    with pytest.raises(ValueError, match="answer 0 is of picture 3"):
        semantic_numbers([scene([1])], [scene([1], image_id=3)], CLASSES)
