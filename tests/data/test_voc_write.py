"""Pascal VOC's XML written, and read back the same."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sightline.data.folder import open_dataset, open_split
from sightline.data.voc_write import write_voc
from sightline.errors import SightlineError
from sightline.types import Classes, Scene
from tests.data.samples import InMemory, boxes_scene, write_picture

SIZE = (40, 60)


def test_an_xml_by_hand(tmp_path: Path) -> None:
    """Pixels are counted from 1: the first column is 1, the last of a picture of 60 is 60."""
    scene = boxes_scene(SIZE, [0, 0, 60, 40], ignore=torch.tensor([True]))
    scene.things.extra["truncated"] = torch.tensor([True])
    file = write_voc(InMemory([scene], Classes(("salt & pepper",))), tmp_path)
    assert file == tmp_path / "ImageSets" / "Main" / "train.txt"
    assert file.read_text() == "train_000000\n"
    assert (
        (tmp_path / "Annotations" / "train_000000.xml").read_text()
        == """<annotation>
  <folder>JPEGImages</folder>
  <filename>train_000000.png</filename>
  <size>
    <width>60</width>
    <height>40</height>
    <depth>3</depth>
  </size>
  <segmented>0</segmented>
  <object>
    <name>salt &amp; pepper</name>
    <pose>Unspecified</pose>
    <truncated>1</truncated>
    <difficult>1</difficult>
    <bndbox>
      <xmin>1</xmin>
      <ymin>1</ymin>
      <xmax>60</xmax>
      <ymax>40</ymax>
    </bndbox>
  </object>
</annotation>
"""
    )


def test_there_and_back(tmp_path: Path) -> None:
    """Boxes with fractions, some thinner than a pixel, which become one wide."""
    corners = (torch.rand(300, 2, 2) * torch.tensor([58, 38]) + 1).sort(dim=1).values.flatten(1)
    thin = corners[:20].clone()
    thin[:, 2] = thin[:, 0] + 0.3
    boxes = torch.cat([corners, thin])
    scene = boxes_scene(SIZE, *boxes.tolist(), ignore=torch.rand(320) < 0.5)
    scene.things.labels = torch.arange(320) % 2
    scene.things.extra = {"truncated": torch.rand(320) < 0.5}
    given = InMemory([scene, boxes_scene(SIZE)])
    for split in ("train", "val"):
        write_voc(given, tmp_path, split)
    for read in open_dataset(tmp_path):
        found, nothing = read.scene(0).things, read.scene(1).things
        wide = (boxes[:, 2:] - boxes[:, :2] > 1.01).all(dim=1)
        assert (found.boxes - boxes)[wide].abs().max() < 1e-3
        assert (found.boxes - boxes).abs().max() < 0.51
        assert found.labels.equal(scene.things.labels)
        assert found.ignore.equal(scene.things.ignore)
        assert found.extra["truncated"].equal(scene.things.extra["truncated"])
        assert len(nothing) == 0
        assert read.picture(1).equal(given.picture(1))


def in_files(folder: Path, *names: str) -> list[Scene]:
    """A scene for each picture; the box tells which."""
    scenes = []
    for i, name in enumerate(names):
        path = write_picture(folder / name, 40 + i, 60)
        scenes.append(replace(boxes_scene((40 + i, 60), [1, 2, 30, 4 + i]), path=str(path)))
    return scenes


def test_a_picture_of_two_splits_is_written_once(tmp_path: Path) -> None:
    one, two, three = in_files(tmp_path / "given", "a.png", "b.png", "x/a.png")
    write_voc(InMemory([one, three]), tmp_path / "out", "train")
    write_voc(InMemory([two]), tmp_path / "out", "val")
    write_voc(InMemory([one, two, three]), tmp_path / "out", "trainval")
    lists = tmp_path / "out" / "ImageSets" / "Main"
    assert (lists / "train.txt").read_text().split() == ["a", "train_000001_a"]
    assert (lists / "val.txt").read_text().split() == ["b"]
    read = open_split(tmp_path / "out", "trainval")
    assert [read.scene(i).things.boxes[0, 3].item() for i in range(3)] == [4, 5, 6]
    assert [read.picture(i).shape[1] for i in range(3)] == [40, 41, 42]


def test_one_picture_with_other_things_in_another_split_is_written_again(tmp_path: Path) -> None:
    (train,) = in_files(tmp_path / "given", "a.png")
    val = replace(train, things=boxes_scene(train.size, [1, 2, 30, 9], [0, 0, 5, 5]).things)
    for split, scene in {"train": train, "val": val}.items():
        write_voc(InMemory([scene]), tmp_path / "out", split)
    counts = [len(open_split(tmp_path / "out", s).scene(0).things) for s in ("train", "val")]
    assert counts == [1, 2]


def test_a_picture_with_a_name_before_its_own_is_written_once(tmp_path: Path) -> None:
    """What trainval has and val has not would else be trained on and measured on."""
    one, two = in_files(tmp_path / "given", "x/a.png", "y/a.png")
    write_voc(InMemory([one]), tmp_path / "out", "train")
    write_voc(InMemory([two]), tmp_path / "out", "val")
    write_voc(InMemory([one, two]), tmp_path / "out", "trainval")
    names = sorted(path.name for path in (tmp_path / "out" / "JPEGImages").iterdir())
    assert names == ["a.png", "val_000000_a.png"]


def test_blanks_make_no_picture_another(tmp_path: Path) -> None:
    """In one split and in two, and where one has the name that blanks give to others."""
    one, two, three, four = in_files(
        tmp_path / "given", "x/a 1.png", "y/a 1.png", "a_1.png", "z/a 1.png"
    )
    write_voc(InMemory([one, two]), tmp_path / "out", "train")
    write_voc(InMemory([three, four]), tmp_path / "out", "val")
    read = open_split(tmp_path / "out", "all")
    heights = {read.picture(i).shape[1]: read.scene(i).things.boxes[0, 3] for i in range(4)}
    assert heights == {40: 4, 41: 5, 42: 6, 43: 7}


def test_no_picture_is_written_over_another(tmp_path: Path) -> None:
    one, two = in_files(tmp_path / "given", "x/a.png", "y/a.png")
    for _ in range(2):  # over itself
        write_voc(InMemory([one]), tmp_path / "out", "all")
    with pytest.raises(SightlineError, match=r"a\.png is there already, or its XML: name a new"):
        write_voc(InMemory([two]), tmp_path / "out", "all")
    moved = replace(one, things=boxes_scene(one.size, [0, 0, 5, 5]).things)
    with pytest.raises(SightlineError, match=r"a\.png is there already, or its XML: name a new"):
        write_voc(InMemory([moved]), tmp_path / "out", "all")
    assert open_split(tmp_path / "out", "all").scene(0).things.boxes[0, 3] == 4


def test_names_with_blanks(tmp_path: Path) -> None:
    """A list has one word a line."""
    write_voc(InMemory(in_files(tmp_path / "given", "my  cat 1.png")), tmp_path / "out", "val")
    assert Path(open_split(tmp_path / "out", "val").scene(0).path).name == "my_cat_1.png"


def test_without_splits_there_is_no_list(tmp_path: Path) -> None:
    assert write_voc(InMemory(in_files(tmp_path / "given", "a.png")), tmp_path / "out", "all")
    assert not list((tmp_path / "out").rglob("*.txt"))
    assert len(open_split(tmp_path / "out", "all")) == 1


@pytest.mark.parametrize("name", ["", " cat", "c\x01t", "c\ud800t"])
def test_names_that_xml_cannot_hold(name: str, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="cannot hold a class called"):
        write_voc(InMemory([], Classes((name,))), tmp_path)
    assert not any(tmp_path.iterdir())
