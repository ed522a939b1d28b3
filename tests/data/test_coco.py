import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sightline.data.categories import mirrored
from sightline.data.coco import write_coco
from sightline.data.folder import open_dataset, open_split
from sightline.data.images import read_image
from sightline.data.packed import Dataset, DataWarning
from sightline.errors import SightlineError
from sightline.ops.masks import rasterise
from sightline.types import Classes, Instances, Panoptic, Scene, Segment
from tests.data.samples import InMemory, boxes_scene, coco_document, write_coco_folder, write_json


def opened(tmp_path: Path, *things: dict[str, Any], **changes: Any) -> Dataset:
    """A data set of one picture of 60 x 40 with these annotations."""
    defaults = {"id": 1, "image_id": 0, "category_id": 7, "bbox": [4, 6, 10, 20]}
    document = coco_document(1, annotations=[defaults | thing for thing in things], **changes)
    return open_split(write_coco_folder(tmp_path, document, "val"), "val")


def test_boxes_labels_and_ids(tmp_path: Path) -> None:
    data = opened(tmp_path, {"area": 150}, {"category_id": 3, "bbox": [0.5, 1, 2, 3]})
    assert data.classes.names == ("dog", "cat")  # in the order of the ids 3 and 7
    assert data.classes.ids == (3, 7)
    scene = data.scene(0)
    assert scene.size == data.size(0) == (40, 60)
    assert scene.image_id == 0
    assert scene.things.boxes.tolist() == [[4, 6, 14, 26], [0.5, 1, 2.5, 4]]
    assert scene.things.labels.tolist() == [1, 0]
    assert scene.things.area.tolist() == [150, 6]  # as told; else the box's
    assert not scene.things.ignore.any()
    assert data.picture(0).shape == (3, 40, 60)


def test_pictures_without_annotations_are_kept(tmp_path: Path) -> None:
    document = coco_document(3)
    del document["annotations"][1]
    data = open_split(write_coco_folder(tmp_path, document, "val"), "val")
    assert [len(data.scene(i).things) for i in range(3)] == [1, 0, 1]


@pytest.mark.parametrize("flag", ["iscrowd", "ignore"])
def test_crowds_are_ignored(tmp_path: Path, flag: str) -> None:
    data = opened(tmp_path, {flag: 1}, {flag: 0})
    assert data.scene(0).things.ignore.tolist() == [True, False]


def test_masks_of_every_kind(tmp_path: Path) -> None:
    """The same square of 3 x 2 at (5, 4), said in four ways; and nothing, and slivers."""
    square = [5, 4, 8, 4, 8, 6, 5, 6]
    before, gap = 5 * 40 + 4, 40 - 2  # columns are 40 high
    counts = [before, 2, gap, 2, gap, 2, 60 * 40 - before - 3 * 2 - 2 * gap]
    pycoco = pytest.importorskip("pycocotools.mask")
    packed = pycoco.frPyObjects({"size": [40, 60], "counts": counts}, 40, 60)["counts"].decode()
    data = opened(
        tmp_path,
        {"segmentation": [square]},
        {"segmentation": square},
        {"segmentation": {"size": [40, 60], "counts": counts}},
        {"segmentation": {"size": [40, 60], "counts": packed}},
        {"segmentation": []},
        {"segmentation": [[1, 1, 2, 2]]},
    )
    expected = torch.zeros(40, 60, dtype=torch.bool)
    expected[4:6, 5:8] = True
    masks = rasterise(data.scene(0).things.masks, (40, 60))
    assert all(mask.equal(expected) for mask in masks[:4])
    assert not masks[4:].any()


@pytest.mark.parametrize(
    "segmentation",
    [[[5, 4, 8, 4, 8, 6, 5, 6]], {"size": [40, 60], "counts": [204, 2, 38, 2, 38, 2, 2114]}],
)
def test_a_box_from_the_mask_where_there_is_none(tmp_path: Path, segmentation: Any) -> None:
    data = opened(tmp_path, {"bbox": [], "segmentation": segmentation})
    assert data.scene(0).things.boxes.tolist() == [[5, 4, 8, 6]]


def test_keypoints(tmp_path: Path) -> None:
    names = ["nose", "left_eye", "right_eye"]
    person = {"id": 7, "name": "cat", "keypoints": names, "skeleton": [[1, 2], [1, 3]]}
    data = opened(
        tmp_path,
        {"keypoints": [1, 2, 2, 3, 4, 1, 0, 0, 0]},
        {},
        categories=[person, {"id": 3, "name": "dog"}],
    )
    assert data.classes.keypoints == tuple(names)
    assert data.classes.mirrored == (0, 2, 1)
    assert data.classes.skeleton == ((0, 1), (0, 2))
    assert data.scene(0).things.keypoints.tolist() == [
        [[1, 2, 2], [3, 4, 1], [0, 0, 0]],
        [[0, 0, 0]] * 3,
    ]


def test_unlike_keypoints_are_left_out(tmp_path: Path) -> None:
    categories = [
        {"id": 7, "name": "cat", "keypoints": ["nose"]},
        {"id": 3, "name": "dog", "keypoints": ["tail"]},
    ]
    with pytest.warns(DataWarning, match="different keypoints"):
        data = opened(tmp_path, {"keypoints": [1, 2, 2]}, categories=categories)
    assert data.scene(0).things.keypoints is None


def test_mirrored_names() -> None:
    names = ["leftear", "rightear", "Left Eye", "Right Eye", "l_hip", "r_hip", "toe.L", "toe.R"]
    assert mirrored(names) == (1, 0, 3, 2, 5, 4, 7, 6)
    assert mirrored(["nose", "left_only", "tail", "collar"]) == (0, 1, 2, 3)
    assert mirrored([]) == ()


def test_roboflows_umbrella_category_is_left_out(tmp_path: Path) -> None:
    categories = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 3, "name": "dog", "supercategory": "pets"},
        {"id": 7, "name": "cat", "supercategory": "pets"},
    ]
    assert opened(tmp_path, {}, categories=categories).classes.ids == (3, 7)
    used = opened(tmp_path / "used", {"category_id": 0}, categories=categories)
    assert used.classes.ids == (0, 3, 7)


def test_classes_of_both_splits(tmp_path: Path) -> None:
    write_coco_folder(tmp_path, coco_document(2, categories=[{"id": 7, "name": "cat"}]), "train")
    write_coco_folder(tmp_path, coco_document(1), "val")
    train, val = open_dataset(tmp_path)
    assert train.classes == val.classes
    assert train.classes.names == ("dog", "cat")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 3}, 'no list of "images"'),
        ({"images": []}, "has no images"),
        ({"annotations": []}, "has no annotations"),
        ({"annotations": [1]}, 'no list of "annotations"'),
        ({"images": [{"id": 0, "file_name": "0.png"}] * 2}, "two images have the id 0"),
        ({"images": [{"file_name": "0.png"}]}, "an image has no proper id"),
        ({"images": [{"id": 0}]}, 'image 0 has no proper "file_name": None'),
        (
            {"images": [{"id": 0, "file_name": "0.png", "width": 0, "height": 4}]},
            "image 0 has width 0 and height 4",
        ),
        (
            {"images": [{"id": 0, "file_name": "0.png", "width": 1e300, "height": 4}]},
            "image 0 has a width or height beyond any picture's",
        ),
        (
            {"categories": [{"id": 7, "name": "a"}, {"id": 7, "name": "b"}]},
            'category 7 is "b" here',
        ),
        ({"categories": [{"id": 7, "name": "a"}, {"id": 8, "name": "a"}]}, '7 and 8 are both "a"'),
        ({"categories": [{"id": "x", "name": "a"}]}, 'category x has no proper "id"'),
    ],
)
def test_flaws_of_the_file(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = write_coco_folder(tmp_path, coco_document(1), "val")
    file = write_json(folder / "annotations" / "val.json", coco_document(1, **change))
    with pytest.raises(SightlineError) as error:
        open_split(folder, "val")
    assert message in str(error.value)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 5}, "is of image 5, which is not listed"),
        ({"category_id": 5}, "is of category 5, which is not listed"),
        ({"category_id": None}, 'no proper "category_id": None'),
        ({"bbox": [1, 2, 3]}, "a bbox of 3 numbers instead of 4"),
        ({"bbox": [1, 2, "x", 4]}, '"bbox" that is no list of numbers'),
        ({"bbox": [1, 2, float("nan"), 4]}, '"bbox" that is not finite'),
        ({"bbox": None}, "neither bbox nor segmentation"),
        ({"iscrowd": "0"}, """has an "iscrowd" that is neither 0 nor 1: '0'"""),
        ({"ignore": 2}, 'has an "ignore" that is neither 0 nor 1: 2'),
        ({"area": -4}, 'has an "area" below 0: -4'),
        ({"area": "big"}, '"area" that is no list of numbers'),
        ({"segmentation": "round"}, "neither polygons nor RLE"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "an odd number of coordinates"),
        ({"segmentation": {"size": [4, 6], "counts": [24]}}, "RLE of size [4, 6] in a picture of"),
        ({"segmentation": {"size": [40, 60], "counts": [24]}}, "does not fill its size"),
        ({"segmentation": {"size": [40, 60], "counts": "T3"}}, "does not fill its size"),
        (
            {"segmentation": {"size": [40, 60], "counts": "O"}},
            "a broken RLE: a negative run length",
        ),
        ({"segmentation": {"size": [40, 60]}}, '"counts" that is no list'),
    ],
)
def test_flaws_of_an_annotation_name_it(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SightlineError) as error:
        opened(tmp_path, {"id": 99} | change)
    assert f"val.json: annotation 99 {'has' if 'has' in str(error.value) else 'is'}" in str(
        error.value
    )
    assert message in str(error.value)


def test_broken_json_says_where(tmp_path: Path) -> None:
    file = tmp_path / "train.json"
    file.write_text('{"images": [\n  {"id": 1,,}\n]}')
    with pytest.raises(SightlineError, match=r"train\.json, line 2, column 12: broken JSON"):
        open_dataset(tmp_path)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SightlineError, match=r"train\.json: broken JSON"):
        open_dataset(tmp_path)


def test_missing_pictures_are_counted_and_named(tmp_path: Path) -> None:
    folder = write_coco_folder(tmp_path, coco_document(5), "val")
    for name in ("1.png", "3.png"):
        (folder / "val" / name).unlink()
    with pytest.raises(
        SightlineError, match=r"2 of 5 pictures that are not there: 1.png, 3.png \("
    ):
        open_split(folder, "val")


def test_a_missing_picture_is_not_taken_from_another_split(tmp_path: Path) -> None:
    """Though there is one of its name."""
    for split in ("train", "val"):
        write_coco_folder(tmp_path, coco_document(2), split)
    (tmp_path / "train" / "1.png").unlink()
    with pytest.raises(
        SightlineError, match=r"train\.json lists 1 of 2 pictures that are not there"
    ):
        open_dataset(tmp_path)


def test_sizes_from_the_picture_where_the_file_does_not_say(tmp_path: Path) -> None:
    document = coco_document(1)
    del document["images"][0]["width"]
    data = open_split(write_coco_folder(tmp_path, document, "val"), "val")
    assert data.size(0) == (40, 60)


junk = st.one_of(
    st.none() | st.booleans() | st.integers(-3, 99) | st.floats() | st.text(max_size=3),
    st.lists(st.integers(0, 9), max_size=4) | st.just([[]]),
    st.just({}) | st.just({"size": [40, 60]}),
)
KEYS = {
    "images": ["id", "file_name", "height", "width"],
    "annotations": ["image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"],
    "categories": ["id", "name", "supercategory", "keypoints", "skeleton"],
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.sampled_from([(kind, key) for kind in KEYS for key in KEYS[kind]]), junk)
def test_anything_in_any_field_is_read_or_refused_in_one_line(
    tmp_path: Path, place: tuple[str, str], value: Any
) -> None:
    document = coco_document(2)
    document["categories"][0] |= {"keypoints": ["a"], "skeleton": []}
    folder = tmp_path / "data"
    if not folder.exists():
        write_coco_folder(folder, document, "val")
    document[place[0]][0][place[1]] = value
    write_json(folder / "annotations" / "val.json", document)
    try:
        with warnings.catch_warnings(action="ignore"):
            open_split(folder, "val").scene(0)
    except SightlineError as error:
        if "\n" in str(error):
            raise


def same(first: Scene, second: Scene) -> None:
    assert first.size == second.size
    assert first.image_id == second.image_id
    for name in ("boxes", "labels", "ignore", "area", "keypoints"):
        a, b = getattr(first.things, name), getattr(second.things, name)
        assert (a is None) == (b is None), name
        assert a is None or a.equal(b), name
    if first.things.masks is not None:
        a, b = (rasterise(scene.things.masks, scene.size) for scene in (first, second))
        assert a.equal(b)


def test_written_and_read_again(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    classes = Classes(("a", "b"), (5, 2), keypoints=("left_x", "right_x"), mirrored=(1, 0))
    scenes = []
    for i in range(4):
        corners = torch.rand(i, 2, 2, generator=generator) * 29
        boxes = torch.cat([corners.amin(1), corners.amax(1) + 1], dim=1)
        things = Instances(
            boxes=boxes,
            labels=torch.randint(0, 2, (i,), generator=generator),
            ignore=torch.rand(i, generator=generator) > 0.5,
            area=torch.rand(i, generator=generator) * 99,
            masks=torch.rand(i, 30, 30, generator=generator) > 0.5,
            keypoints=torch.rand(i, 2, 3, generator=generator).round(decimals=2),
        )
        scenes.append(Scene((30, 30), things, image_id=100 + i))
    given = InMemory(scenes, classes)
    for split in ("train", "val"):
        file = write_coco(given, tmp_path, split)
        assert file == tmp_path / "annotations" / f"instances_{split}.json"
    for read in open_dataset(tmp_path):
        assert read.classes.ids == (2, 5)  # classes are numbered by id
        assert read.classes.keypoints == classes.keypoints
        for i, scene in enumerate(scenes):
            found = read.scene(i)
            found.things.labels = 1 - found.things.labels
            same(scene, found)
            assert read.picture(i).equal(given.picture(i))
    assert not list(tmp_path.rglob("*.part"))


def test_a_difficult_thing_is_a_crowd_to_others_and_one_thing_to_us(tmp_path: Path) -> None:
    """VOC's flag: COCO's tools heed iscrowd alone (pycocotools overwrites "ignore" with it)."""
    boxes = [[1, 1, 9, 9], [11, 11, 19, 19], [21, 21, 29, 29]]
    scene = boxes_scene((30, 30), *boxes, ignore=torch.tensor([False, True, True]))
    scene.things.extra["difficult"] = torch.tensor([False, True, False])
    file = write_coco(InMemory([scene]), tmp_path, "val")
    records = json.loads(file.read_text())["annotations"]
    assert [record["iscrowd"] for record in records] == [0, 1, 1]
    assert [record.get("difficult") for record in records] == [None, 1, None]
    things = open_split(tmp_path, "val").scene(0).things
    assert things.ignore.tolist() == [False, True, True]
    assert things.difficult.tolist() == [False, True, False]


def test_a_copy_of_a_copy(tmp_path: Path) -> None:
    write_coco_folder(tmp_path / "one", coco_document(3), "val")
    first = open_split(tmp_path / "one", "val")
    write_coco(first, tmp_path / "two", "val")
    second = open_split(tmp_path / "two", "val")
    for i in range(3):
        same(first.scene(i), second.scene(i))
        files = [Path(data.scene(i).path) for data in (first, second)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_pictures_of_one_name_from_two_folders(tmp_path: Path) -> None:
    document = coco_document(2)
    for i, image in enumerate(document["images"]):
        image["file_name"] = f"{i}/same.png"
    first = open_split(write_coco_folder(tmp_path / "one", document, "val"), "val")
    write_coco(first, tmp_path / "two", "val")
    write_coco(first, tmp_path / "two", "val")  # again, over itself
    second = open_split(tmp_path / "two", "val")
    assert len({second.scene(i).path for i in range(2)}) == 2
    assert len(list((tmp_path / "two" / "val").iterdir())) == 2


def test_panoptic_maps_are_written_beside(tmp_path: Path) -> None:
    ids = torch.tensor([[0, 300, 300], [70000, 70000, 300]])
    panoptic = Panoptic(ids, [Segment(300, 0, True), Segment(70000, 2, False, ignore=True)])
    scene = boxes_scene((2, 3), [1, 0, 3, 2])
    scene.panoptic = panoptic
    write_coco(InMemory([scene], Classes(("a", "b"), (4, 9), stuff=("sky",))), tmp_path)
    document = json.loads((tmp_path / "annotations" / "panoptic_train.json").read_text())
    assert [(c["id"], c["isthing"]) for c in document["categories"]] == [(4, 1), (9, 1), (10, 0)]
    [annotation] = document["annotations"]
    assert annotation["segments_info"] == [
        {"id": 300, "category_id": 4, "area": 3, "iscrowd": 0},
        {"id": 70000, "category_id": 10, "area": 2, "iscrowd": 1},
    ]
    red, green, blue = read_image(tmp_path / "panoptic_train" / annotation["file_name"]).long()
    assert (red + 256 * green + 65536 * blue).equal(ids)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_real_coco_as_pycocotools_reads_it(real_data: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    file = real_data / "coco" / "annotations" / "instances_val.json"
    theirs = coco.COCO(str(file))
    ours = open_split(real_data / "coco", "val")
    assert list(ours.classes.ids) == sorted(theirs.getCatIds())
    for i in range(len(ours)):
        scene = ours.scene(i)
        annotations = theirs.loadAnns(theirs.getAnnIds(imgIds=[scene.image_id]))
        masks = rasterise(scene.things.masks, scene.size)
        assert len(annotations) == len(scene.things)
        for row, annotation in enumerate(annotations):
            assert ours.classes.ids[scene.things.labels[row]] == annotation["category_id"]
            assert bool(scene.things.ignore[row]) == bool(annotation["iscrowd"])
            assert float(scene.things.area[row]) == pytest.approx(annotation["area"])
            x, y, w, h = annotation["bbox"]
            box = np.array([x, y, x + w, y + h])
            np.testing.assert_allclose(scene.things.boxes[row].numpy(), box, atol=0.1)
            assert masks[row].equal(torch.from_numpy(theirs.annToMask(annotation)).bool())


def test_of_two_keypoints_named_alike_one_stays() -> None:
    """Each that is moved is moved back by the next mirror."""
    assert mirrored(["left_eye", "left_eye", "right_eye"]) == (0, 2, 1)
