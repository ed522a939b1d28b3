"""What the recipes of SSD build."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sightline import weights
from sightline.data.transforms import Augment
from sightline.errors import SightlineError
from sightline.models import create
from sightline.optim import cosine, sgd, stepped
from sightline.preprocess import Preprocess
from sightline.recipes.recipe import Recipe, Settings
from sightline.recipes.ssd import ssd, ssdlite
from sightline.types import Classes

CLASSES = Classes(("cat", "dog"))


def options(recipe: Recipe) -> dict[str, Any]:
    assert isinstance(recipe.model, partial)
    return recipe.model.keywords


def decay(recipe: Recipe) -> float:
    assert isinstance(recipe.optimizer, partial)
    value: float = recipe.optimizer.keywords["weight_decay"]
    return value


def test_the_learning_rate_follows_the_batch() -> None:
    """0.002 at 32 pictures, so 0.0005 at 8; 0.15 at 192, so 0.0125 at 16."""
    assert ssd(Path("d")).settings.lr == pytest.approx(0.002)
    assert ssd(Path("d"), settings=Settings(batch=8)).settings.lr == pytest.approx(0.0005)
    assert ssdlite(Path("d"), settings=Settings(batch=16)).settings.lr == pytest.approx(0.0125)
    assert ssdlite(Path("d"), settings=Settings(lr=0.1)).settings.lr == 0.1


def test_choices_become_functions() -> None:
    plain, other = ssd(Path("d")), ssd(Path("d"), optimizer="adamw", schedule="cosine")
    assert (plain.optimizer.func, decay(plain), plain.schedule) == (sgd, 5e-4, stepped)
    assert (decay(other), other.schedule) == (0.05, cosine)
    assert decay(ssd(Path("d"), weight_decay=0.0)) == 0.0
    assert decay(ssdlite(Path("d"))) == 4e-5


def test_the_augmentation_is_the_paper_s_unless_told_otherwise() -> None:
    assert ssd(Path("d")).augment == Augment(flip=0.5, expand=0.5, overlap=1.0, distort=0.5)
    off = ssd(Path("d"), flip=0, expand=0, overlap=0, distort=0)
    assert off.augment == Augment(flip=0)
    assert ssdlite(Path("d")).augment == Augment(flip=0.5, overlap=1.0)


def test_what_is_loaded_decides_what_is_frozen_and_how_wide_mobilenet_is() -> None:
    assert ssd(Path("d")).settings.freeze == 1
    assert ssd(Path("d"), pretrained=False).settings.freeze == 0
    assert options(ssdlite(Path("d")))["backbone"] == "tv_mobilenet_v3_large_ssd"
    scratch = options(ssdlite(Path("d"), pretrained=False))
    assert scratch["backbone"] == "tv_mobilenet_v3_large_ssd_reduced"
    assert options(ssd(Path("d")))["freeze_norm"] is False


@pytest.mark.parametrize("recipe", [ssd, ssdlite])
def test_it_is_saved_as_json(recipe: Any) -> None:
    made = recipe(Path("d"), side=96, repeat=0.1)
    assert Recipe.from_json(made.to_json()).to_json() == made.to_json()


@pytest.mark.parametrize("recipe", [ssd, ssdlite])
def test_the_model_that_is_built(recipe: Any) -> None:
    made = recipe(Path("d"), backbone="test_resnet", side=96, pretrained=False)
    model = made.model(CLASSES)
    assert (model.card.model, model.card.classes) == (recipe.__name__, CLASSES)
    assert model.card.options["side"] == 96
    assert model.preprocess.fixed == (96, 96)
    plain = recipe(Path("d"), backbone="test_resnet", pretrained=False).model(CLASSES)
    assert plain.preprocess.fixed in ((300, 300), (320, 320))


def test_with_weights_alone_the_model_is_built_as_theirs(tmp_path: Path) -> None:
    """With its preprocessing, for other classes; another size is a size of its boxes as well."""
    given = create("ssd", CLASSES, backbone="test_resnet", side=96, channels=32)
    given.preprocess = Preprocess(fixed=(96, 96), multiple=1, mean=(0.4, 0.4, 0.4))
    path = tmp_path / "given.safetensors"
    weights.save(given, path)
    settings = Settings(weights=str(path))
    model = ssd(Path("d"), settings=settings).model(Classes(("cow",)))
    assert model.card.options == given.card.options | {"freeze_norm": False}
    assert model.preprocess == given.preprocess
    larger = ssd(Path("d"), side=128, settings=settings).model(Classes(("cow",)))
    assert larger.preprocess == Preprocess(fixed=(128, 128), multiple=1, mean=(0.4, 0.4, 0.4))
    assert larger.card.options["side"] == 128
    with pytest.raises(SightlineError, match=r"is a ssd, not a ssdlite"):
        ssdlite(Path("d"), settings=settings).model(CLASSES)
