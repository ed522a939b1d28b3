"""``sightline demo``, with fewer and smaller scenes than a user gets."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.cli import demo as home
from sightline.recipes import faster_rcnn
from sightline.recipes.recipe import Recipe


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of four scenes of 64 x 64 pixels."""
    recipe = faster_rcnn.faster_rcnn_toybox

    def shortened(*values: Any, **named: Any) -> Recipe:
        made = recipe(*values, **named)
        return replace(made, settings=replace(made.settings, passes=1, batch=4, workers=0))

    monkeypatch.setattr(faster_rcnn, "faster_rcnn_toybox", shortened)
    for name, value in {"SCENES": 8, "UNSEEN": 5, "SIDE": 64, "SCORE": 0.0}.items():
        monkeypatch.setattr(home, name, value)


@pytest.mark.usefixtures("short")
def test_it_trains_measures_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.demo(out=tmp_path / "demo")
    told = capsys.readouterr().out
    assert "on 5 unseen scenes" in told
    sheet = tmp_path / "demo" / "contact_sheet.png"
    assert str(sheet) in told.replace("\n", "")
    with Image.open(sheet) as image:
        assert image.width > 4 * 2 * 64  # four columns, each picture twice its size
    home.demo(out=tmp_path / "demo")
    again = capsys.readouterr().out
    assert "writing" not in again
    assert "this run is finished (1 passes)" in again
    assert sheet.exists()
