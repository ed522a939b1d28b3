"""COCO's numbers: by hand, and both packages behind the adapter against one another."""

import contextlib
import io
import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sightline.errors import SightlineError
from sightline.metrics.detection import coco_numbers
from sightline.ops.masks import encode
from sightline.types import Classes, Instances, Scene
from tests.metrics.scenes import TWO, random_pairs, scene

A, B, FAR = (0, 0, 10, 10, 0), (20, 20, 30, 30, 0), (60, 60, 70, 70, 0)
ONE = pytest.approx(1)  # the reference adds 2e-16 to what it divides by
BOTH = pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])


@BOTH
def test_right_wrong_right(backend: str) -> None:
    answers = [scene(A, FAR, B, scores=[0.9, 0.8, 0.7])]
    numbers = coco_numbers([scene(A, B)], answers, TWO, backend=backend)
    # At 51 of the 101 recalls (0 to 0.5) the best precision is 1, at the other 50 it is 2/3.
    assert numbers["AP50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert numbers["AP"] == pytest.approx(numbers["AP50"])  # the boxes are exact
    assert numbers["AP"] == numbers["APs"]  # all of them are small
    assert numbers["AR1"] == 0.5
    assert numbers["AR100"] == 1
    assert math.isnan(numbers["APl"])


@BOTH
def test_answers_in_a_crowd_count_neither_way(backend: str) -> None:
    crowd = (50, 50, 90, 90, 0)  # FAR lies inside it
    truths = [scene(A, crowd, ignore=torch.tensor([False, True]))]
    answers = [scene(FAR, A, scores=[0.9, 0.8])]
    assert coco_numbers(truths, answers, TWO, backend=backend)["AP"] == ONE


@BOTH
def test_known_area_decides_the_size_class(backend: str) -> None:
    truths = [scene(A, area=torch.tensor([5000.0]))]
    numbers = coco_numbers(truths, [scene(A, scores=[0.9])], TWO, backend=backend)
    assert numbers["APm"] == ONE
    assert math.isnan(numbers["APs"])


@BOTH
def test_any_thresholds(backend: str) -> None:
    answers = [scene((0, 0, 10, 6, 0), scores=[0.9])]  # IoU 0.6 with A
    numbers = coco_numbers([scene(A)], answers, TWO, ious=[0.3, 0.5, 0.7], backend=backend)
    assert numbers["AP"] == pytest.approx(2 / 3)
    assert [numbers[f"AP{percent}"] for percent in (30, 50, 70)] == [ONE, ONE, 0]
    assert "AP75" not in numbers.overall


@BOTH
def test_per_class(backend: str) -> None:
    truths = [scene(A, (20, 20, 30, 30, 1))]
    numbers = coco_numbers(truths, [scene(A, scores=[0.9])], TWO, backend=backend)
    assert numbers.per_class["cat"]["AP"] == ONE
    assert numbers.per_class["dog"]["AP"] == 0
    assert numbers["AP"] == pytest.approx(0.5)


@BOTH
def test_limits(backend: str) -> None:
    answers = [scene(FAR, A, scores=[0.9, 0.8])]
    numbers = coco_numbers([scene(A)], answers, TWO, limits=[1, 300], backend=backend)
    assert numbers["AR1"] == 0
    assert numbers["AR300"] == 1
    assert numbers["AP"] == pytest.approx(0.5)


@BOTH
@pytest.mark.parametrize("of", ["boxes", "masks", "keypoints"])
@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_empty_scenes(backend: str, of: str, pictures: int) -> None:
    empty = [Scene((10, 10))] * pictures
    numbers = coco_numbers(empty, empty, TWO, of=of, backend=backend)
    assert all(math.isnan(value) for value in numbers.overall.values())


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_hotcoco_equals_pycocotools(seed: int) -> None:
    truths, answers, classes = random_pairs(seed)
    fast = coco_numbers(truths, answers, classes, backend="hotcoco")
    slow = coco_numbers(truths, answers, classes, backend="pycocotools")
    assert fast.to_json() == slow.to_json()


@settings(max_examples=5)
@given(st.integers(0, 10**6))
def test_hotcoco_equals_pycocotools_for_masks_and_keypoints(seed: int) -> None:
    truths, answers, classes = random_pairs(seed)
    for each in truths + answers:
        _fill(each)
    for of in ("masks", "keypoints"):
        fast = coco_numbers(truths, answers, classes, of=of, sigmas=[0.1, 0.2], backend="hotcoco")
        slow = coco_numbers(
            truths, answers, classes, of=of, sigmas=[0.1, 0.2], backend="pycocotools"
        )
        assert fast.to_json() == slow.to_json()


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_hotcoco_equals_pycocotools_where_areas_are_known(seed: int) -> None:
    """Of the truths of every other picture and of the answers of every third, and not those of the
    boxes: answers too fall out of a size class by their own area."""
    truths, answers, classes = random_pairs(seed)
    for each in truths + answers:
        _fill(each)
    generator = torch.Generator().manual_seed(seed)
    for each in truths[::2] + answers[::3]:
        each.things.area = 3000 * torch.rand(len(each.things), generator=generator)
    for of in ("boxes", "masks"):
        fast = coco_numbers(truths, answers, classes, of=of, backend="hotcoco")
        slow = coco_numbers(truths, answers, classes, of=of, backend="pycocotools")
        assert fast.to_json() == slow.to_json()


@BOTH
def test_area_of_an_answer_decides_whether_it_is_missed_among_its_size(backend: str) -> None:
    """FAR finds nothing: among the small things it is wrong if it is small itself, and left out if
    it is not. Without it the precision of what is found is 1."""
    for area, expected in ((100.0, 0.5), (5000.0, 1.0)):
        areas = torch.tensor([area, 100.0])
        found = scene(FAR, A, scores=[0.9, 0.8], area=areas)
        numbers = coco_numbers([scene(A)], [found], TWO, backend=backend)
        assert numbers["APs"] == pytest.approx(expected)
        assert numbers["AP"] == pytest.approx(0.5)


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_equals_what_pycocotools_itself_summarises(seed: int) -> None:
    truths, answers, classes = random_pairs(seed)
    expected = _summary(truths, answers, len(classes))
    obtained = coco_numbers(truths[::-1], answers[::-1], classes)  # it sorts by image id
    values = [-1 if math.isnan(value) else value for value in obtained.overall.values()]
    assert values == expected


def test_masks_of_every_form_are_one() -> None:
    square = torch.zeros(1, 20, 20, dtype=torch.bool)
    square[0, 2:12, 3:13] = True
    polygon = [[torch.tensor([[3.0, 2], [13, 2], [13, 12], [3, 12]])]]
    for truth in (square, encode(square), polygon):
        for answer in (square, encode(square), polygon):
            numbers = coco_numbers([_masked(truth)], [_masked(answer, 0.9)], TWO, of="masks")
            assert numbers["AP"] == ONE
            assert numbers["APs"] == ONE  # 100 pixels


def test_missing_masks_and_keypoints_are_told() -> None:
    with pytest.raises(SightlineError, match="no masks"):
        coco_numbers([scene(A)], [scene(A, scores=[0.9])], TWO, of="masks")
    with pytest.raises(SightlineError, match="no keypoints"):
        coco_numbers([scene(A)], [scene(A, scores=[0.9])], TWO, of="keypoints")


def test_other_keypoints_than_a_persons_need_sigmas() -> None:
    truth = scene(A, keypoints=torch.ones(1, 4, 3))
    with pytest.raises(SightlineError, match=r"4 keypoints, and sigmas .* are 17"):
        coco_numbers([truth], [truth], TWO, of="keypoints")


def test_without_either_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hotcoco", "pycocotools.coco"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SightlineError, match="pip install hotcoco"):
        coco_numbers([scene(A)], [scene(A, scores=[0.9])], TWO)
    with pytest.raises(SightlineError, match="pip install pycocotools"):
        coco_numbers([scene(A)], [scene(A, scores=[0.9])], TWO, backend="pycocotools")


def test_without_hotcoco_pycocotools_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    assert coco_numbers([scene(A)], [scene(A, scores=[0.9])], TWO)["AP"] == ONE


def _masked(masks: object, score: float | None = None) -> Scene:
    box, label = torch.tensor([[3.0, 2, 13, 12]]), torch.tensor([0])
    scores = None if score is None else torch.tensor([score])
    return Scene((20, 20), Instances(box, label, scores, masks=masks))  # type: ignore[arg-type]


def _fill(each: Scene) -> None:
    """Give every thing its box as a mask, and its corners as keypoints."""
    boxes = each.things.boxes
    masks = torch.zeros(len(boxes), *each.size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.clamp(min=0).long().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    each.things.masks = encode(masks)
    each.things.keypoints = torch.cat([boxes.view(-1, 2, 2), torch.ones(len(boxes), 2, 1)], dim=2)


def _summary(truths: list[Scene], answers: list[Scene], classes: int) -> list[float]:
    """pycocotools' own twelve numbers, from dictionaries written here."""
    frame = {
        "images": [{"id": t.image_id, "height": 100, "width": 100} for t in truths],
        "categories": [{"id": label, "name": str(label)} for label in range(classes)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        indexed = []
        for scenes in (truths, answers):
            coco = COCO()
            coco.dataset = frame | {"annotations": _dictionaries(scenes)}
            coco.createIndex()
            indexed.append(coco)
        evaluator = COCOeval(*indexed, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats.tolist()


def _dictionaries(scenes: list[Scene]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for each in scenes:
        things = each.things
        for k, (x1, y1, x2, y2) in enumerate(things.boxes.tolist()):
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": each.image_id,
                    "category_id": int(things.labels[k]),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(things.ignore[k]),
                    "score": 0 if things.scores is None else float(things.scores[k]),
                }
            )
    return rows


def test_class_list_with_gaps() -> None:
    """Category ids play no part in the numbers."""
    gaps = Classes(("cat", "dog"), ids=(7, 3))
    assert coco_numbers([scene(A)], [scene(A, scores=[0.9])], gaps).per_class["cat"]["AP"] == ONE
