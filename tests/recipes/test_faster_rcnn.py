"""What the recipes build."""

from functools import partial
from pathlib import Path

import pytest
import torch

from sightline import weights
from sightline.checkpoint import differences
from sightline.data.balance import balanced_weights
from sightline.errors import SightlineError
from sightline.models import create
from sightline.models.fast_rcnn import BoxOutputs, Sampled
from sightline.optim import adamw, cosine, stepped
from sightline.preprocess import Preprocess
from sightline.recipes.building import build
from sightline.recipes.faster_rcnn import faster_rcnn, weigh
from sightline.recipes.recipe import Recipe, Settings
from sightline.types import Classes, Images
from tests.data.samples import InMemory, boxes_scene

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
    recipe = faster_rcnn(Path("d"), backbone="resnet18", settings=Settings(weights="x", freeze=3))
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


def test_each_optimiser_has_its_own_defaults() -> None:
    adam = faster_rcnn(Path("d"), optimizer="adamw", settings=Settings(batch=8))
    assert adam.settings.lr == pytest.approx(5e-5)
    layer = torch.nn.Linear(2, 2)
    assert adam.optimizer(layer, lr=1.0).param_groups[0]["weight_decay"] == 0.05
    assert faster_rcnn(Path("d")).optimizer(layer, lr=1.0).param_groups[0]["weight_decay"] == 1e-4


def test_the_seed_of_the_run_does_not_move_the_photos_that_are_set_aside() -> None:
    """Otherwise a model would be measured on photos it was trained on, without a word."""
    other = faster_rcnn(Path("d"), settings=Settings(seed=7))
    assert other.data.keywords == faster_rcnn(Path("d")).data.keywords
    assert faster_rcnn(Path("d"), val_seed=7).data.keywords["seed"] == 7


def test_balance_is_a_choice() -> None:
    """Left out, nothing of it is in the run's JSON: runs begun before it was there go on."""
    plain = faster_rcnn(Path("d"))
    assert (plain.repeats, plain.prepare) == (None, None)
    assert not {"repeats", "prepare"} & set(plain.to_json())
    assert Recipe.from_json(plain.to_json()).to_json() == plain.to_json()
    chosen = faster_rcnn(Path("d"), repeat=0.1, class_weights="cat=3, dog=0.5")
    values = chosen.to_json()
    assert values["repeats"]["arguments"] == {"threshold": 0.1}
    assert values["prepare"]["arguments"] == {"weights": {"cat": 3.0, "dog": 0.5}}
    assert Recipe.from_json(values).to_json() == values
    assert differences(plain.to_json(), values)[0] == (
        'repeats.function: absent in the run, "sightline.data.balance.repeat_factors" now'
    )


def test_class_weights_reach_the_loss_and_no_checkpoint(tmp_path: Path) -> None:
    """Two cats and a dog: with named weights the loss of the second stage is that of each region
    times its weight; what the model answers, and its file, are the same."""
    data = InMemory([boxes_scene((64, 64), [4, 4, 40, 40], [20, 20, 60, 60])], CLASSES)
    data.scenes[0].things.labels[1] = 1
    model = build(
        CLASSES, model="faster_rcnn", backbone="test_resnet", channels=8, hidden=8, samples=8
    ).eval()
    head, logits = model.box_head, torch.randn(3, 3)
    boxes = torch.tensor([[0.0, 0, 9, 9]] * 3)
    sampled = Sampled(boxes, torch.zeros(3), torch.tensor([0, 1, 2]), [data.scenes[0].things])
    outputs = BoxOutputs(logits, torch.zeros(3, 2, 4))
    plain, saved = head.losses(outputs, sampled)["class"], set(model.state_dict())
    chosen = faster_rcnn(Path("d"), class_weights="dog=4").prepare
    assert chosen is not None
    chosen(model, data)
    found = head.losses(outputs, sampled)["class"]
    each = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2]), reduction="none")
    torch.testing.assert_close(found.total, each[0] + 4 * each[1] + each[2])
    assert found.count == plain.count == 3
    assert set(model.state_dict()) == saved
    weights.save(model, tmp_path / "model.safetensors")
    again = weights.load(tmp_path / "model.safetensors")
    assert again.box_head.class_weights is None
    pixels = torch.rand(1, 3, 64, 64)
    images = Images(pixels, torch.tensor([[64, 64]]))
    with torch.no_grad():
        assert again(images).scores.equal(model(images).scores)


def test_balanced_weights_come_from_the_training_photos() -> None:
    data = InMemory([boxes_scene((64, 64), *[[4.0, 4, 40, 40]] * 4)], CLASSES)
    data.scenes[0].things.labels[3] = 1
    model = build(CLASSES, model="faster_rcnn", backbone="test_resnet")
    weigh(model, data, weights="balanced")
    assert model.box_head.class_weights.tolist() == [*balanced_weights(data).tolist(), 1]


@pytest.mark.parametrize("text", ["cat", "cat=x", "cat=1,", "even"])
def test_class_weights_that_cannot_be_read(text: str) -> None:
    with pytest.raises(SightlineError, match=r"class weights are balanced or a number .* not "):
        faster_rcnn(Path("d"), class_weights=text)


def test_a_class_has_one_weight() -> None:
    with pytest.raises(SightlineError, match="name a class twice"):
        faster_rcnn(Path("d"), class_weights="cat=3, cat=4")


def test_it_is_saved_as_json() -> None:
    recipe = faster_rcnn(Path("d"), size=(240, 320), scale=(0.5, 2.0))
    assert Recipe.from_json(recipe.to_json()).to_json() == recipe.to_json()


def test_without_a_pyramid() -> None:
    assert options(faster_rcnn(Path("d"), fpn=False))["model"] == "faster_rcnn_single"
    assert options(faster_rcnn(Path("d")))["model"] == "faster_rcnn"
    named = faster_rcnn(Path("d"), fpn=True, settings=Settings(weights="x"))
    assert options(named)["model"] == "faster_rcnn", "a choice, so not as the weights are built"


def test_with_weights_alone_the_model_is_built_as_theirs(tmp_path: Path) -> None:
    """Its options, its form and its preprocessing, for other classes; what is named is kept."""
    given = create("faster_rcnn_single", CLASSES, backbone="resnet18", class_agnostic=True)
    given.preprocess = Preprocess(fixed=(64, 96), channels="bgr")
    path = tmp_path / "given.safetensors"
    weights.save(given, path)
    recipe = faster_rcnn(
        Path("d"), short=80, freeze_norm=True, samples=32, settings=Settings(weights=str(path))
    )
    assert Recipe.from_json(recipe.to_json()).to_json() == recipe.to_json()
    model = recipe.model(Classes(("cow",)))
    assert model.card.model == "faster_rcnn_single"
    assert model.card.options == given.card.options | {"freeze_norm": True, "samples": 32}
    assert model.card.classes.names == ("cow",)
    assert model.preprocess == Preprocess(short=80, channels="bgr")
