"""Pictures with maps of numbers beside them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data.folder import open_dataset, open_split
from sightline.data.packed import Packed, lean
from sightline.errors import SightlineError
from sightline.ops.masks import rasterise
from tests.data.samples import write_picture

SMALL = [[0, 0, 1, 1], [0, 2, 2, 255]]


def write_map(path: Path, numbers: Sequence[Any], dtype: type = np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(numbers, dtype=dtype)).save(path)
    return path


def write_folder(root: Path, numbers: Sequence[Any] = SMALL, dtype: type = np.uint8) -> Path:
    """images/a.jpg and masks/a.png."""
    file = write_map(root / "masks" / "a.png", numbers, dtype)
    with Image.open(file) as image:
        write_picture(root / "images" / "a.jpg", image.height, image.width)
    return root


def test_classes_by_name_and_255_is_none(tmp_path: Path) -> None:
    (write_folder(tmp_path) / "classes.txt").write_text("sky\nVoid\nroad\n")
    data = open_split(tmp_path, "all")
    assert (data.classes.names, data.classes.stuff) == ((), ("sky", "road"))
    scene = data.scene(0)
    # value 1 is called void, value 2 is the second class that is one
    assert scene.semantic.tolist() == [[0, 0, 255, 255], [0, 1, 1, 255]]
    assert len(scene.things) == 0
    assert (scene.path, scene.image_id) == (str(tmp_path / "images" / "a.jpg"), "a")


@pytest.mark.parametrize("text", ["0 sky\n2: road\n1, car", "0\tsky\n1\tcar\n\n2\troad\n"])
def test_classes_with_their_values(tmp_path: Path, text: str) -> None:
    (write_folder(tmp_path) / "labels.txt").write_text(text)
    data = open_split(tmp_path, "all")
    of = data.classes.stuff
    named = [["sky", "sky", "car", "car"], ["sky", "road", "road", None]]
    found = [[None if v == 255 else of[v] for v in row] for row in data.scene(0).semantic.tolist()]
    assert found == named


def test_without_names_the_values_are_the_names(tmp_path: Path) -> None:
    data = open_split(write_folder(tmp_path, [[0, 7], [9, 255]]), "all")
    assert data.classes.stuff == ("0", "7", "9")
    assert data.scene(0).semantic.tolist() == [[0, 1], [2, 255]]


def test_black_and_white_are_two_classes(tmp_path: Path) -> None:
    data = open_split(write_folder(tmp_path, [[0, 255], [255, 0]]), "all")
    assert data.classes.stuff == ("0", "255")
    assert data.scene(0).semantic.tolist() == [[0, 1], [1, 0]]


def test_palettes_and_colours(tmp_path: Path) -> None:
    """VOC's maps have a palette; the number of the entry counts, whatever its colour."""
    image = Image.new("P", (2, 1))
    image.putpalette([9, 9, 9, 200, 0, 0])
    image.putpixel((1, 0), 1)
    (tmp_path / "voc" / "SegmentationClass").mkdir(parents=True)
    image.save(tmp_path / "voc" / "SegmentationClass" / "a.png")
    write_picture(tmp_path / "voc" / "JPEGImages" / "a.jpg", 1, 2)
    assert open_split(tmp_path / "voc", "all").scene(0).semantic.tolist() == [[0, 1]]
    colours = [[[128, 64, 128], [0, 0, 0], [64, 0, 64]]]
    folder = write_folder(tmp_path / "colours", colours)
    (folder / "label_colors.txt").write_text("128 64 128\t\tRoad\n64 0 64\tCar\n0 0 0\tVoid\n")
    data = open_split(folder, "all")
    assert data.classes.stuff == ("Road", "Car")
    assert data.scene(0).semantic.tolist() == [[0, 255, 1]]


@pytest.mark.parametrize(
    ("pictures", "maps"),
    [
        ("{split}", "{split}annot"),
        ("{split}/images", "{split}/masks"),
        ("images/{split}", "labels/{split}"),
        ("{split}_images", "{split}_masks"),
    ],
)
def test_layouts_with_splits(tmp_path: Path, pictures: str, maps: str) -> None:
    """The same names in both splits: each map has the picture of its own."""
    for split, value in (("train", 3), ("val", 4)):
        write_picture(tmp_path / pictures.format(split=split) / "a.jpg", 2, 2)
        write_map(tmp_path / maps.format(split=split) / "a.png", np.full((2, 2), value))
    train, val = open_dataset(tmp_path)
    assert train.classes == val.classes
    assert train.classes.stuff == ("3", "4")
    for split, data, label in (("train", train, 0), ("val", val, 1)):
        assert data.scene(0).semantic.unique().tolist() == [label]
        assert data.scene(0).path == str(tmp_path / pictures.format(split=split) / "a.jpg")


def test_numbered_things_with_parts_and_holes(tmp_path: Path) -> None:
    """Thing 300 has a hole and a part of its own at the right; thing 2 is one pixel."""
    numbers = np.zeros((6, 9), dtype=int)
    numbers[1:4, 1:4] = 300
    numbers[2, 2] = 0
    numbers[5, 8] = 300
    numbers[0, 7] = 2
    data = open_split(write_folder(tmp_path, numbers, np.uint16), "all")
    assert (data.classes.names, data.classes.stuff) == (("object",), ())
    things = data.scene(0).things
    assert things.boxes.tolist() == [[7, 0, 8, 1], [1, 1, 9, 6]]
    assert things.area.tolist() == [1, 9]  # 3 x 3 without the hole, and one
    maps = rasterise(things.masks, (6, 9))
    assert maps[0].equal(torch.from_numpy(numbers == 2))
    assert maps[1].equal(torch.from_numpy(numbers == 300))


def test_a_picture_where_no_thing_is(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, np.zeros((4, 4)), np.uint16)
    assert len(open_split(folder, "all").scene(0).things) == 0


def test_maps_are_read_only_when_they_are_needed(tmp_path: Path) -> None:
    data = open_split(write_folder(tmp_path), "all")
    assert isinstance(data, Packed)
    data.picture(0)
    (tmp_path / "masks" / "a.png").write_bytes(b"no picture")
    assert lean(data).scene(0).semantic is None
    with pytest.raises(SightlineError, match=r"cannot read .*a\.png as a picture"):
        lean(data, {"semantic"}).scene(0)


@pytest.mark.parametrize(
    ("names", "numbers", "dtype", "message"),
    [
        ("sky\n", [[0, 3]], np.uint8, r"a\.png holds values that stand for no class: 3"),
        ("1 sky\n1 sea\n", SMALL, np.uint8, r"classes\.txt, line 2: a second name for 1"),
        ("1 2 sky\n", SMALL, np.uint8, r"classes\.txt, line 1: neither a name"),
        ("void\n", SMALL, np.uint8, r"classes\.txt has 0 classes"),
    ],
)
def test_flaws_are_named(
    tmp_path: Path, names: str, numbers: Sequence[Any], dtype: type, message: str
) -> None:
    (write_folder(tmp_path, numbers, dtype) / "classes.txt").write_text(names)
    with pytest.raises(SightlineError, match=message) as error:
        open_split(tmp_path, "all").scene(0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_map_of_another_size_and_one_without_a_picture(tmp_path: Path, dtype: type) -> None:
    folder = write_folder(tmp_path, np.ones((4, 6)), dtype)
    write_map(folder / "masks" / "b.png", np.ones((4, 6)), dtype)
    with pytest.raises(SightlineError, match=r"b\.png: no picture b\.\* \(looked in"):
        open_split(folder, "all")
    write_picture(folder / "images" / "b.jpg", 4, 7)
    with pytest.raises(SightlineError, match=r"b\.png is 6x4, its picture 7x4"):
        open_split(folder, "all").scene(1)


def test_photos_in_place_of_maps(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "a.png", 40, 60)
    write_picture(tmp_path / "masks" / "a.png", 40, 60)
    with pytest.raises(SightlineError, match=r"more than 255 values .*label_colors\.txt"):
        open_split(tmp_path, "all")


def test_a_mixture_of_8_and_16_bits(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, np.ones((4, 6)), np.uint16)
    write_picture(folder / "images" / "b.png", 4, 6)
    write_map(folder / "masks" / "b.png", np.ones((4, 6)))
    with pytest.raises(SightlineError, match=r"b\.png has 8 bits and others here have 16"):
        open_split(folder, "all")


def test_real_roads_membranes_and_nuclei(real_data: Path) -> None:
    train, val = open_dataset(real_data / "sem_camvid")
    assert (len(train), len(val)) == (367, 101)
    assert train.classes.stuff[0] == "Sky"
    assert len(train.classes.stuff) == 11  # "Unlabelled" is none
    assert train.scene(0).semantic.shape == train.picture(0).shape[1:]
    membranes = open_split(real_data / "sem_isbi_em", "all")
    assert (len(membranes), membranes.classes.stuff) == (22, ("0", "255"))
    nuclei = open_split(real_data / "inst_dsb2018", "all")
    assert (len(nuclei), len(nuclei.labels)) == (282, 13020)
    scene = nuclei.scene(5)
    file = real_data / "inst_dsb2018" / "labels" / Path(scene.path).name
    numbers = np.array(Image.open(file)).astype(int)
    listed = np.unique(numbers[numbers > 0])
    maps = rasterise(scene.things.masks, scene.size).numpy()
    assert ((maps * listed[:, None, None]).sum(0) == numbers).all()


def test_cvats_segmentation_masks(tmp_path: Path) -> None:
    """Colours by a map of labels, splits by lists."""
    for name, colour in (("a", [128, 0, 0]), ("b", [0, 0, 0])):
        write_map(tmp_path / "SegmentationClass" / f"{name}.png", [[colour] * 3] * 2)
        write_map(tmp_path / "SegmentationObject" / f"{name}.png", [[colour] * 3] * 2)
        write_picture(tmp_path / "JPEGImages" / f"{name}.jpg", 2, 3)
    head = "# label:color_rgb:parts:actions\n"
    (tmp_path / "labelmap.txt").write_text(f"{head}background:0,0,0::\ncat:128,0,0::\n")
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "Train.txt").write_text("a\n")
    (lists / "Validation.txt").write_text("b\n")
    train, val = open_dataset(tmp_path)
    assert train.classes.stuff == ("background", "cat")
    assert train.scene(0).semantic.tolist() == [[1, 1, 1]] * 2
    assert val.scene(0).semantic.tolist() == [[0, 0, 0]] * 2
    write_picture(tmp_path / "JPEGImages" / "c.jpg", 2, 3)
    (lists / "Validation.txt").write_text("b\nc\n")
    with pytest.raises(SightlineError, match=r"c\.png: no such map"):
        open_dataset(tmp_path)
