"""Recipes as JSON, there and back."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import SightlineError
from sightline.optim import stepped
from sightline.recipes.recipe import Recipe, Settings
from tests import tiny


def made() -> Recipe:
    recipe = tiny.recipe(Path("out"), model=partial(tiny.build, norm=False))
    return replace(recipe, schedule=partial(stepped, at=(0.5, 0.75)))


def test_json_names_functions_and_their_arguments() -> None:
    values = made().to_json()
    assert values["model"] == {"function": "tests.tiny.build", "arguments": {"norm": False}}
    assert values["schedule"]["arguments"] == {"at": [0.5, 0.75]}
    assert values["augment"]["value"] == "sightline.data.transforms.Augment"
    assert values["augment"]["fields"]["scale"] == [1.0, 1.0]
    assert values["settings"]["out"] == "out"


def test_json_and_back_is_the_same() -> None:
    recipe = made()
    back = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
    assert back.to_json() == recipe.to_json()
    assert back.augment == recipe.augment
    assert back.data is tiny.squares
    assert isinstance(back.schedule, partial)
    assert back.schedule(60, 100) == recipe.schedule(60, 100) == pytest.approx(0.1)
    assert back.settings == replace(recipe.settings, out="out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "recipe: unknown field colour"),
        ({"settings": {"speed": 3}}, "settings: unknown field speed"),
        ({"model": {"function": "tests.tiny.gone", "arguments": {}}}, "no tests.tiny.gone"),
        ({"settings": {"passes": 3}}, "recipe tiny: its settings lack batch, lr"),
    ],
)
def test_what_cannot_be_read_is_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SightlineError, match=message):
        Recipe.from_json(made().to_json() | change)


def test_a_missing_field_is_one_line() -> None:
    values = made().to_json()
    del values["data"]
    with pytest.raises(SightlineError, match="recipe: missing field data"):
        Recipe.from_json(values)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (lambda step, steps: 1.0, "schedule is .*<lambda>, which cannot be imported by name"),
        (partial(stepped, 3), "give the arguments of schedule by name"),
        (partial(stepped, at={1, 2}), r"schedule.at holds a set, no plain value"),
    ],
)
def test_what_cannot_be_written_is_one_line(schedule: Any, message: str) -> None:
    with pytest.raises(SightlineError, match=message):
        replace(made(), schedule=schedule).to_json()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 0}, "batch must be at least 1, not 0"),
        ({"save_every": -1}, "save_every must be at least 0, not -1"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"ema": 1.0}, "ema must be at least 0 and below 1"),
        ({"lr": float("nan")}, "lr must be above 0 and finite, not nan"),
        ({"clip": float("nan")}, "clip must be at least 0, not nan"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"device": "cuda:x"}, "device must be auto, cpu or cuda, not cuda:x"),
        ({"device": "auto:1"}, "device must be auto, cpu or cuda, not auto:1"),
        ({"device": "tpu"}, "device must be auto, cpu or cuda, not tpu"),
    ],
)
def test_settings_out_of_range_are_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SightlineError, match=message):
        Settings(**settings)


def test_the_recipe_fills_what_the_user_left_out() -> None:
    settings = Settings(lr=0.5).otherwise(passes=7, batch=2, lr=0.1)
    assert (settings.passes, settings.batch, settings.lr) == (7, 2, 0.5)


def test_the_folder_is_named_after_the_recipe() -> None:
    assert made().folder == Path("out")
    assert replace(made(), settings=Settings(passes=1, batch=1, lr=1)).folder == Path("runs/tiny")


def test_a_recipe_is_read_without_torch() -> None:
    code = (
        "import sys, sightline.recipes.recipe, sightline.recipes.faster_rcnn; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.usefixtures("unchecked_shapes")  # the kinds of values are checked here
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": 3}, "not the fields of one"),
        ({"model": 3}, "its model is no function"),
        ({"model": {"function": 3, "arguments": {}}}, "a value that fits nothing"),
        (
            {"augment": {"value": "sightline.data.transforms.Augment", "fields": "x"}},
            "unknown field x",
        ),
        ({"settings": {"passes": "3", "batch": 4, "lr": 0.1}}, "passes is set to a str: '3'"),
        ({"settings": {"passes": 2.5, "batch": 4, "lr": 0.1}}, "passes is set to a float: 2.5"),
    ],
)
def test_values_of_another_kind_are_one_line(change: dict[str, Any], message: str) -> None:
    values = tiny.recipe(Path("run")).to_json()
    with pytest.raises(SightlineError, match=message):
        Recipe.from_json(values | change)


@pytest.mark.parametrize("values", [3, [], None, {}])
def test_no_fields_at_all_are_one_line(values: Any) -> None:
    with pytest.raises(SightlineError, match="recipe: not the fields of one"):
        Recipe.from_json(values)
