"""CVAT's XML."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.data.folder import open_dataset, open_split
from sightline.data.packed import DataWarning, Packed
from sightline.errors import SightlineError
from sightline.ops.masks import rasterise
from tests.data.samples import write_picture

LABELS = ("dog", "cat")


def document(*images: str, labels: tuple[str, ...] = LABELS, more: str = "") -> str:
    """As CVAT 2 exports a task, with these labels and the pictures' elements."""
    listed = "".join(
        f"<label><name>{name}</name><color>#fa3253</color><type>any</type></label>"
        for name in labels
    )
    meta = f"<meta><task><id>1</id><name>t</name><labels>{listed}{more}</labels></task></meta>"
    head = '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>'
    return f"{head}{meta}{''.join(images)}</annotations>"


def image(*shapes: str, name: str = "a.jpg", number: int = 0, more: str = "") -> str:
    return (
        f'<image id="{number}" name="{name}" width="60" height="40"{more}>{"".join(shapes)}</image>'
    )


def box(label: str = "cat", more: str = "", inside: str = "") -> str:
    return (
        f'<box label="{label}" source="manual" occluded="0" xtl="4.00" ytl="6.00" xbr="14.00" '
        f'ybr="26.00" z_order="0" {more}>{inside}</box>'
    )


def shape(tag: str, label: str = "cat", group: int = 0, **told: object) -> str:
    fields = " ".join(f'{key}="{value}"' for key, value in told.items())
    group_id = f' group_id="{group}"' if group else ""
    return f'<{tag} label="{label}" occluded="0" {fields} z_order="0"{group_id}></{tag}>'


def write_cvat(folder: Path, text: str, *pictures: str) -> Path:
    for picture in pictures or ("a.jpg",):
        write_picture(folder / "images" / picture)
    (folder / "annotations.xml").write_text(text, encoding="utf-8")
    return folder


def opened(folder: Path, *shapes: str) -> Packed:
    data = open_split(write_cvat(folder, document(image(*shapes))), "all")
    assert isinstance(data, Packed)
    return data


def test_boxes_in_the_order_of_the_labels(tmp_path: Path) -> None:
    data = opened(tmp_path, box("cat"), box("dog", more='group_id="0"').replace('d="0', 'd="1', 1))
    scene = data.scene(0)
    assert data.classes.names == LABELS
    assert scene.things.labels.tolist() == [1, 0]
    assert scene.things.boxes.tolist() == [[4, 6, 14, 26]] * 2
    assert scene.things.extra["occluded"].tolist() == [False, True]
    assert scene.things.masks is None
    assert (scene.size, scene.image_id) == ((40, 60), "a")
    assert scene.path == str(tmp_path / "images" / "a.jpg")


def test_a_turned_box_is_a_polygon(tmp_path: Path) -> None:
    """A quarter turn about its centre (9, 16): 10 wide and 20 high become 20 wide and 10 high."""
    boxes = [box(more=f'rotation="{degrees}"') for degrees in ("90.00", "45")]
    with pytest.warns(DataWarning, match="2 boxes reaching outside"):
        things = opened(tmp_path, *boxes).scene(0).things
    torch.testing.assert_close(things.boxes[0], torch.tensor([-1.0, 11, 19, 21]).clamp(0))
    assert things.area.tolist() == pytest.approx([200, 200])
    corners = things.masks[1][0]
    # (-5, -10) turned by 45 degrees clockwise, y down: (-5 + 10, -5 - 10) / sqrt 2
    half = 0.5**0.5
    assert corners[0].tolist() == pytest.approx([9 + 5 * half, 16 - 15 * half])


def test_polygons_and_ellipses_are_masks(tmp_path: Path) -> None:
    things = (
        opened(
            tmp_path,
            shape("polygon", points="10.00,10.00;30.00,10.00;10.00,30.00"),
            shape("ellipse", cx=30, cy=20, rx=20, ry=10),
            shape("ellipse", cx=30, cy=20, rx=15, ry=5, rotation=90),
        )
        .scene(0)
        .things
    )
    wanted = torch.tensor([[10.0, 10, 30, 30], [10, 10, 50, 30], [25, 5, 35, 35]])
    torch.testing.assert_close(things.boxes, wanted, atol=0.1, rtol=0)
    assert things.area.tolist() == pytest.approx([200, 200 * np.pi, 75 * np.pi], rel=0.02)


def test_masks_run_along_their_rows(tmp_path: Path) -> None:
    """3 x 3 at (10, 20) with a hole: 0 zeros, 4 ones, the hole, 4 ones; then one that begins with
    zeros and ends in them."""
    ring = shape("mask", rle="0, 4, 1, 4", left=10, top=20, width=3, height=3)
    stroke = shape("mask", rle="1, 2, 1", left=0, top=0, width=2, height=2)
    things = opened(tmp_path, ring, stroke).scene(0).things
    maps = rasterise(things.masks, (40, 60))
    wanted = torch.zeros(2, 40, 60, dtype=torch.bool)
    wanted[0, 20:23, 10:13] = True
    wanted[0, 21, 11] = False
    wanted[1, 0, 1] = wanted[1, 1, 0] = True
    assert maps.equal(wanted)
    assert things.boxes.tolist() == [[10, 20, 13, 23], [0, 0, 2, 2]]
    assert things.area.tolist() == [8, 2]


def test_a_group_is_one_thing(tmp_path: Path) -> None:
    def square(x: int, group: int, label: str = "cat") -> str:
        points = f"{x},0;{x + 4},0;{x + 4},4;{x},4"
        return shape("polygon", label, group, points=points)

    things = opened(tmp_path, square(0, 1), square(20, 0), square(10, 1), square(30, 1, "dog"))
    things = things.scene(0).things
    assert things.labels.tolist() == [1, 1, 0]
    assert things.boxes.tolist() == [[0, 0, 14, 4], [20, 0, 24, 4], [30, 0, 34, 4]]
    assert [len(polygons) for polygons in things.masks] == [2, 1, 1]


def test_what_is_no_thing_is_counted(tmp_path: Path) -> None:
    others = [
        shape("points", points="1,1"),
        shape("polyline", points="1,1;2,2"),
        "<tag label='x'/>",
    ]
    with pytest.warns(DataWarning, match="3 shapes left out .*: points, polyline, tag"):
        data = opened(tmp_path, box(), *others)
    assert len(data.scene(0).things) == 1


def test_attributes_that_mean_ignore(tmp_path: Path) -> None:
    said = [("Difficult", "true"), ("is_crowd", "1"), ("ignore", "false"), ("colour", "true")]
    boxes = [box(inside=f'<attribute name="{n}">{v}</attribute>') for n, v in said]
    things = opened(tmp_path, *boxes).scene(0).things
    assert things.ignore.tolist() == [True, True, False, False]
    assert things.difficult.tolist() == [True, False, False, False]  # a crowd is many


def test_labels_that_are_of_no_thing(tmp_path: Path) -> None:
    more = "<label><name>weather</name><type>tag</type></label>"
    more += "<label><name>person</name><type>skeleton</type></label>"
    more += "<label><name>1</name><type>points</type><parent>person</parent></label>"
    folder = write_cvat(tmp_path, document(image(box()), more=more))
    assert open_split(folder, "all").classes.names == LABELS
    unlisted = document(image(box("z"), box("y")), labels=())
    assert open_split(write_cvat(tmp_path, unlisted), "all").classes.names == ("y", "z")


def test_subsets_are_splits(tmp_path: Path) -> None:
    """A project's export: the same name in two subsets."""
    images = [
        image(box(name), more=f' subset="{subset}" task_id="3"')
        for name, subset in (("cat", "Train"), ("dog", "Validation"))
    ]
    folder = write_cvat(tmp_path, document(*images), "Train/a.jpg", "Validation/a.jpg")
    train, val = open_dataset(folder)
    assert train.scene(0).path == str(folder / "images" / "Train" / "a.jpg")
    assert val.scene(0).path == str(folder / "images" / "Validation" / "a.jpg")
    assert train.scene(0).things.labels.tolist() == [1]
    assert val.scene(0).things.labels.tolist() == [0]
    everything = open_split(folder / "annotations.xml", "all")
    assert [Path(everything.scene(i).path).parent.name for i in (0, 1)] == ["Train", "Validation"]


def test_split_folders_and_pictures_without_shapes(tmp_path: Path) -> None:
    for split in ("train", "val"):
        images = image(box(), name=f"{split}.jpg"), image(name="sub/b.jpg", number=1)
        write_cvat(tmp_path / split, document(*images), f"{split}.jpg", "sub/b.jpg")
    train, val = open_dataset(tmp_path)
    assert [len(train.scene(i).things) for i in range(2)] == [1, 0]
    assert val.scene(0).path == str(tmp_path / "val" / "images" / "val.jpg")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (box("cow"), r"annotations\.xml: image 0, shape 2 has a label that is not listed: cow"),
        (box().replace("4.00", "left"), 'image 0, shape 2 has no proper "xtl": left'),
        (shape("polygon", points="1,1;2,2"), "image 0, shape 2 is a polygon of 2 points"),
        (shape("polygon", points="1,1;2,x;3,3"), 'shape 2 has a "points" that is no list'),
        (shape("polygon"), 'shape 2 has a "points" that is no list of numbers'),
        (
            shape("mask", rle="1, 2", left=0, top=0, width=2, height=2),
            "shape 2 has an rle that does not fill its 2x2 pixels",
        ),
        (
            shape("mask", rle="1, 1e300", left=0, top=0, width=2, height=2),
            'shape 2 has a "rle" that is not finite, or beyond all bounds',
        ),
        (
            shape("mask", rle="1", left=0, top=0, width=10**9, height=10**9),
            "shape 2 is a mask of 1000000000x1000000000 in a 60x40 picture",
        ),
    ],
)
def test_flaws_are_named(tmp_path: Path, wrong: str, message: str) -> None:
    with pytest.raises(SightlineError, match=message) as error:
        opened(tmp_path, box(), wrong)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (document("<track id='0' label='cat'><box frame='0'/></track>"), "tracks of a video"),
        (document(labels=()), "has no labels"),
        (document(image(box()))[:-3], r"annotations\.xml, line 1, column \d+: broken XML"),
        (document(image(box(), name="b.jpg")), r"image 0: no picture b\.jpg \(looked in"),
        (document(image(box()), image(box())), r"two records are of images/a\.jpg"),
        (document(image(box()).replace("60", "-1")), "image 0 has width -1 and height 40"),
        (document(image(box()).replace("60", "wide")), 'image 0 has no proper "width": wide'),
    ],
)
def test_flaws_of_a_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SightlineError, match=message):
        open_split(write_cvat(tmp_path, text), "all")
