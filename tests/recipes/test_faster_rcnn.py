"""What the recipes build."""

from functools import partial
from pathlib import Path

import pytest

from sightline.optim import adamw, cosine, stepped
from sightline.recipes.faster_rcnn import build, faster_rcnn
from sightline.recipes.recipe import Recipe, Settings
from sightline.types import Classes

CLASSES = Classes(("cat", "dog"))


def test_the_learning_rate_follows_the_batch() -> None:
    """0.02 at 16 pictures, so 0.0025 at 2; a given one is kept."""
    assert faster_rcnn(Path("d")).settings.lr == pytest.approx(0.02)
    assert faster_rcnn(Path("d"), settings=Settings(batch=2)).settings.lr == pytest.approx(0.0025)
    assert faster_rcnn(Path("d"), settings=Settings(batch=2, lr=0.1)).settings.lr == 0.1


def options(recipe: Recipe) -> dict[str, object]:
    assert isinstance(recipe.model, partial)
    return recipe.model.keywords


def test_given_weights_take_the_place_of_pretrained_ones() -> None:
    recipe = faster_rcnn(Path("d"), settings=Settings(weights="x", freeze=3))
    assert options(recipe)["pretrained"] is False
    assert options(recipe)["freeze_norm"] is True
    assert recipe.settings.freeze == 3


def test_from_scratch_nothing_is_frozen() -> None:
    recipe = faster_rcnn(Path("d"), pretrained=False)
    assert options(recipe)["freeze_norm"] is False
    assert recipe.settings.freeze == 0
    assert faster_rcnn(Path("d")).settings.freeze == 2


def test_choices_become_functions() -> None:
    recipe = faster_rcnn(Path("d"), optimizer="adamw", schedule="cosine", weight_decay=0.1)
    assert isinstance(recipe.optimizer, partial)
    assert recipe.optimizer.func is adamw
    assert recipe.optimizer.keywords == {"weight_decay": 0.1}
    assert recipe.schedule is cosine
    assert faster_rcnn(Path("d")).schedule is stepped


def test_it_is_saved_as_json() -> None:
    recipe = faster_rcnn(Path("d"), size=(240, 320), scale=(0.5, 2.0))
    assert Recipe.from_json(recipe.to_json()).to_json() == recipe.to_json()


def test_the_model_that_is_built() -> None:
    model = build(CLASSES, backbone="test_resnet", short=160, long=None, size=None)
    assert (model.card.model, model.card.classes) == ("faster_rcnn", CLASSES)
    assert model.preprocess.short == 160
    assert model.preprocess.fixed is None
    single = build(CLASSES, fpn=False, backbone="resnet18", size=(64, 96))
    assert single.card.model == "faster_rcnn_single"
    assert single.preprocess.fixed == (64, 96)
