"""What the recipes of FCN and U-Net build."""

from functools import partial
from pathlib import Path

import pytest
import torch

from sightline import optim, weights
from sightline.errors import SightlineError
from sightline.models import create
from sightline.recipes.recipe import Recipe, Settings
from sightline.recipes.segmentation import fcn, unet, weigh
from sightline.types import Classes, Scene
from tests.data.samples import InMemory

CLASSES = Classes(("car",), stuff=("sky", "road"))


@pytest.mark.parametrize("recipe", [fcn, unet])
def test_a_recipe_is_plain_values(recipe: type[Recipe]) -> None:
    made = recipe(Path("d"), class_weights="sky=2")  # type: ignore[call-arg]
    assert Recipe.from_json(made.to_json()).to_json() == made.to_json()
    assert "prepare" not in recipe(Path("d")).to_json()  # type: ignore[call-arg]


def test_the_learning_rate_follows_the_batch_and_the_optimiser() -> None:
    assert fcn(Path("d")).settings.lr == pytest.approx(0.01)
    assert fcn(Path("d"), settings=Settings(batch=4)).settings.lr == pytest.approx(0.0025)
    assert fcn(Path("d"), optimizer="adamw").settings.lr == pytest.approx(3e-4)
    assert unet(Path("d")).settings.lr == pytest.approx(1e-3)
    assert unet(Path("d"), optimizer="sgd", settings=Settings(lr=0.3)).settings.lr == 0.3


def test_schedules_are_those_that_are_usual() -> None:
    assert fcn(Path("d")).schedule is optim.poly
    assert unet(Path("d")).schedule is optim.one_cycle
    assert fcn(Path("d"), schedule="cosine").schedule is optim.cosine


def test_both_build_a_model_for_things_and_stuff() -> None:
    for recipe, options in ((fcn, {"output_stride": 16, "auxiliary": 0.1}), (unet, {})):
        made = recipe(Path("d"), backbone="resnet18", pretrained=False, size=(32, 64), **options)  # type: ignore[operator]
        model = made.model(CLASSES)
        assert model.preprocess.fixed == (32, 64)
        images, placements = model.preprocess([torch.zeros(3, 30, 40, dtype=torch.uint8)])
        assert model.eval()(images).shape == (1, 3, 32, 64)
        assert model.describe(model(images), placements)[0].semantic.shape == (30, 40)
    assert unet(Path("d")).model.keywords["backbone"] == "resnet34"  # type: ignore[attr-defined]


def test_the_rows_of_classes_that_are_known_are_taken_over(tmp_path: Path) -> None:
    """Road is row 2 there and row 1 here, be it stuff there and a thing here."""
    theirs = create("unet", CLASSES, backbone="test_resnet", channels=(8,))
    weights.save(theirs, tmp_path / "theirs.safetensors")
    settings = Settings(weights=str(tmp_path / "theirs.safetensors"))
    wanted = Classes(("tree", "road"), stuff=("sea",))
    model = unet(Path("d"), short=64, settings=settings).model(wanted)
    assert model.preprocess.short == 64
    table = weights.transfer(model, tmp_path / "theirs.safetensors").table()
    assert "1 of 3; new: tree, sea" in table
    assert torch.equal(model.score.weight[1], theirs.score.weight[2])
    assert not torch.equal(model.score.weight[0], theirs.score.weight[0])


def test_weights_of_another_family(tmp_path: Path) -> None:
    weights.save(create("unet", 2, backbone="test_resnet"), tmp_path / "given.safetensors")
    settings = Settings(weights=str(tmp_path / "given.safetensors"))
    with pytest.raises(SightlineError, match="is a unet, not a fcn"):
        fcn(Path("d"), settings=settings).model(CLASSES)


def test_classes_weigh_as_named_or_by_their_pixels() -> None:
    """Sky has 3 of 4 pixels, road 1: the median of 3/4 and 1/4 is 1/2."""
    model = create("unet", CLASSES, backbone="test_resnet", channels=(8,))
    data = InMemory([Scene((1, 4), semantic=torch.tensor([[1, 1, 1, 2]]))], CLASSES)
    weigh(model, data, weights={"road": 3.0})
    assert model.class_weights.tolist() == [1, 1, 3]
    weigh(model, data, weights="balanced")
    assert model.class_weights.tolist() == pytest.approx([1, 2 / 3, 2])
    with pytest.raises(SightlineError, match="no class cloud; there are car, sky, road"):
        weigh(model, data, weights={"cloud": 3.0})
    made = fcn(Path("d"), class_weights="road=3")
    assert isinstance(made.prepare, partial)
    assert made.prepare.keywords == {"weights": {"road": 3.0}}
