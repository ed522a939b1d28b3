"""``sightline evaluate``."""

import json
from pathlib import Path

import pytest
import torch

import sightline.models
from sightline import weights
from sightline.cli import main
from sightline.data.coco import write_coco
from tests.bright import COLOURS, Bright, picture
from tests.test_evaluate import patches


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A model and a folder: red is at AP 0.5, green at 1."""
    monkeypatch.setitem(sightline.models.MODELS, "bright", Bright)
    weights.save(Bright(), tmp_path / "bright.safetensors")
    write_coco(patches(), tmp_path / "data", split="val")
    return [str(tmp_path / "bright.safetensors"), str(tmp_path / "data")]


def test_a_table(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *given]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    cells = {row[1]: row[3] for row in reversed(rows) if len(row) > 3}  # the first table counts
    assert (cells["all"], cells["red"], cells["green"], cells["blue"]) == (
        "75.0",
        "50.0",
        "100.0",
        "-",
    )


def test_several_models_are_measured_as_one(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second scores all half as high: all scores change, no order."""
    dimmed = Bright()
    dimmed.gain = torch.nn.Parameter(torch.tensor(0.5))
    weights.save(dimmed, tmp_path / "dimmed.safetensors")
    page = tmp_path / "page.html"
    both = [given[0], str(tmp_path / "dimmed.safetensors"), given[1]]
    options = ["--flips", "horizontal", "--weights", "2", "1", "--report", str(page)]
    assert main(["evaluate", *both, *options, "--out", str(tmp_path / "n.json")]) == 0
    assert json.loads((tmp_path / "n.json").read_text())["overall"]["AP"] == pytest.approx(0.75)
    assert f"{given[1]}, val: 2 pictures" in capsys.readouterr().out
    assert f"{both[0]}, {both[1]}" in page.read_text(encoding="utf-8")


def test_numbers_as_json(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "numbers.json"
    assert main(["evaluate", *given, "--json", "--out", str(out)]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers == json.loads(out.read_text())
    assert numbers["overall"]["AP"] == pytest.approx(0.75)


def test_voc_at_other_thresholds(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *given, "--kind", "voc", "--ious", "0.3", "0.75", "--json"]) == 0
    names = list(json.loads(capsys.readouterr().out)["overall"])
    assert names == ["VOC11@0.3", "VOC11@0.75", "VOC@0.3", "VOC@0.75"]


def test_scores_chosen_here_are_understood_there(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Red's right answer has score 0.8 and comes after a wrong one with 1: both are kept, down to
    half way between 0.8 and 0.05, where the model ends. Green's has 1. No blue was found
    rightly, so none is chosen."""
    scores = tmp_path / "scores.json"
    assert main(["evaluate", *given, "--choose-scores", str(scores)]) == 0
    chosen = json.loads(scores.read_text())["classes"]
    assert {name: row["score"] for name, row in chosen.items()} == pytest.approx(
        {"red": 0.425, "green": 0.525}
    )
    from tests.bright import save_picture

    save_picture(tmp_path / "a.png", picture((0, 0, 5, 5, 0, 90), (8, 8, 12, 12, 1, 150)))
    capsys.readouterr()
    arguments = [given[0], str(tmp_path / "a.png"), "--per-class-score", str(scores), "--json"]
    assert main(["predict", *arguments]) == 0
    (scene,) = json.loads(capsys.readouterr().out)
    assert [thing["class"] for thing in scene["things"]] == ["green"]


def test_numbers_are_shown_though_no_score_can_be_chosen(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, scores = tmp_path / "n.json", tmp_path / "s.json"
    options = ["--score", "1", "--out", str(out), "--choose-scores", str(scores)]
    assert main(["evaluate", *given, *options]) == 2
    told = capsys.readouterr()
    assert "all" in told.out
    assert "no scores to choose" in told.err
    assert out.exists()
    assert not scores.exists()


def test_a_named_file_is_what_is_measured(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Not its sibling, unless that split is asked for."""
    one = patches()
    one.pictures, one.truths = one.pictures[:1], one.truths[:1]
    write_coco(one, given[1], split="train")
    file = str(Path(given[1]) / "annotations" / "instances_train.json")
    assert main(["evaluate", given[0], file]) == 0
    assert f"{file}, all: 1 pictures" in capsys.readouterr().out
    assert main(["evaluate", given[0], file, "--split", "val"]) == 0
    assert f"{file}, val: 2 pictures" in capsys.readouterr().out
    assert main(["evaluate", *given]) == 0
    assert f"{given[1]}, val: 2 pictures" in capsys.readouterr().out


def test_results_have_the_datas_ids(given: list[str], tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    assert main(["evaluate", *given, "--coco-json", str(results)]) == 0
    rows = json.loads(results.read_text())
    truth = json.loads(next(Path(given[1]).rglob("*.json")).read_text())
    assert {row["image_id"] for row in rows} <= {image["id"] for image in truth["images"]}
    assert {row["category_id"] for row in rows} == {COLOURS.ids[0], COLOURS.ids[1]}


@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_a_page(
    given: list[str], kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of boxes, whatever the kind: AP50 is 75.0, that of red 50.0."""
    page = tmp_path / "pages" / "page.html"
    assert main(["evaluate", *given, "--kind", kind, "--report", str(page)]) == 0
    assert f"written: {page}" in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert "bright.safetensors" in text
    assert "it is 75.0 and would be 100.0 without them" in text
    assert "The class that loses most is <b>red</b>: it would go from 50.0 to 100.0" in text


def test_what_cannot_be_written_does_not_take_the_others_with_it(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names, page = ("--choose-scores", str(tmp_path / "a.json")), tmp_path / "page.html"
    assert main(["evaluate", *given, "--score", "1", *names, "--report", str(page)]) == 2
    told = capsys.readouterr()
    assert told.err == "error: no thing was found rightly: there are no scores to choose\n"
    assert f"written: {page}" in told.out
    assert page.is_file()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["MODEL", "nowhere"], "nowhere"),
        (["MODEL"], "give a folder of labelled photos or an annotation file"),
        (["MODEL", "MODEL"], "give a folder of labelled photos or an annotation file"),
        (["MODEL", "DATA", "DATA"], "is a folder, but not one of a run"),
        (["missing.safetensors", "DATA"], "missing.safetensors"),
        (["MODEL", "DATA", "--split", "test"], "no split test"),
        (["MODEL", "DATA", "--kind", "lvis"], "lvis"),
        (["MODEL", "DATA", "--batch", "0"], "batch must be at least 1, not 0"),
        (["MODEL", "DATA", "--workers", "-1"], "workers must be at least 0, not -1"),
        (["MODEL", "DATA", "--ious", "50"], "IoU thresholds must lie in 0..1"),
        (["MODEL", "DATA", "--score", "1", "--choose-scores", "x.json"], "no scores to choose"),
        (["MODEL", "DATA", "--kind", "coco-masks"], "no masks to compare"),
        (["MODEL", "DATA", "--out", "DATA"], "is a folder: name a file to write"),
        (["MODEL", "DATA", "--report", "DATA"], "is a folder: name a file to write"),
        (["MODEL", "DATA", "--out", "x", "--report", "a/../x"], "is named for two outputs"),
        (["MODEL", "DATA", "--out", "x", "--choose-scores", "x"], "is named for two outputs"),
    ],
)
def test_mistakes_are_one_line(
    given: list[str], arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"MODEL": given[0], "DATA": given[1]}
    assert main(["evaluate", *(places.get(a, a) for a in arguments)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert told in error
