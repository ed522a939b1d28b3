"""``python -m sightline.recipes``: the same spelling as the command line's."""

import sys

import pytest

from sightline.errors import SightlineError
from sightline.recipes.__main__ import main, read_recipe


def test_options_become_values() -> None:
    typed = "faster_rcnn --data d --lr 0.1 --size 240 320 --no-fpn --bf16 --save-every=3"
    recipe = read_recipe(typed.split())
    values = recipe.to_json()
    assert values["data"]["arguments"]["path"] == "d"
    assert values["model"]["arguments"]["size"] == [240, 320]
    assert values["model"]["arguments"]["fpn"] is False
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
    ],
)
def test_a_wrong_argument_is_one_line(typed: str, message: str) -> None:
    with pytest.raises(SightlineError, match=message):
        read_recipe(typed.split())


def test_a_mistake_is_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "faster_rcnn", "--polish", "3"])
    assert main() == 2
    assert capsys.readouterr().err == "error: faster_rcnn has no option polish\n"
