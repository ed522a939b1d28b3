"""``sightline predict``."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import sightline.models
from sightline import weights
from sightline.cli import main
from sightline.cli.predict import _summarise
from sightline.types import Classes, Instances, Scene
from tests.bright import Bright, picture, save_picture


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sightline.models.MODELS, "bright", Bright)
    path = tmp_path / "bright.safetensors"
    weights.save(Bright(), path)
    return str(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    save_picture(folder / "000123.png", picture((2, 3, 12, 9, 0, 204)))
    save_picture(folder / "dark.png", picture())
    return folder


def test_a_line_for_each_photo_and_a_table(
    model: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", model, str(photos)]) == 0
    told = capsys.readouterr()
    assert f"{photos / '000123.png'}: 1 red\n" in told.out
    assert f"{photos / 'dark.png'}: nothing\n" in told.out
    assert "2 photos in" in told.out
    assert ["│", "red", "│", "1", "│", "0.80", "│"] in [
        line.split() for line in told.out.splitlines()
    ]
    assert told.err == ""


def test_one_json_document_and_nothing_else(
    model: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", model, str(photos), "--json", "--score", "0.5"]) == 0
    scenes = json.loads(capsys.readouterr().out)
    assert [len(scene["things"]) for scene in scenes] == [1, 0]
    assert scenes[0]["things"][0]["box"] == [2, 3, 12, 9]
    assert scenes[0]["things"][0]["class"] == "red"


def test_drawn_photos_and_coco_results(model: str, photos: Path, tmp_path: Path) -> None:
    out, results = tmp_path / "new" / "drawn", tmp_path / "new" / "results.json"
    twin = tmp_path / "dark.png"
    save_picture(twin, picture())
    arguments = ["predict", model, str(photos), str(twin)]
    assert main([*arguments, "--out", str(out), "--coco-json", str(results)]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["000123.jpg", "dark-2.jpg", "dark.jpg"]
    with Image.open(out / "000123.jpg") as image:
        assert image.size == (30, 20)
    (row,) = json.loads(results.read_text())
    assert (row["image_id"], row["category_id"], row["bbox"]) == (123, 3, [2, 3, 10, 6])


def test_no_drawing_replaces_another(model: str, photos: Path, tmp_path: Path) -> None:
    """The second a would take the name that a-2 has."""
    names = ["a-2.png", "a.png", "a.bmp", "a.gif"]
    for name in names:
        save_picture(photos / name, picture())
    out = tmp_path / "drawn"
    given = [str(photos / name) for name in names]
    assert main(["predict", model, *given, "--out", str(out)]) == 0
    drawn = sorted(p.name for p in out.iterdir())
    assert drawn == ["a-2.jpg", "a-3.jpg", "a-4.jpg", "a.jpg"]


def test_brackets_in_the_name_of_a_class_are_no_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    things = Instances(torch.zeros(1, 4), torch.tensor([0]), torch.tensor([0.5]))
    _summarise([Scene((4, 4), things)], Classes(("cup [red]",)), 1.0, [tmp_path / "[x].json"])
    told = capsys.readouterr().out
    assert "cup [red]" in told
    assert "[x].json" in told


def test_unreadable_photos_are_told_the_rest_is_done_and_the_exit_code_is_2(
    model: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.jpg").write_bytes(b"no picture")
    assert main(["predict", model, str(photos), "--json"]) == 2
    told = capsys.readouterr()
    assert len(json.loads(told.out)) == 2
    lines = told.err.splitlines()
    assert len(lines) == 2
    assert "broken.jpg" in lines[0]
    assert lines[1] == "error: 1 of 3 photos could not be read"


def test_chosen_scores(model: str, photos: Path, tmp_path: Path) -> None:
    scores, results = tmp_path / "scores.json", tmp_path / "results.json"
    for least, count in [(0.5, 1), (0.9, 0)]:
        scores.write_text(json.dumps({"classes": {"red": {"score": least}}}))
        arguments = ["predict", model, str(photos), "--coco-json", str(results)]
        assert main([*arguments, "--per-class-score", str(scores)]) == 0
        assert len(json.loads(results.read_text())) == count


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give photos, folders or globs"),
        (["nowhere"], "no such file or folder: nowhere"),
        (["PHOTOS", "--out", "PHOTOS"], "is the folder of the photos"),
        (["PHOTOS", "--out", "PHOTOS/dark.png"], "is a file, not a folder"),
        (["PHOTOS", "--top", "0"], "top must be 1 or more"),
        (["PHOTOS", "--batch", "0"], "batch must be 1 or more, not 0"),
        (["PHOTOS", "--per-class-score", "PHOTOS/none.json"], "cannot read"),
        (["PHOTOS", "--device", "cuda:77"], "cannot use device cuda:77"),
    ],
)
def test_mistakes_are_one_line(
    model: str,
    photos: Path,
    arguments: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = [argument.replace("PHOTOS", str(photos)) for argument in arguments]
    assert main(["predict", model, *filled]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert told in error
    assert sorted(p.name for p in photos.iterdir()) == ["000123.png", "dark.png"]
