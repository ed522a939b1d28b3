"""Models by name and sizes, or as the weights that are given."""

from pathlib import Path

import pytest

from sightline import weights
from sightline.errors import SightlineError
from sightline.models import create
from sightline.recipes.building import build, build_like
from sightline.types import Classes

CLASSES = Classes(("cat", "dog"))
TINY = {"model": "faster_rcnn", "backbone": "test_resnet"}


def test_the_model_that_is_built() -> None:
    model = build(CLASSES, **TINY, short=160, long=None, size=None)
    assert (model.card.model, model.card.classes) == ("faster_rcnn", CLASSES)
    assert model.preprocess.short == 160
    assert model.preprocess.fixed is None
    single = build(CLASSES, model="faster_rcnn_single", backbone="resnet18", size=(64, 96))
    assert single.card.model == "faster_rcnn_single"
    assert single.preprocess.fixed == (64, 96)
    assert build(CLASSES, **TINY, samples=9).box_head.sampling.count == 9
    with pytest.raises(SightlineError, match="size excludes short: give one or the other"):
        build(CLASSES, **TINY, size=(64, 96), short=64)
    with pytest.raises(SightlineError, match="resized to short 0"):
        build(CLASSES, **TINY, short=0)
    with pytest.raises(SightlineError, match="samples must be at least 1, not 0"):
        build(CLASSES, **TINY, samples=0)


def test_weights_of_another_family(tmp_path: Path) -> None:
    path = tmp_path / "given.safetensors"
    weights.save(create("fast_rcnn", CLASSES, backbone="resnet18"), path)
    with pytest.raises(SightlineError, match="is a fast_rcnn, not a faster_rcnn"):
        build_like(CLASSES, weights=str(path), family="faster_rcnn")


def test_a_family_is_no_beginning_of_another_s_name(tmp_path: Path) -> None:
    path = tmp_path / "given.safetensors"
    weights.save(create("ssdlite", CLASSES, backbone="test_resnet", side=64, channels=16), path)
    with pytest.raises(SightlineError, match="is a ssdlite, not a ssd"):
        build_like(CLASSES, weights=str(path), family="ssd")
    assert build_like(CLASSES, weights=str(path), family="ssdlite").card.model == "ssdlite"
    weights.save(create("faster_rcnn_v2", CLASSES, backbone="test_resnet"), path)
    assert build_like(CLASSES, weights=str(path), family="faster_rcnn").card.model.endswith("_v2")
