"""``sightline doctor``: the table, one JSON document, exit codes."""

import json
from pathlib import Path

import pytest

from sightline import cli
from tests.data.samples import coco_document, write_coco_folder, write_json


def one_cat(root: Path, **changes: object) -> Path:
    """A picture with a cat, and what is changed in the file."""
    document = coco_document(1, categories=[{"id": 7, "name": "cat"}])
    return write_coco_folder(root, document | changes)


def with_boxes(root: Path, *boxes: list[float]) -> Path:
    things = [
        {"id": i, "image_id": 0, "category_id": 7, "bbox": box} for i, box in enumerate(boxes)
    ]
    return one_cat(root, annotations=things)


CAT, EMPTY, REACHING = [4, 6, 10, 20], [30, 6, 0, 9], [50, 6, 12, 9]


def test_a_clean_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", str(one_cat(tmp_path))]) == 0
    told = capsys.readouterr().out
    assert f"{tmp_path}: COCO JSON" in told
    assert told.splitlines()[-1] == "no flaw found"


def test_flaws_are_exit_code_1_and_notes_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folder = with_boxes(tmp_path, CAT, EMPTY, REACHING)
    assert cli.main(["doctor", str(folder), "--examples", "1"]) == 1
    told = capsys.readouterr().out
    assert "annotations/train.json annotation 1 (train/0.png): box [30, 6, 30, 15] has" in told
    assert told.splitlines()[-1] == "2 warnings"
    write_json(folder / "annotations" / "train.json", coco_document(1))  # "dog" is unused
    assert cli.main(["doctor", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 note"


def test_as_many_examples_as_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folder = with_boxes(tmp_path, CAT, EMPTY, EMPTY, EMPTY)
    for examples, shown, more in (("0", 0, 0), ("2", 2, 1), ("3", 3, 0)):
        cli.main(["doctor", str(folder), "--examples", examples])
        told = capsys.readouterr().out
        assert told.count("has no area") == shown
        assert told.count("and 1 more") == more


def test_fewer_examples_than_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", str(tmp_path), "--examples", "-1"]) == 2
    assert capsys.readouterr().err == "error: examples must be at least 0, not -1\n"


def test_json_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", str(with_boxes(tmp_path, CAT, EMPTY)), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["counts"] == {"empty-box": 1}
    assert document["flaws"] == [
        {
            "kind": "empty-box",
            "file": "annotations/train.json",
            "record": "annotation 1",
            "picture": "train/0.png",
            "message": "box [30, 6, 30, 15] has no area",
            "severity": "warning",
            "mended": "left out",
        }
    ]
    assert document["splits"]["train"]["classes"] == {"cat": 1}


def test_what_cannot_be_read_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = one_cat(tmp_path, categories=[])
    for options in ([], ["--json"]):
        assert cli.main(["doctor", str(folder), *options]) == 2
        told = capsys.readouterr()
        assert told.err.startswith("error: ")
        assert "train.json has no categories" in told.err
        assert len(told.err.splitlines()) == 1
    assert json.loads(told.out)["counts"] == {"unusable": 1}


def test_fix_says_what_it_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folder, out = with_boxes(tmp_path / "data", CAT, EMPTY, REACHING), tmp_path / "out"
    assert cli.main(["doctor", str(folder), "--fix", str(out)]) == 1
    told = capsys.readouterr().out
    assert "boxes without area: left out" in told
    assert "boxes that reach outside their picture: clipped" in told
    assert f"written: {out}, with 2 changes, listed in {out / 'changes.json'}" in told
    assert cli.main(["doctor", str(out)]) == 0
