"""A model measured on a data set."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import sightline
from sightline.data.coco import write_coco
from sightline.data.packed import DataWarning
from sightline.errors import SightlineError
from sightline.evaluate import answer, corresponding, evaluate, measure, relabelled
from sightline.types import Classes, Instances, Scene
from tests.bright import Bright, Patches, picture
from tests.probes import TINY


def thing(*boxes: tuple[float, ...], labels: list[int]) -> Instances:
    return Instances(torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels))


def patches() -> Patches:
    """Red is found in both pictures, wrongly in the second; green is there and found."""
    return Patches(
        [
            picture((2, 3, 12, 9, 0, 204)),
            picture((0, 0, 9, 9, 0, 255), (10, 0, 20, 9, 1, 255), size=(40, 30)),
        ],
        [thing((2.0, 3, 12, 9), labels=[0]), thing((10.0, 0, 20, 9), labels=[1])],
    )


def test_numbers_by_hand() -> None:
    """Red: the wrong answer (score 1) comes before the right one (0.8): precision is 1/2 at every
    recall. Green: 1. Blue has no truth."""
    numbers = evaluate(Bright(), patches())
    assert numbers.per_class["red"]["AP"] == pytest.approx(0.5)
    assert numbers.per_class["green"]["AP"] == pytest.approx(1)
    assert numbers["AP"] == pytest.approx(0.75)
    assert numbers.images == 2
    voc = evaluate(Bright(), patches(), kind="voc", ious=[0.5, 0.75])
    assert list(voc.overall) == ["VOC11@0.5", "VOC11@0.75", "VOC@0.5", "VOC@0.75"]
    assert voc["VOC@0.75"] == pytest.approx(0.75)


def test_score_is_that_of_the_model_unless_given() -> None:
    model = Bright()
    assert evaluate(model, patches(), score=0.9)["AP"] == pytest.approx(0.5)
    assert model.selection.score == 0.05
    assert evaluate(model, patches())["AP"] == pytest.approx(0.75)


def test_answers_know_their_pictures_and_stay_in_order() -> None:
    answered = answer(Bright(), patches(), batch=1)
    assert [scene.image_id for scene in answered.answers] == [10, 11]
    assert [scene.path for scene in answered.answers] == ["0.png", "1.png"]
    assert [scene.size for scene in answered.answers] == [(20, 30), (40, 30)]


def test_other_class_lists_are_matched_by_name() -> None:
    """The data calls green 0 and red 1, and also knows pink."""
    theirs = patches()
    theirs.classes = Classes(("green", "red", "pink"))
    theirs.truths = [
        thing((2.0, 3, 12, 9), labels=[1]),
        thing((10.0, 0, 20, 9), (0, 30, 5, 35), labels=[0, 2]),
    ]
    with pytest.warns(DataWarning, match="does not know pink: it finds none"):
        numbers = evaluate(Bright(), theirs)
    assert numbers.per_class["red"]["AP"] == pytest.approx(0.5)
    assert numbers.per_class["green"]["AP"] == pytest.approx(1)
    assert numbers.per_class["pink"]["AP"] == 0


def test_things_of_unknown_classes_are_dropped() -> None:
    scene = Scene((9, 9), thing((0.0, 0, 1, 1), (0, 0, 2, 2), labels=[0, 1]))
    labels = corresponding(("a", "b"), ("b",))
    assert labels.tolist() == [-1, 0]
    renamed = relabelled(scene, labels)
    assert renamed.things.labels.tolist() == [0]
    assert renamed.things.boxes.tolist() == [[0, 0, 2, 2]]
    assert scene.things.labels.tolist() == [0, 1]


def test_class_names_match_in_any_case() -> None:
    """As where weights are taken over."""
    assert corresponding(("Cat", "dog"), ("Dog ", "cat")).tolist() == [1, 0]


def test_no_class_in_common() -> None:
    """Told before the model runs."""
    letters, numbers = tuple("abcdefgh"), ("1",)
    with pytest.raises(
        SightlineError, match="knows a, b, c, d, e and 3 more, the data set has 1: no class"
    ):
        corresponding(letters, numbers)
    model, theirs = Bright(), patches()
    theirs.classes = Classes(numbers)
    with pytest.raises(SightlineError, match="no class is in both"):
        evaluate(model, theirs)
    assert model.batches == []


def test_what_cannot_be_compared_is_told_after_one_batch() -> None:
    model = Bright()
    with pytest.raises(SightlineError, match="no masks to compare"):
        evaluate(model, patches(), kind="coco-masks", batch=1)
    assert len(model.batches) == 1


class Pointing(Bright):
    """``Bright`` that marks the upper left corner of what it finds, and one pixel beside it."""

    def describe(self, *given: Any) -> list[Scene]:
        scenes = super().describe(*given)
        for scene in scenes:
            scene.things.keypoints = corners(scene.things.boxes)
        return scenes


def corners(boxes: torch.Tensor, aside: float = 1.0) -> torch.Tensor:
    seen = torch.full((len(boxes), 1), 2.0)
    points = [torch.cat([boxes[:, :2] + offset, seen], dim=1) for offset in (0.0, aside)]
    return torch.stack(points, dim=1)


def test_sigmas_of_other_keypoints_than_a_persons() -> None:
    """The second point of red (10 x 6, so area 60) is 3 pixels off on both axes. With k = 2 sigma,
    OKS is (1 + exp(-18 / (2 * 60 * k^2))) / 2: 0.54 for sigma 0.1225, 0.99 for sigma 1."""
    pointed = patches()
    for thing in pointed.truths:
        thing.keypoints = corners(thing.boxes, aside=4.0)
    with pytest.raises(SightlineError, match="have 2 keypoints"):
        evaluate(Pointing(), pointed, kind="coco-keypoints")
    exact = evaluate(
        Pointing(), pointed, kind="coco-keypoints", sigmas=[1, 0.1225], ious=[0.5, 0.6]
    )
    assert exact.per_class["red"]["AP50"] == pytest.approx(0.5)
    assert exact.per_class["red"]["AP60"] == 0
    lax = evaluate(Pointing(), pointed, kind="coco-keypoints", sigmas=[1, 1], ious=[0.6])
    assert lax.per_class["red"]["AP60"] == pytest.approx(0.5)


def test_nothing_to_measure() -> None:
    with pytest.raises(SightlineError, match="no picture to measure on"):
        evaluate(Bright(), Patches([], []))
    with pytest.raises(SightlineError, match=r"IoU thresholds must lie in 0..1"):
        measure(answer(Bright(), patches()), ious=[50])
    with pytest.raises(SightlineError, match="no such folder"):
        evaluate(Bright(), "/nowhere/at/all")


def test_missing_packages_are_told_before_the_model_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hotcoco", "pycocotools.coco"):
        monkeypatch.setitem(sys.modules, name, None)
    model = Bright()
    with pytest.raises(SightlineError, match="pip install hotcoco"):
        evaluate(model, patches())
    assert model.batches == []
    assert evaluate(model, patches(), kind="voc")["VOC@0.5"] == pytest.approx(0.75)


def test_a_real_model_and_a_folder(tmp_path: Path) -> None:
    """An untrained model from a file on a written data set; training mode is given back."""
    write_coco(patches(), tmp_path / "data", split="val")
    model = sightline.create("faster_rcnn", classes=patches().classes, **TINY)
    sightline.save(model, tmp_path / "m.safetensors")
    of_file = evaluate(tmp_path / "m.safetensors", tmp_path / "data", device="cpu")
    of_model = evaluate(model, tmp_path / "data", batch=1)
    assert model.training
    assert list(of_file.overall)[:3] == ["AP", "AP50", "AP75"]
    assert of_model["AP"] == pytest.approx(of_file["AP"], abs=1e-3)
    assert 0 <= of_model["AP"] <= 1
    file = next((tmp_path / "data").rglob("*.json"))
    assert evaluate(model, file).images == 2
