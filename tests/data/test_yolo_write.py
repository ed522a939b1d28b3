"""YOLO's text files written, and read back the same."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sightline.data.folder import open_dataset, open_split
from sightline.data.yolo_write import as_polygon, write_yolo
from sightline.errors import SightlineError
from sightline.ops.masks import encode, rasterise
from sightline.types import Classes, Instances, Scene
from tests.data.samples import InMemory, boxes_scene, write_picture

SIZE = (40, 60)


def read_back(out: Path, *scenes: Scene, classes: Classes | None = None) -> list[Instances]:
    data = InMemory(scenes, classes or Classes(("a", "b")))
    for split in ("train", "val"):
        assert write_yolo(data, out, split) == out / "data.yaml"
    read = open_dataset(out).val
    assert read.classes.names == data.classes.names
    assert all(read.picture(i).equal(data.picture(i)) for i in range(len(data)))
    return [read.scene(i).things for i in range(len(data))]


def test_a_line_by_hand(tmp_path: Path) -> None:
    """Centre and size of a box from 15, 8 to 45, 12, in sixtieths and fortieths."""
    empty = boxes_scene(SIZE)
    read_back(tmp_path, boxes_scene(SIZE, [15, 8, 45, 12]), empty)
    assert (tmp_path / "labels" / "val" / "000000.txt").read_text() == "0 0.5 0.25 0.5 0.1\n"
    assert (tmp_path / "labels" / "val" / "000001.txt").read_text() == ""
    assert yaml.safe_load((tmp_path / "data.yaml").read_text()) == {
        "train": "images/train",
        "val": "images/val",
        "nc": 2,
        "names": {0: "a", 1: "b"},
    }


@pytest.mark.parametrize("size", [(1, 1), (37, 53), (2000, 3001)])
def test_boxes_stay_within_a_hundredth_of_a_pixel(size: tuple[int, int], tmp_path: Path) -> None:
    sides = torch.tensor([size[1], size[0]])
    corners = (torch.rand(200, 2, 2) * sides).sort(dim=1).values.flatten(1)
    (found,) = read_back(tmp_path, boxes_scene(size, *corners.tolist()))
    assert (found.boxes - corners).abs().max() < 0.01


def test_ignore_regions_are_left_out(tmp_path: Path) -> None:
    scene = boxes_scene(SIZE, [1, 2, 3, 4], [5, 6, 7, 8], ignore=torch.tensor([True, False]))
    (found,) = read_back(tmp_path, scene)
    assert found.boxes.tolist() == [[5, 6, 7, 8]]


def test_keypoints(tmp_path: Path) -> None:
    """One hidden, one seen, one not labelled; one outside, which comes to the edge."""
    points = torch.tensor([[[3, 4, 1], [9.25, 8, 2], [0, 0, 0], [70, -5, 2]]])
    names = ("nose", "left_ear", "right_ear", "tail")
    classes = Classes(("a",), keypoints=names, mirrored=(0, 2, 1, 3))
    masks = torch.ones(1, *SIZE, dtype=torch.bool)  # which a line with keypoints has no room for
    scene = boxes_scene(SIZE, [2, 2, 20, 30], keypoints=points, masks=masks)
    found, nothing = read_back(tmp_path, scene, boxes_scene(SIZE), classes=classes)
    points[0, 3] = torch.tensor([60, 0, 2])
    assert found.keypoints.equal(points)
    assert found.boxes.tolist() == [[2, 2, 20, 30]]
    assert nothing.keypoints.shape == (0, 4, 3)
    read = open_split(tmp_path, "val").classes
    assert (read.keypoints, read.mirrored) == (names, classes.mirrored)


@settings(max_examples=20)
@given(count=st.integers(0, 4), share=st.floats(0, 1), seed=st.integers(0, 10**6))
def test_any_mask_is_the_same_again(
    count: int, share: float, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Noise of many parts and holes, in boxes around the whole picture."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(count, 17, 23, generator=generator) < share
    masks[:, 0, 0] = True
    scene = boxes_scene((17, 23), *[[0, 0, 23, 17]] * count, masks=masks)
    (found,) = read_back(tmp_path_factory.mktemp("out"), scene)
    assert found.boxes.equal(scene.things.boxes)
    assert count == 0 or rasterise(found.masks, (17, 23)).equal(masks)


def polygon(*corners: float) -> Tensor:
    return torch.tensor(corners, dtype=torch.float64).view(-1, 2)


SQUARE = polygon(5, 4, 15, 4, 15, 14, 5, 14)
APART = polygon(30, 20, 40, 20, 35.5, 33.25)
OVER = polygon(10, 4, 25, 4, 25, 14, 10, 14)  # half of the square


def whole(mask: list[Tensor]) -> Tensor:
    (found,) = rasterise([mask], SIZE)
    return found


@pytest.mark.parametrize(
    "parts", [[SQUARE], [SQUARE, APART], [SQUARE, OVER], [APART, SQUARE, OVER]]
)
def test_parts_become_one_polygon(parts: list[Tensor]) -> None:
    points = torch.cat(parts)
    box = torch.cat([points.amin(0), points.amax(0)])
    found = as_polygon(parts, box, SIZE)
    assert whole([found]).equal(whole(parts))
    assert torch.cat([found.amin(0), found.amax(0)]).equal(box)


def test_a_polygon_stays_as_it_is() -> None:
    assert as_polygon([APART], torch.tensor([30, 20, 40, 33.25]), SIZE).equal(APART)
    assert as_polygon([], torch.tensor([30, 20, 40, 33.25]), SIZE) is None
    nothing = encode(torch.zeros(1, *SIZE, dtype=torch.bool))[0]
    assert as_polygon(nothing, torch.tensor([30, 20, 40, 33.25]), SIZE) is None


def test_a_box_beyond_its_mask_is_reached() -> None:
    """By lines out and back: the pixels stay."""
    box = torch.tensor([1.5, 4, 20.25, 39])
    found = as_polygon([SQUARE], box, SIZE)
    assert torch.cat([found.amin(0), found.amax(0)]).equal(box.double())
    assert whole([found]).equal(whole([SQUARE]))


def test_a_mask_beyond_its_box() -> None:
    """Cut to half a pixel where that costs little, a column of 40 here; else kept: the mask is
    what the box was drawn around."""
    large = polygon(5, 4, 46, 4, 46, 34, 5, 34)
    wide = polygon(5, 4, 45.9, 4, 45.9, 34, 5, 34)
    found = as_polygon([wide], torch.tensor([5.0, 4, 45, 34]), SIZE)
    assert found.amax(0).tolist() == [45.5, 34]
    found = as_polygon([large], torch.tensor([5.0, 4, 30, 34]), SIZE)
    assert found.equal(large)


def test_a_mask_beyond_the_picture() -> None:
    """Labels outside 0 to 1 are refused by others."""
    outside = polygon(-20, 10, 30, 35, 65, -8)
    found = as_polygon([outside], torch.tensor([0.0, 0, 60, 35]), SIZE)
    assert found.min() >= 0
    assert (found <= torch.tensor([60, 40])).all()
    assert whole([found]).equal(whole([outside]))


def test_a_thing_without_a_mask_is_a_rectangle_among_masks(tmp_path: Path) -> None:
    masks = [[SQUARE], []]
    scene = boxes_scene(SIZE, [5, 4, 15, 14], [1, 2, 10, 20], masks=masks)
    (found,) = read_back(tmp_path, scene)
    assert found.boxes.equal(scene.things.boxes)
    assert rasterise(found.masks, SIZE).flatten(1).sum(1).tolist() == [100, 9 * 18]


def test_names_that_yaml_would_take_for_something_else(tmp_path: Path) -> None:
    names = ("no", "1", "null", "a: b", "é # [", "")
    read_back(tmp_path, boxes_scene(SIZE, [1, 2, 3, 4]), classes=Classes(names))


def test_pictures_of_one_stem_have_labels_of_their_own(tmp_path: Path) -> None:
    scenes = []
    for i, name in enumerate(["a.png", "a.jpg", "x.y.png"]):
        path = write_picture(tmp_path / "given" / name)
        scenes.append(replace(boxes_scene(SIZE, [1, 2, 3, 4 + i]), path=str(path)))
    write_yolo(InMemory(scenes), tmp_path / "out")
    read = open_split(tmp_path / "out" / "data.yaml", "train", val=0.4)
    assert sorted(path.name for path in (tmp_path / "out/labels/train").iterdir()) == [
        "000001_a.txt",
        "a.txt",
        "x.y.txt",
    ]
    assert len(read) == 2


def test_other_classes_in_one_folder_are_refused(tmp_path: Path) -> None:
    scene = boxes_scene(SIZE, [1, 2, 3, 4])
    write_yolo(InMemory([scene]), tmp_path, "val")
    write_yolo(InMemory([scene]), tmp_path, "val")  # again, over itself
    with pytest.raises(SightlineError, match="other classes or keypoints"):
        write_yolo(InMemory([scene], Classes(("b", "a"))), tmp_path, "train")
    with pytest.raises(SightlineError, match="no split everything"):
        write_yolo(InMemory([scene]), tmp_path, "everything")


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    """Its labels would be relative to a size that nobody annotated."""
    path = write_picture(tmp_path / "a.png", 30, 60)
    scene = replace(boxes_scene(SIZE, [1, 2, 3, 4]), path=str(path))
    with pytest.raises(SightlineError, match=r"a\.png is 60x30, its annotation says 60x40"):
        write_yolo(InMemory([scene]), tmp_path / "out")
    assert not (tmp_path / "out" / "data.yaml").exists()
