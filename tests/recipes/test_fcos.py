"""What the recipe of FCOS builds."""

from functools import partial
from pathlib import Path

import pytest

from sightline import weights
from sightline.errors import SightlineError
from sightline.models import create
from sightline.preprocess import Preprocess
from sightline.recipes.fcos import fcos
from sightline.recipes.recipe import Recipe, Settings
from sightline.types import Classes

CLASSES = Classes(("cat", "dog"))
SMALL = {"backbone": "test_resnet", "channels": 64, "convs": 1}


def test_the_learning_rate_follows_the_batch() -> None:
    """0.01 at 16 pictures, so 0.005 at 8; a given one is kept."""
    assert fcos(Path("d")).settings.lr == pytest.approx(0.01)
    assert fcos(Path("d"), settings=Settings(batch=8)).settings.lr == pytest.approx(0.005)
    assert fcos(Path("d"), settings=Settings(lr=0.1)).settings.lr == 0.1
    adam = fcos(Path("d"), optimizer="adamw", settings=Settings(batch=8))
    assert adam.settings.lr == pytest.approx(5e-5)


def test_from_scratch_nothing_is_frozen() -> None:
    scratch, loaded = fcos(Path("d"), pretrained=False), fcos(Path("d"))
    assert (scratch.settings.freeze, loaded.settings.freeze) == (0, 2)
    for recipe, frozen in ((scratch, False), (loaded, True)):
        assert isinstance(recipe.model, partial)
        assert recipe.model.keywords["freeze_norm"] is frozen
        assert recipe.model.keywords["pretrained"] is frozen


def test_it_is_saved_as_json() -> None:
    recipe = fcos(Path("d"), size=(240, 320), radius=0, box_loss="l2", repeat=0.1)
    assert Recipe.from_json(recipe.to_json()).to_json() == recipe.to_json()


def test_choices_reach_the_model() -> None:
    recipe = fcos(
        Path("d"),
        backbone="test_resnet",
        distances="exp",
        radius=0,
        box_loss="l2",
        pretrained=False,
        short=160,
    )
    model = recipe.model(CLASSES)
    assert (model.card.model, model.card.classes) == ("fcos", CLASSES)
    assert (model.radius, model.box_loss, len(model.scales)) == (0, "l2", 5)
    assert model.preprocess.short == 160


def test_with_weights_alone_the_model_is_built_as_theirs(tmp_path: Path) -> None:
    given = create("fcos", CLASSES, distances="exp", score="root", **SMALL)
    given.preprocess = Preprocess(fixed=(64, 96), channels="bgr")
    path = tmp_path / "given.safetensors"
    weights.save(given, path)
    recipe = fcos(Path("d"), short=80, radius=0, settings=Settings(weights=str(path)))
    assert Recipe.from_json(recipe.to_json()).to_json() == recipe.to_json()
    model = recipe.model(Classes(("cow",)))
    assert model.card.options == given.card.options | {"radius": 0}
    assert model.card.classes.names == ("cow",)
    assert model.preprocess == Preprocess(short=80, channels="bgr")


def test_weights_of_another_family(tmp_path: Path) -> None:
    path = tmp_path / "given.safetensors"
    weights.save(create("faster_rcnn", CLASSES, backbone="test_resnet"), path)
    recipe = fcos(Path("d"), settings=Settings(weights=str(path)))
    with pytest.raises(SightlineError, match="is a faster_rcnn, not a fcos"):
        recipe.model(CLASSES)
