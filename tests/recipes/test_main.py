"""``python -m sightline.recipes``: the same spelling as the command line's."""

import sys
import warnings
from importlib import import_module
from pathlib import Path

import pytest

from sightline.errors import SightlineError
from sightline.recipes.__main__ import main, read_recipe


def test_options_become_values() -> None:
    typed = "faster_rcnn --data d --lr 0.1 --size 240 320 --no-fpn --bf16 --save-every=3"
    recipe = read_recipe(typed.split())
    values = recipe.to_json()
    assert values["data"]["arguments"]["path"] == "d"
    assert values["model"]["arguments"]["size"] == [240, 320]
    assert values["model"]["arguments"]["model"] == "faster_rcnn_single"
    settings = recipe.settings
    assert (settings.lr, settings.bf16, settings.save_every) == (0.1, True, 3)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("", "unknown recipe none; known: faster_rcnn"),
        ("slow_rcnn --data d", "unknown recipe slow_rcnn"),
        ("faster_rcnn", "faster_rcnn needs --data DIR"),
        ("faster_rcnn d", "d: give every value a name"),
        ("faster_rcnn --data d --polish 3", "faster_rcnn has no option polish"),
        ("faster_rcnn --data d --no-lr", "faster_rcnn has no option no_lr"),
        ("faster_rcnn --data d --passes abc", "--passes takes a whole number, not abc"),
        ("faster_rcnn --data d --passes 2.5", "--passes takes a whole number, not 2.5"),
        ("faster_rcnn --data d --optimizer freeze", "--optimizer takes sgd or adamw, not freeze"),
        ("faster_rcnn --data d --flip x", "--flip takes a number, not x"),
        ("faster_rcnn --data d --lr", "--lr takes a number, not nothing"),
        ("faster_rcnn --data d --lr 1 2", "--lr takes a number, not 1 2"),
        ("faster_rcnn --data d --bf16 no", "--bf16 takes no value .*, not no"),
        ("faster_rcnn --data d --size 240", "--size takes 2 values, each a whole number, not 240"),
        ("faster_rcnn --data d --device 3", "device must be auto, cpu or cuda, not 3"),
    ],
)
def test_a_wrong_argument_is_one_line(typed: str, message: str) -> None:
    with pytest.raises(SightlineError, match=message):
        read_recipe(typed.split())


def test_names_of_digits_stay_names() -> None:
    typed = "faster_rcnn --data 2017 --out 3 --freeze-norm --scale 0.5 2"
    recipe = read_recipe(typed.split())
    assert recipe.to_json()["data"]["arguments"]["path"] == "2017"
    assert recipe.folder == Path("3")
    assert recipe.to_json()["model"]["arguments"]["freeze_norm"] is True
    assert recipe.augment is not None
    assert recipe.augment.scale == (0.5, 2.0)


def test_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for typed, told in (
        ([], "faster_rcnn_toybox: A small"),
        (["faster_rcnn"], "--flip: float = 0.5"),
    ):
        monkeypatch.setattr(sys, "argv", ["x", *typed, "--help"])
        assert main() == 0
        assert told in capsys.readouterr().out


def test_a_mistake_is_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "faster_rcnn", "--polish", "3"])
    assert main() == 2
    assert capsys.readouterr().err == "error: faster_rcnn has no option polish\n"


def test_a_warning_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warns(recipe: object) -> None:
        warnings.warn("2 boxes\nwithout area dropped", UserWarning, stacklevel=1)

    monkeypatch.setattr(sys, "argv", ["x", "faster_rcnn", "--data", "d"])
    monkeypatch.setattr(import_module("sightline.train"), "train", warns)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main() == 0
    assert capsys.readouterr().err == "warning: 2 boxes without area dropped\n"
