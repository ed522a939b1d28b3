"""Toybox in a folder, read back as any COCO data set."""

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sightline import cli
from sightline.data.folder import open_dataset
from sightline.data.toybox import folder as made
from sightline.data.toybox import toybox_splits
from sightline.data.toybox.folder import write_toybox
from sightline.data.toybox.labels import CLASSES
from sightline.errors import SightlineError
from sightline.ops import masks

SIZE = (64, 80)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("toybox") / "made" / "here"
    write_toybox(toybox_splits(4, 2, seed=3, size=SIZE), out)
    return out


def test_is_read_back_the_same(folder: Path) -> None:
    written, read = toybox_splits(4, 2, seed=3, size=SIZE), open_dataset(folder)
    for ours, theirs in zip(written, read, strict=True):
        assert len(ours) == len(theirs)
        assert theirs.classes.names == CLASSES.names
        assert theirs.classes.keypoints == CLASSES.keypoints
        assert theirs.classes.mirrored == CLASSES.mirrored
        assert theirs.classes.skeleton == CLASSES.skeleton
        for index in range(len(ours)):
            a, b = ours.scene(index), theirs.scene(index)
            assert (a.size, a.image_id) == (b.size, b.image_id)
            for column in ("boxes", "labels", "area", "keypoints", "ignore"):
                assert torch.equal(getattr(a.things, column), getattr(b.things, column)), column
            maps = [masks.rasterise(scene.things.masks, SIZE) for scene in (a, b)]
            assert torch.equal(*maps)
            assert torch.equal(ours.picture(index), theirs.picture(index))


def test_panoptic_maps_are_coco_panoptic(folder: Path) -> None:
    document = json.loads((folder / "annotations" / "panoptic_val.json").read_text())
    names = {category["id"]: category["name"] for category in document["categories"]}
    assert list(names.values()) == [*CLASSES.names, *CLASSES.stuff]
    val = toybox_splits(4, 2, seed=3, size=SIZE).val
    for index, record in enumerate(document["annotations"]):
        pixels = np.array(Image.open(folder / "panoptic_val" / record["file_name"])).astype(int)
        ids = pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2]
        panoptic = val.scene(index).panoptic
        assert panoptic is not None
        np.testing.assert_array_equal(ids, panoptic.map)
        assert sum(segment["area"] for segment in record["segments_info"]) == SIZE[0] * SIZE[1]


def test_descriptions_lie_beside(folder: Path) -> None:
    lines = (folder / "annotations" / "scenes_train.jsonl").read_text().splitlines()
    train = toybox_splits(4, 2, seed=3, size=SIZE).train
    for index, line in enumerate(lines):
        described, description = json.loads(line), train.description(index)
        assert described["index"] == index
        assert described["camera"]["focal"] == description.camera.focal
        assert [thing["shape"] for thing in described["things"]] == [
            thing.shape for thing in description.things
        ]


def test_the_same_scenes_complete_a_folder(folder: Path) -> None:
    lost = folder / "train" / "000001.png"
    before = lost.read_bytes()
    lost.unlink()
    write_toybox(toybox_splits(4, 2, seed=3, size=SIZE), folder)
    assert lost.read_bytes() == before


def test_a_full_disk_is_one_line_and_leaves_no_annotations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptions are there before the pictures: the COCO file is the last of a split."""

    def full(*values: Any) -> None:
        assert len((tmp_path / "annotations" / "scenes_train.jsonl").read_text().splitlines()) == 4
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(made, "write_coco", full)
    with pytest.raises(SightlineError, match=r"cannot write to .*: No space left"):
        write_toybox(toybox_splits(4, 2, seed=3, size=SIZE), tmp_path)
    assert not list(tmp_path.rglob("instances_*.json"))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "toys"
    options = ["--images", "3", "--seed", "2", "--size", "40", "48", "--things", "1", "2"]
    assert cli.main(["toybox", str(out), *options]) == 0
    assert "3 scenes to train on, 1 to measure on" in capsys.readouterr().out
    splits = open_dataset(out)
    assert (len(splits.train), len(splits.val)) == (3, 1)
    assert splits.train.size(0) == (40, 48)


@pytest.mark.parametrize("there", ["photo.jpg", "toybox.txt"])
def test_a_folder_that_holds_something_else_is_left_alone(
    there: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / there).write_text("mine")
    assert cli.main(["toybox", str(tmp_path), "--images", "1"]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "name a new folder" in told
    assert [path.name for path in tmp_path.iterdir()] == [there]


def test_a_file_in_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "toys").write_text("mine")
    assert cli.main(["toybox", str(tmp_path / "toys")]) == 2
    assert "is a file" in capsys.readouterr().err
    assert cli.main(["toybox", str(tmp_path / "toys" / "deeper")]) == 2
    assert "cannot write" in capsys.readouterr().err
