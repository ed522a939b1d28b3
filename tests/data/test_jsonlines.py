"""Detectron2's dataset dicts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data import runs
from sightline.data.folder import open_dataset, open_split
from sightline.data.packed import DataWarning, Packed
from sightline.errors import SightlineError
from sightline.ops.masks import rasterise
from sightline.types import Segment
from tests.data.samples import write_json, write_picture

BOX = {"bbox": [4, 6, 14, 26], "bbox_mode": 0, "category_id": 1}


def record(*things: Any, name: str = "a.jpg", **fields: Any) -> dict[str, Any]:
    told = {"file_name": f"images/{name}", "height": 40, "width": 60, "image_id": name}
    return told | {"annotations": list(things)} | fields


def write_lines(folder: Path, *records: Any, name: str = "data.jsonl") -> Path:
    write_picture(folder / "images" / "a.jpg")
    write_picture(folder / "images" / "b.jpg")
    (folder / name).write_text("\n".join(map(json.dumps, records)) + "\n", encoding="utf-8")
    return folder


def opened(folder: Path, *things: Any, **fields: Any) -> Packed:
    data = open_split(write_lines(folder, record(*things, **fields)), "all")
    assert isinstance(data, Packed)
    return data


def test_boxes_of_both_modes(tmp_path: Path) -> None:
    data = opened(tmp_path, BOX, BOX | {"bbox_mode": 1, "category_id": 4, "iscrowd": 1})
    scene = data.scene(0)
    assert scene.things.boxes.tolist() == [[4, 6, 14, 26], [4, 6, 18, 32]]
    assert (data.classes.names, data.classes.ids) == (("1", "4"), (1, 4))
    assert scene.things.labels.tolist() == [0, 1]
    assert scene.things.ignore.tolist() == [False, True]
    assert (scene.size, scene.image_id) == ((40, 60), "a.jpg")
    assert scene.path == str(tmp_path / "images" / "a.jpg")


@pytest.mark.parametrize("file", ["classes.txt", "thing_classes.txt", "metadata.json"])
def test_names_of_classes(tmp_path: Path, file: str) -> None:
    names = ["cat", "dog", "ant"]
    text = json.dumps({"thing_classes": names}) if file == "metadata.json" else "\n".join(names)
    (tmp_path / file).write_text(text + "\n")
    data = opened(tmp_path, BOX)
    assert data.classes.names == ("cat", "dog", "ant")
    assert data.scene(0).things.labels.tolist() == [1]
    with pytest.raises(
        SightlineError, match=r"line 1, annotation 1 is of category 3, which has no"
    ):
        opened(tmp_path, BOX | {"category_id": 3})


def test_masks_with_parts_and_holes(tmp_path: Path) -> None:
    square = [2, 2, 6, 2, 6, 6, 2, 6]
    other = [10, 2, 12, 2, 12, 4, 10, 4]
    ring = np.zeros((40, 60), bool)
    ring[5:8, 5:8] = True
    ring[6, 6] = False
    lengths = runs.of_block(ring, (0, 0), (40, 60))
    rle = {"size": [40, 60], "counts": runs.compress(lengths).decode()}
    shapes = [[square, other], rle, {"size": [40, 60], "counts": lengths}]
    things = opened(tmp_path, *({"category_id": 0, "segmentation": s} for s in shapes))
    things = things.scene(0).things
    assert things.boxes.tolist() == [[2, 2, 12, 6], [5, 5, 8, 8], [5, 5, 8, 8]]
    assert things.area.tolist() == [16 + 4, 8, 8]
    maps = rasterise(things.masks, (40, 60))
    assert maps[1].equal(torch.from_numpy(ring))
    assert maps[2].equal(maps[1])
    assert len(things.masks[0]) == 2


def test_what_encloses_nothing_is_no_mask(tmp_path: Path) -> None:
    nothing = [{"segmentation": s} for s in ([[]], [[1, 2, 3, 4]], [])]
    things = opened(tmp_path, *(BOX | fields for fields in nothing)).scene(0).things
    assert things.area.tolist() == [200] * 3  # the box's
    assert things.masks is None


def test_one_picture_under_two_ids_is_told(tmp_path: Path) -> None:
    folder = write_lines(tmp_path, record(BOX), record(BOX, image_id="b"))
    with pytest.warns(DataWarning, match="1 picture listed again under another id"):
        assert len(open_split(folder, "all")) == 2
    write_lines(tmp_path, record(BOX), record(BOX, name="b.jpg", image_id="a.jpg"))
    with pytest.raises(SightlineError, match=r"data\.jsonl, line 2: .* have one id, a\.jpg"):
        open_split(folder, "all")


def test_keypoints(tmp_path: Path) -> None:
    names = ["left_eye", "right_eye"]
    write_json(tmp_path / "metadata.json", {"thing_classes": ["a", "b"], "keypoint_names": names})
    data = opened(tmp_path, BOX | {"keypoints": [1.5, 2.5, 2, 3.5, 4.5, 1]}, BOX)
    assert data.classes.keypoints == ("left_eye", "right_eye")
    assert data.classes.mirrored == (1, 0)
    points = data.scene(0).things.keypoints
    assert points.tolist() == [[[1.5, 2.5, 2], [3.5, 4.5, 1]], [[0, 0, 0], [0, 0, 0]]]


def test_label_maps_and_panoptic_maps(tmp_path: Path) -> None:
    names = {"thing_classes": ["cat", "dog"], "stuff_classes": ["sky", "road"]}
    write_json(tmp_path / "metadata.json", names)
    labels = np.full((40, 60), 255, np.uint8)
    labels[:10], labels[10:20] = 0, 1
    ids = np.zeros((40, 60, 3), np.uint8)
    ids[:10], ids[10:20] = (44, 1, 0), (7, 0, 0)  # 44 + 256 = 300
    (tmp_path / "maps").mkdir()
    Image.fromarray(labels).save(tmp_path / "maps" / "labels.png")
    Image.fromarray(ids).save(tmp_path / "maps" / "ids.png")
    infos = [
        {"id": 300, "category_id": 1, "isthing": True, "iscrowd": 1},
        {"id": 7, "category_id": 1, "isthing": False},
        {"id": 9, "category_id": 2},  # without "isthing" stuff is numbered on from the things
    ]
    maps = {"sem_seg_file_name": "maps/labels.png", "pan_seg_file_name": "maps/ids.png"}
    scene = opened(tmp_path, BOX, segments_info=infos, **maps).scene(0)
    assert scene.semantic[[0, 10, 20], 0].tolist() == [2, 3, 255]
    assert scene.panoptic.map[[0, 10, 20], 0].tolist() == [300, 7, 0]
    assert scene.panoptic.segments == [
        Segment(300, 1, True, ignore=True),
        Segment(7, 3, False),
        Segment(9, 2, False),
    ]


def test_splits_by_file_and_a_list_in_place_of_lines(tmp_path: Path) -> None:
    write_lines(tmp_path, record(BOX), record(name="b.jpg"), name="train.jsonl")
    write_json(tmp_path / "val.json", [record(BOX | {"category_id": 2}, name="b.jpg")])
    train, val = open_dataset(tmp_path)
    assert train.classes.names == val.classes.names == ("1", "2")
    assert [len(train.scene(i).things) for i in range(2)] == [1, 0]
    assert val.scene(0).image_id == "b.jpg"
    assert len(open_split(tmp_path / "train.jsonl", "all")) == 2


def test_pictures_elsewhere_and_names_with_odd_spaces(tmp_path: Path) -> None:
    """An absolute path, another machine's path, and a separator that is no end of a line."""
    picture = write_picture(tmp_path / "far" / "c.jpg")
    here = [record(BOX, file_name=str(picture), image_id=1)]
    here += [record(file_name="/old/machine/b.jpg", image_id=2, note="a\u2028b")]
    text = "\n".join(json.dumps(r, ensure_ascii=False) for r in here)
    folder = write_lines(tmp_path / "data")
    (folder / "data.jsonl").write_text(text, encoding="utf-8")
    data = open_split(folder, "all")
    paths = [data.scene(i).path for i in range(2)]
    assert paths == [str(picture), str(folder / "images" / "b.jpg")]


def test_other_json_is_left_alone(tmp_path: Path) -> None:
    """COCO's panoptic files may begin with their annotations, which have file names."""
    write_json(tmp_path / "a.json", {"annotations": [{"file_name": "a.png"}], "images": []})
    (tmp_path / "b.jsonl").write_text('{"file_name": "a.jpg", "text": "a cat"}\n')
    with pytest.raises(SightlineError, match="has no images"):
        open_split(tmp_path, "all")
    (tmp_path / "a.json").unlink()
    with pytest.raises(SightlineError, match=r"looked for .*JSON lines of Detectron2"):
        open_split(tmp_path, "all")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bbox_mode": 3}, "line 1, annotation 2 has bbox_mode 3: 0 .* and 1 .* are read"),
        ({"bbox_mode": None}, 'annotation 2 has no proper "bbox_mode"'),
        ({"bbox": [1, 2, 3]}, "annotation 2 has a bbox of 3 numbers"),
        ({"bbox": None}, "annotation 2 has neither bbox nor segmentation"),
        ({"category_id": "cat"}, 'annotation 2 has no proper "category_id"'),
        ({"segmentation": "x"}, "annotation 2 has a segmentation that is neither"),
        ({"segmentation": {"size": [1, 1], "counts": [1]}}, "annotation 2 has an RLE of size"),
        ({"keypoints": [1, 2]}, 'annotation 2 has a "keypoints" that is no list of 3 numbers'),
        ({"iscrowd": "no"}, 'annotation 2 has an "iscrowd" that is neither 0 nor 1'),
    ],
)
def test_flaws_are_named(tmp_path: Path, wrong: Any, message: str) -> None:
    with pytest.raises(SightlineError, match=message) as error:
        opened(tmp_path, BOX | {"keypoints": [1, 2, 2]}, BOX | wrong)
    assert str(error.value).startswith(str(tmp_path / "data.jsonl"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"file_name": "z.jpg"}, r"data\.jsonl, line 2: no picture z\.jpg \(looked in"),
        ({"file_name": 3}, 'line 2 has no proper "file_name": 3'),
        ({"image_id": "a.jpg"}, r"images/a\.jpg and images/b\.jpg have one id, a\.jpg"),
        ({"height": 0}, "line 2 has width 60 and height 0"),
        ({"annotations": [3]}, 'line 2 has "annotations" that are no list of records'),
        ({"sem_seg_file_name": "x.png"}, r"line 2 has a label map: name its classes in .*stuff_c"),
        ({"pan_seg_file_name": "x.png"}, 'line 2 has no proper "segments_info"'),
        (
            {"pan_seg_file_name": "x.png", "segments_info": []},
            r"line 2 has a pan_seg_file_name that is not there: .*x\.png",
        ),
        (
            {"pan_seg_file_name": "x.png", "segments_info": [{"id": 1, "category_id": 9}]},
            "line 2 has a segment of category 9, which has no name in metadata.json or classes.txt",
        ),
    ],
)
def test_flaws_of_a_record(tmp_path: Path, changed: Any, message: str) -> None:
    folder = write_lines(tmp_path, record(BOX), record(name="b.jpg") | changed)
    with pytest.raises(SightlineError, match=message):
        open_split(folder, "all")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [([], "has no names of classes"), ({"stuff_classes": 3}, 'has no proper "stuff_classes": 3')],
)
def test_flaws_of_metadata(tmp_path: Path, metadata: Any, message: str) -> None:
    write_json(tmp_path / "metadata.json", metadata)
    with pytest.raises(SightlineError, match=rf"metadata\.json {message}"):
        opened(tmp_path, BOX)


def test_broken_lines(tmp_path: Path) -> None:
    folder = write_lines(tmp_path, record(BOX), 3)
    with pytest.raises(SightlineError, match="line 2 is no record of a picture: 3"):
        open_split(folder, "all")
    with (folder / "data.jsonl").open("a") as file:
        file.write('{"file_name": \n')
    (folder / "data.jsonl").write_text((folder / "data.jsonl").read_text().replace("3\n", "\n"))
    with pytest.raises(SightlineError, match=r"data\.jsonl, line 3, column 14: broken JSON"):
        open_split(folder, "all")
