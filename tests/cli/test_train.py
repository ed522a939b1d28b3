"""``sightline train``: a recipe's options and the loop's settings side by side."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from sightline.cli import main
from sightline.recipes.recipe import Recipe


def test_a_recipe_is_made_of_options_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Recipe] = []
    monkeypatch.setattr(import_module("sightline.train"), "train", made.append)
    options = "--backbone resnet18 --no-pretrained --size 240 320 --lr 0.1 --passes 3 --ema 0.9"
    assert main(["train", "faster_rcnn", "--data", "photos", *options.split()]) == 0
    values: dict[str, Any] = made[0].to_json()
    assert values["data"]["arguments"]["path"] == "photos"
    assert values["model"]["arguments"]["backbone"] == "resnet18"
    assert values["model"]["arguments"]["size"] == [240, 320]
    assert values["settings"] | {"lr": 0.1, "passes": 3, "ema": 0.9} == values["settings"]


def test_a_mistake_leaves_no_run_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that the next command may say something else."""
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", "nowhere", "--no-pretrained", "--out", "run"]
    assert main(["train", "faster_rcnn", *arguments]) == 2
    assert capsys.readouterr().err == "error: no such folder: nowhere\n"
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_setting_out_of_range_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "faster_rcnn", "--data", "d", "--batch", "0"]) == 2
    assert capsys.readouterr().err == "error: batch must be at least 1, not 0\n"
