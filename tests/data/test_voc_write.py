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
