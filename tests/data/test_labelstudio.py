"""Label Studio's export."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sightline.data.folder import open_dataset, open_split
from sightline.data.labelstudio import brush
from sightline.data.packed import DataWarning, Packed
from sightline.errors import SightlineError
from sightline.ops.masks import rasterise
from tests.data.samples import write_json, write_picture

SIZE = (40, 60)


def region(kind: str, label: str = "cat", **value: Any) -> dict[str, Any]:
    """As Label Studio exports it, of a picture of 60 x 40."""
    told = {"id": "r1", "type": kind, "from_name": "label", "to_name": "image", "origin": "manual"}
    told |= {"original_width": 60, "original_height": 40, "image_rotation": 0}
    return told | {"value": value | {kind: [label]}}


def rectangle(label: str = "cat", **changes: Any) -> dict[str, Any]:
    """The box 6, 10, 18, 30."""
    place = {"x": 10, "y": 25, "width": 20, "height": 50, "rotation": 0}
    return region("rectanglelabels", label, **place | changes)


def task(*regions: Any, image: str = "/data/upload/1/01ab23cd-a.jpg", **fields: Any) -> Any:
    annotation = {"id": 5, "completed_by": 1, "result": list(regions), "was_cancelled": False}
    return {"id": 7, "annotations": [annotation], "data": {"image": image}} | fields


def write_export(folder: Path, *tasks: Any, name: str = "export.json") -> Path:
    write_picture(folder / "images" / "a.jpg")
    write_json(folder / name, list(tasks))
    return folder


def opened(folder: Path, *regions: Any) -> Packed:
    data = open_split(write_export(folder, task(*regions)), "all")
    assert isinstance(data, Packed)
    return data


def coded(*fields: tuple[int, int]) -> list[int]:
    """Bytes of (value, bits), one after another, highest bit first, filled up with zeros."""
    bits = "".join(f"{value:0{width}b}" for value, width in fields)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def header(pixels: int) -> list[tuple[int, int]]:
    """The number of values, values of 8 bits, lengths of 3, 4, 8 or 16 bits."""
    return [(4 * pixels, 32), (7, 5), (2, 4), (3, 4), (7, 4), (15, 4)]


def test_rectangles_in_percent(tmp_path: Path) -> None:
    data = opened(tmp_path, rectangle(), rectangle("ant", x=0, y=0, width=100, height=100))
    scene = data.scene(0)
    assert data.classes.names == ("ant", "cat")
    assert scene.things.labels.tolist() == [1, 0]
    # 10 and 20 % of 60 across, 25 and 50 % of 40 down
    assert scene.things.boxes.tolist() == [[6, 10, 18, 30], [0, 0, 60, 40]]
    assert scene.things.masks is None
    assert (scene.size, scene.image_id) == (SIZE, 7)
    assert scene.path == str(tmp_path / "images" / "a.jpg")


def test_a_turned_rectangle(tmp_path: Path) -> None:
    """A quarter turn clockwise about the corner (24, 10): 12 wide and 20 high, it then reaches 20
    to the left and 12 down."""
    things = opened(tmp_path, rectangle(x=40, rotation=90)).scene(0).things
    torch.testing.assert_close(things.boxes, torch.tensor([[4.0, 10, 24, 22]]))
    assert things.area.tolist() == pytest.approx([240])
    assert len(things.masks[0]) == 1


def test_polygons_and_ellipses_are_masks(tmp_path: Path) -> None:
    triangle = [[10, 25], [60, 25], [10, 75]]  # 6, 10 and 36, 10 and 6, 30
    things = (
        opened(
            tmp_path,
            region("polygonlabels", points=triangle, closed=True),
            region("ellipselabels", x=50, y=50, radiusX=25, radiusY=25, rotation=0),
        )
        .scene(0)
        .things
    )
    wanted = torch.tensor([[6.0, 10, 36, 30], [15, 10, 45, 30]])
    torch.testing.assert_close(things.boxes, wanted, atol=0.1, rtol=0)
    assert things.area.tolist() == pytest.approx([300, np.pi * 15 * 10], rel=0.02)


def test_the_code_of_a_brush_by_hand() -> None:
    """2 x 2 pixels of four bytes: nothing, all but a trace, alpha alone, nothing."""
    runs = [
        *[(1, 1), (0, 2), (3, 3), (0, 8)],  # repeated, length in 3 bits: 4 of the value 0
        *[(0, 1), (1, 2), (3, 4), (9, 8), (9, 8), (9, 8), (127, 8)],  # as they are, in 4 bits: 4
        *[(1, 1), (2, 2), (2, 8), (0, 8)],  # repeated, in 8 bits: 3
        *[(0, 1), (0, 2), (0, 3), (255, 8)],  # as it is: 1
        *[(1, 1), (3, 2), (3, 16), (0, 8)],  # repeated, in 16 bits: 4
    ]
    found = brush(coded(*header(4), *runs), (2, 2), "here")
    assert found.tolist() == [[False, False], [True, False]]


def test_a_brush_with_a_hole_is_a_mask(tmp_path: Path) -> None:
    mask = np.zeros(SIZE, bool)
    mask[10:20, 30:45] = True
    mask[13:16, 33:36] = False
    values = np.repeat(mask.flatten(), 4) * 255
    breaks = np.flatnonzero(np.diff(values)) + 1
    ends = [0, *breaks.tolist(), len(values)]
    runs = [
        field
        for start, end in pairwise(ends)
        for field in [(1, 1), (3, 2), (end - start - 1, 16), (int(values[start]), 8)]
    ]
    rle = coded(*header(mask.size), *runs)
    things = opened(tmp_path, region("brushlabels", rle=rle, format="rle")).scene(0).things
    assert rasterise(things.masks, SIZE)[0].equal(torch.from_numpy(mask))
    assert things.boxes.tolist() == [[30, 10, 45, 20]]
    assert things.area.tolist() == [150 - 9]


def test_what_is_no_thing(tmp_path: Path) -> None:
    point = region("keypointlabels", "nose", x=10, y=10, width=0.5)
    choice = region("choices", "sunny")
    with pytest.warns(DataWarning, match="1 key points left out"):
        data = opened(tmp_path, point, choice, rectangle())
    assert data.classes.names == ("cat",)
    assert len(data.scene(0).things) == 1


def test_regions_without_a_label_are_counted(tmp_path: Path) -> None:
    """A shape and its label may be two regions of one id."""
    shape = {"id": "r1", "type": "rectangle", "value": {"x": 10, "y": 25, "width": 20, "height": 9}}
    label = shape | {"type": "labels", "value": shape["value"] | {"labels": ["cat"]}}
    assert len(opened(tmp_path, shape, label).scene(0).things) == 1
    bitmask = region("bitmasklabels", imageDataURL="data:image/png;base64,") | {"id": "r3"}
    with pytest.warns(DataWarning, match="2 regions without a label that is read left out"):
        found = opened(tmp_path, shape, label, shape | {"id": "r2"}, bitmask)
    assert len(found.scene(0).things) == 1


def test_uploads_lie_in_any_folder_and_local_files_in_their_own(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "cam1" / "b.jpg")
    (tmp_path / "images" / "cam2").mkdir()
    local = "/data/local-files/?d=cam{}/b.jpg"
    folder = write_export(tmp_path, task(rectangle()), task(image=local.format(1), id=8))
    assert open_split(folder, "all").path(1).parent.name == "cam1"
    with pytest.raises(SightlineError, match=r"task 9: no picture cam2/b\.jpg \(looked in .*cam2"):
        open_split(write_export(folder, task(rectangle(), image=local.format(2), id=9)), "all")


def test_labels_apart_from_their_shapes(tmp_path: Path) -> None:
    """<Rectangle> and <Labels> as two tags: the place stands in both of the results."""
    place = {"x": 10, "y": 25, "width": 20, "height": 50, "rotation": 0}
    bare = region("rectangle", **place)
    del bare["value"]["rectangle"]
    data = opened(tmp_path, bare, region("labels", "dog", **place))
    assert data.classes.names == ("dog",)
    assert data.scene(0).things.boxes.tolist() == [[6, 10, 18, 30]]


def test_the_last_annotation_that_was_not_cancelled_counts(tmp_path: Path) -> None:
    said = [("a", False), ("b", False), ("c", True)]
    annotations = [{"result": [rectangle(n)], "was_cancelled": cancelled} for n, cancelled in said]
    cancelled = task(id=8, annotations=annotations[2:], image="/gone.jpg")
    empty = task(id=9, image="b.jpg")
    write_picture(tmp_path / "images" / "b.jpg")
    folder = write_export(tmp_path, task(annotations=annotations), cancelled, empty)
    with pytest.warns(DataWarning, match="1 tasks without an annotation left out"):
        data = open_split(folder, "all")
    assert data.classes.names == ("b",)
    assert [data.scene(i).image_id for i in range(len(data))] == [7, 9]
    assert [len(data.scene(i).things) for i in range(2)] == [1, 0]


@pytest.mark.parametrize(
    "image",
    [
        "/data/upload/1/a.jpg",
        "/data/upload/12/0a1b2c3d-a.jpg",
        "/data/local-files/?d=old/photos/a.jpg",
        "/data/local-files/?d=old%2Fphotos%2Fa.jpg",
        "s3://bucket/folder/a.jpg",
        "https://example.com/folder/a.jpg?token=3",
    ],
)
def test_addresses_of_pictures(tmp_path: Path, image: str) -> None:
    folder = write_export(tmp_path, task(rectangle(), image=image))
    assert open_split(folder, "all").scene(0).path == str(folder / "images" / "a.jpg")


def test_other_names_of_the_picture_s_field(tmp_path: Path) -> None:
    data = {"text": "a photo", "photo": "/data/upload/1/a.jpg"}
    folder = write_export(tmp_path, task(rectangle(), data=data))
    assert open_split(folder / "export.json", "all").scene(0).path.endswith("images/a.jpg")


def test_split_files_and_split_folders(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_export(tmp_path / "files", task(rectangle(split)), name=f"{split}.json")
        write_export(tmp_path / "folders" / split, task(rectangle(split)))
    for folder in ("files", "folders"):
        train, val = open_dataset(tmp_path / folder)
        assert train.classes.names == ("train", "val")
        assert train.scene(0).things.labels.tolist() == [0]
        assert val.scene(0).things.labels.tolist() == [1]
    assert val.scene(0).path == str(tmp_path / "folders" / "val" / "images" / "a.jpg")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (rectangle(x="left"), "task 7, region r1 has a .* that is no list of numbers"),
        (rectangle() | {"original_width": 61}, "region r1 is of a picture of 61x40, not 60x40"),
        (rectangle() | {"image_rotation": 90}, "region r1 was drawn on a turned picture"),
        (region("polygonlabels", points=[[1, 1], [2, 2]]), "polygon of fewer than three points"),
        (region("polygonlabels", points=[1, 2, 3]), "polygon of fewer than three points"),
        (region("brushlabels", rle="abc"), 'has an "rle" that is no list of bytes'),
        (region("brushlabels", rle=[1, 300]), 'has an "rle" that is no list of bytes'),
        (region("brushlabels", rle=[0, 0]), 'has an "rle" that is cut short'),
        (region("brushlabels", rle=coded(*header(4))), 'has an "rle" that is not of 60x40 pixels'),
        (region("brushlabels", rle=coded(*header(2400))), 'has an "rle" that is cut short'),
        (
            region("brushlabels", rle=coded(*header(2400), (1, 1), (3, 2), (9600, 16), (0, 8))),
            'has an "rle" longer than its picture',
        ),
    ],
)
def test_flaws_are_named(tmp_path: Path, wrong: Any, message: str) -> None:
    with pytest.raises(SightlineError, match=message) as error:
        opened(tmp_path, rectangle(), wrong)
    assert str(error.value).startswith(str(tmp_path / "export.json"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data": 3}, 'task 7 has no proper "data"'),
        ({"data": {"text": "words"}}, 'task 7 has no picture in its "data"'),
        ({"data": {"image": "/data/upload/1/b.jpg"}}, r"task 7: no picture /data/upload/1/b\.jpg"),
        ({"annotations": [{"result": [rectangle(), 3]}]}, "task 7 has a region that is no record"),
        ({"annotations": [{"result": []}]}, "has no regions in its 1 Label Studio files"),
    ],
)
def test_flaws_of_a_task(tmp_path: Path, changed: Any, message: str) -> None:
    with pytest.raises(SightlineError, match=message):
        open_split(write_export(tmp_path, task(rectangle()) | changed), "all")
