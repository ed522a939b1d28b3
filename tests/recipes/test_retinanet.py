"""What the recipe builds."""

from functools import partial
from pathlib import Path

import pytest

from sightline import weights
from sightline.models import create
from sightline.preprocess import Preprocess
from sightline.recipes.recipe import Recipe, Settings
from sightline.recipes.retinanet import retinanet
from sightline.types import Classes

CLASSES = Classes(("cat", "dog"))


def options(recipe: Recipe) -> dict[str, object]:
    assert isinstance(recipe.model, partial)
    return recipe.model.keywords


def test_the_learning_rate_follows_the_batch() -> None:
    """0.01 at 16 pictures, so 0.00125 at 2."""
    assert retinanet(Path("d")).settings.lr == pytest.approx(0.01)
    assert retinanet(Path("d"), settings=Settings(batch=2)).settings.lr == pytest.approx(0.00125)


def test_from_scratch_nothing_is_frozen() -> None:
    recipe = retinanet(Path("d"), pretrained=False)
    assert options(recipe)["freeze_norm"] is False
    assert recipe.settings.freeze == 0
    assert retinanet(Path("d")).settings.freeze == 2


def test_choices_reach_the_model() -> None:
    recipe = retinanet(
        Path("d"),
        backbone="test_resnet",
        pretrained=False,
        scores="softmax",
        class_agnostic=False,
        box_loss="giou",
        size=(64, 96),
    )
    assert Recipe.from_json(recipe.to_json()).to_json() == recipe.to_json()
    model = recipe.model(CLASSES)
    assert model.card.model == "retinanet"
    assert (model.scores, model.box_loss, model.preprocess.fixed) == ("softmax", "giou", (64, 96))
    assert model.box_head.values == 4 * len(CLASSES)


def test_with_weights_alone_the_model_is_built_as_theirs(tmp_path: Path) -> None:
    given = create("retinanet", CLASSES, backbone="test_resnet", convs=1, head_norm=True)
    given.preprocess = Preprocess(short=96, long=128, channels="bgr")
    path = tmp_path / "given.safetensors"
    weights.save(given, path)
    model = retinanet(Path("d"), settings=Settings(weights=str(path))).model(Classes(("cow",)))
    assert model.card.options == given.card.options
    assert model.card.classes.names == ("cow",)
    assert model.preprocess == given.preprocess
