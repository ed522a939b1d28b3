"""LabelMe's JSON files."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data.folder import open_dataset, open_split
from sightline.data.packed import DataWarning, Packed
from sightline.errors import SightlineError
from sightline.ops.masks import rasterise
from tests.data.samples import write_json, write_picture

BOX = {"label": "cat", "points": [[4, 6], [14, 26]], "shape_type": "rectangle"}


def shape(label: str, kind: str, *points: list[float], **fields: Any) -> dict[str, Any]:
    """As LabelMe 5 writes it."""
    told = {"label": label, "points": list(points), "group_id": None, "shape_type": kind}
    return told | {"description": "", "flags": {}, "mask": None} | fields


def in_text(pixels: np.ndarray) -> str:
    """A mask as LabelMe writes it: a PNG in base64."""
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def write_labelme(folder: Path, *shapes: Any, name: str = "a", **fields: Any) -> Path:
    """A picture of 60 x 40 and its file, as LabelMe 5 writes it."""
    write_picture(folder / f"{name}.jpg")
    document = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": f"{name}.jpg"}
    document |= {"imageData": "aGVsbG8=", "imageHeight": 40, "imageWidth": 60}
    write_json(folder / f"{name}.json", document | fields)
    return folder


def opened(tmp_path: Path, *shapes: Any, **fields: Any) -> Packed:
    data = open_split(write_labelme(tmp_path, *shapes, **fields), "all")
    assert isinstance(data, Packed)
    return data


def test_rectangles_are_boxes_from_any_two_corners(tmp_path: Path) -> None:
    data = opened(tmp_path, BOX, shape("ant", "rectangle", [30, 20], [10, 5]))
    scene = data.scene(0)
    assert data.classes.names == ("ant", "cat")
    assert scene.things.labels.tolist() == [1, 0]
    assert scene.things.boxes.tolist() == [[4, 6, 14, 26], [10, 5, 30, 20]]
    assert scene.things.masks is None
    assert (scene.size, scene.image_id) == ((40, 60), "a")
    assert scene.path == str(tmp_path / "a.jpg")


def test_polygons_and_circles_are_masks(tmp_path: Path) -> None:
    triangle = [[10, 10], [30, 10], [10, 30]]
    things = (
        opened(
            tmp_path,
            shape("a", "polygon", *triangle),
            shape("a", "circle", [40, 20], [43, 24]),  # of radius 5
            {"label": "a", "points": triangle},  # as old versions wrote them
        )
        .scene(0)
        .things
    )
    assert things.boxes[0].tolist() == [10, 10, 30, 30]
    assert things.area[[0, 2]].tolist() == [200, 200]  # 20 x 20 / 2
    torch.testing.assert_close(things.boxes[1], torch.tensor([35.0, 15, 45, 25]), atol=0.1, rtol=0)
    assert float(things.area[1]) == pytest.approx(np.pi * 25, rel=0.02)
    assert rasterise(things.masks, (40, 60)).sum((1, 2))[1] == pytest.approx(np.pi * 25, rel=0.1)


def test_masks_keep_their_holes_and_are_cut_at_the_edge(tmp_path: Path) -> None:
    ring = np.ones((3, 4))
    ring[1, 1] = 0
    placed = shape("a", "mask", [58, 5], [61, 7], mask=in_text(ring))
    other = shape("a", "mask", [-1, -1], [2, 1], mask=in_text(ring * 255))
    things = opened(tmp_path, placed, other).scene(0).things
    maps = rasterise(things.masks, (40, 60))
    # columns 58 and 59 of rows 5 to 7 without (6, 59); then what of the ring lies in the picture
    assert maps[0].nonzero().tolist() == [[5, 58], [5, 59], [6, 58], [7, 58], [7, 59]]
    assert maps[1].nonzero().tolist() == [[0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert things.boxes.tolist() == [[58, 5, 60, 8], [0, 0, 3, 2]]
    assert things.area.tolist() == [5, 5]


def test_a_group_of_one_label_is_one_thing(tmp_path: Path) -> None:
    squares = [
        shape("a", "polygon", [x, 0], [x + 4, 0], [x + 4, 4], [x, 4], group_id=group)
        for x, group in ((0, 1), (10, 1), (20, None), (30, None))
    ]
    box = shape("b", "rectangle", [40, 0], [44, 4], group_id=1)
    things = opened(tmp_path, *squares, box).scene(0).things
    assert things.labels.tolist() == [0, 0, 0, 1]
    assert things.boxes.tolist() == [[0, 0, 14, 4], [20, 0, 24, 4], [30, 0, 34, 4], [40, 0, 44, 4]]
    assert [len(polygons) for polygons in things.masks] == [2, 1, 1, 0]
    assert things.area.tolist() == [32, 16, 16, 16]


def test_a_group_of_all_kinds(tmp_path: Path) -> None:
    """A mask, a polygon over part of it, and a box, which counts as full beside them."""
    things = (
        opened(
            tmp_path,
            shape("a", "mask", [0, 0], [1, 1], mask=in_text(np.ones((2, 2))), group_id=5),
            shape("a", "polygon", [0, 0], [2, 0], [2, 4], [0, 4], group_id=5),
            shape("a", "rectangle", [10, 10], [13, 12], group_id=5),
        )
        .scene(0)
        .things
    )
    [mask] = rasterise(things.masks, (40, 60))
    wanted = torch.zeros(40, 60, dtype=torch.bool)
    wanted[0:4, 0:2] = wanted[10:12, 10:13] = True
    assert mask.equal(wanted)
    assert things.boxes.tolist() == [[0, 0, 13, 12]]
    assert things.area.tolist() == [8 + 6]


def test_boxes_of_one_group_make_one_box(tmp_path: Path) -> None:
    boxes = [shape("a", "rectangle", [x, 1], [x + 2, 3], group_id=0) for x in (5, 20)]
    things = opened(tmp_path, *boxes).scene(0).things
    assert things.boxes.tolist() == [[5, 1, 22, 3]]
    assert things.masks is None


def test_lines_and_points_are_no_things(tmp_path: Path) -> None:
    others = [shape("tip", kind, [1, 1], [2, 2]) for kind in ("line", "points", "linestrip")]
    with pytest.warns(DataWarning, match="4 lines and points left out: they are no things"):
        data = opened(tmp_path, BOX, shape("tip", "point", [1, 1]), *others)
    assert data.classes.names == ("cat",)
    assert len(data.scene(0).things) == 1


def test_what_is_difficult_is_ignored(tmp_path: Path) -> None:
    said = [{"difficult": True}, {"flags": {"Difficult": True}}, {"flags": {"crowd": True}}]
    said += [{"difficult": False}, {"flags": {"ignore": False, "red": True}}, {"flags": []}]
    things = opened(tmp_path, *(BOX | fields for fields in said)).scene(0).things
    assert things.ignore.tolist() == [True, True, True, False, False, False]
    assert things.difficult.tolist() == [True, True, False, False, False, False]


def test_a_file_that_begins_with_its_picture(tmp_path: Path) -> None:
    """The keys in the order of the alphabet: the shapes are far behind."""
    picture = "A" * 100_000
    write_labelme(tmp_path)
    told = {"imageData": picture, "imagePath": "a.jpg", "shapes": [BOX]}
    (tmp_path / "a.json").write_text(json.dumps(told, sort_keys=True))
    assert len(open_split(tmp_path, "all").scene(0).things) == 1


def test_split_folders_and_pictures_elsewhere(tmp_path: Path) -> None:
    for split in ("train", "val"):
        fields = {"name": split[0], "imagePath": "..\\old\\other.png"}
        write_labelme(tmp_path / split, BOX | {"label": split}, **fields)
    write_json(tmp_path / "train" / "settings.json", {"shapes": 3})
    train, val = open_dataset(tmp_path)
    assert train.classes == val.classes
    assert train.classes.names == ("train", "val")
    assert val.scene(0).path == str(tmp_path / "val" / "v.jpg")
    (tmp_path / "train" / "images").mkdir()
    (tmp_path / "train" / "t.jpg").rename(tmp_path / "train" / "images" / "other.png")
    assert open_dataset(tmp_path).train.scene(0).path.endswith("train/images/other.png")


def test_pictures_without_shapes_are_kept(tmp_path: Path) -> None:
    write_labelme(tmp_path, name="empty")
    data = opened(tmp_path, BOX, imageHeight=None)  # some tools leave the size out
    assert [len(data.scene(i).things) for i in range(2)] == [1, 0]
    assert data.size(0) == (40, 60)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"points": [[1, 1]]}, r"a\.json: shape 2 is a rectangle of 1 points"),
        ({"points": [[1, 1, 3], [2, 2, 4]]}, 'shape 2 has "points" that are not pairs'),
        ({"points": [[1, "x"], [2, 2]]}, 'shape 2 has a "points" that is no list of numbers'),
        ({"points": None}, 'shape 2 has no proper "points"'),
        ({"shape_type": "polygon"}, "shape 2 is a polygon of 2 points"),
        ({"shape_type": "circle", "points": [[0, 0], [1e308, 1e308]]}, "beyond all bounds"),
        ({"shape_type": "cuboid"}, "shape 2 is of an unknown kind: cuboid"),
        ({"shape_type": "mask", "mask": "aGVsbG8="}, 'shape 2 has a "mask" that is no picture'),
        ({"shape_type": "mask", "mask": "?"}, 'shape 2 has a "mask" that is no picture'),
        ({"shape_type": "mask"}, 'shape 2 has no proper "mask"'),
        ({"label": None}, 'shape 2 has no proper "label"'),
    ],
)
def test_flaws_are_named(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SightlineError, match=message) as error:
        opened(tmp_path, BOX, BOX | wrong)
    assert "\n" not in str(error.value)


def test_flaws_of_a_file(tmp_path: Path) -> None:
    folder = write_labelme(tmp_path, BOX, imageHeight=-3)
    with pytest.raises(SightlineError, match=r"a\.json has width 60 and height -3"):
        open_split(folder, "all")
    (folder / "a.jpg").unlink()
    with pytest.raises(SightlineError, match=r"a\.json: no picture a\.jpg or a\.\* \(looked in"):
        open_split(folder, "all")
    (folder / "a.json").write_text('{"shapes": [], "imagePath": "a.jpg"')
    with pytest.raises(SightlineError, match=r"a\.json, line 1, column 36: broken JSON"):
        open_split(folder, "all")
    with pytest.raises(SightlineError, match="has no things in its 1 LabelMe files"):
        opened(tmp_path)
