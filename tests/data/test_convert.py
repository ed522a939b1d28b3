"""Formats into one another: what survives, what is told, and nothing half-written."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import sightline
from sightline import cli
from sightline.data.coco import write_coco
from sightline.data.folder import open_splits
from sightline.data.packed import DataWarning, Packed
from sightline.data.yolo_write import write_yolo
from sightline.errors import SightlineError
from sightline.types import Classes, Scene
from tests.data.samples import (
    InMemory,
    boxes_scene,
    coco_document,
    voc_xml,
    write_coco_folder,
    write_voc_folder,
)
from tests.data.test_jsonlines import BOX, record, write_lines

SIZE = (40, 60)
CLASSES = Classes(("dog", "cat", "ant"), ids=(3, 7, 8))
KINDS = ["yolo", "voc"]


def masked(seed: int) -> Scene:
    """Boxes with fractions around masks with holes and several parts, and an ignore region."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(5, *SIZE, dtype=torch.bool)
    masks[:, 10:30, 20:50] = torch.rand(5, 20, 30, generator=generator) < 0.7
    masks[:, 10, 20], masks[:, 29, 49] = True, True  # so that the boxes are the masks', nearly
    boxes = torch.tensor([20.0, 10, 50, 30]) + 0.4 * torch.rand(5, 4, generator=generator)
    ignore = torch.tensor([False, True, False, False, False])
    scene = boxes_scene(SIZE, *boxes.tolist(), masks=masks, ignore=ignore)
    scene.things.labels = torch.arange(5) % 3
    return replace(scene, image_id=100 + seed)


def coco_folder(folder: Path, *splits: str) -> Path:
    for i, split in enumerate(splits):
        scenes = [masked(4 * i), boxes_scene(SIZE), masked(4 * i + 1)]
        scenes[1].image_id = 4 * i + 102
        scenes[1].things.masks = []
        write_coco(InMemory(scenes, CLASSES), folder, split)
    return folder


def scenes(data: Packed) -> Iterator[Scene]:
    return (data.scene(index) for index in range(len(data)))


def keypoints_folder(folder: Path) -> Path:
    points = torch.rand(4, 3, 3) * torch.tensor([60.0, 40, 0])
    points[:, :, 2] = torch.tensor([2.0, 1, 0])
    points[:, 2] = 0
    scene = boxes_scene(SIZE, *[[1.25, 2, 59, 39.5]] * 4, keypoints=points)
    classes = Classes(("mouse",), keypoints=("left ear", "right ear", "tail"), skeleton=((0, 2),))
    write_coco(InMemory([replace(scene, image_id=5)], classes), folder, "val")
    return folder


@pytest.mark.filterwarnings("ignore::sightline.data.packed.DataWarning")
def test_keypoints_there_and_back_through_yolo(tmp_path: Path) -> None:
    given = keypoints_folder(tmp_path / "given")
    sightline.convert(given, tmp_path / "yolo", "yolo")
    sightline.convert(tmp_path / "yolo", tmp_path / "back", "coco")
    first, last = (open_splits(tmp_path / name)["val"] for name in ("given", "back"))
    assert last.classes == replace(first.classes, ids=(0,), skeleton=())
    assert (first.keypoints - last.keypoints).abs().max() < 0.01


def told(caught: pytest.WarningsRecorder) -> list[str]:
    return [str(warning.message) for warning in caught]


def test_what_is_lost_is_told_once_a_kind(tmp_path: Path) -> None:
    """Two splits of two pictures with five things each, one of the five ignored."""
    given = coco_folder(tmp_path / "given", "train", "val")
    with pytest.warns(DataWarning) as caught:
        sightline.convert(given, tmp_path / "yolo", "yolo")
    assert told(caught) == [
        "yolo cannot hold category ids: 3 left out",
        "yolo cannot hold image ids: 6 left out",
        "yolo cannot hold ignore regions: 4 left out",
    ]
    with pytest.warns(DataWarning) as caught:
        sightline.convert(given, tmp_path / "voc", "voc")
    assert told(caught) == [
        "voc cannot hold classes in an order of their own: 3 sorted by name",
        "voc cannot hold category ids: 3 left out",
        "voc cannot hold image ids: 6 left out",
        "voc cannot hold crowd regions: 4 marked as difficult, which is one thing",
        "voc cannot hold masks: 20 left out",
    ]
    with pytest.warns(DataWarning) as caught:
        sightline.convert(keypoints_folder(tmp_path / "mice"), tmp_path / "mice_voc", "voc")
    assert "voc cannot hold things with keypoints: 4 written without" in told(caught)
    assert "voc cannot hold pairs of keypoints in a skeleton: 1 left out" in told(caught)


def test_boxes_and_masks_that_disagree_are_told(tmp_path: Path) -> None:
    """A mask far beyond its box; one that is none; a box thinner than a pixel; a wrong area."""
    scene = boxes_scene(SIZE, [5, 5, 9, 9], [1, 1, 3, 3], [7, 7, 7.5, 20])
    square = torch.tensor([[5.0, 5], [40, 5], [40, 30], [5, 30]]).double()
    scene.things.masks, scene.things.area = [[square], [], []], torch.tensor([16, 9, 6.5])
    given = tmp_path / "given"
    write_coco(InMemory([scene], Classes(("a", "b"))), given, "all")
    with pytest.warns(DataWarning) as caught:
        assert sightline.convert(given, tmp_path / "yolo", "yolo") == {"train": 1}
    assert told(caught) == [
        "yolo cannot hold a data set without train: 1 written as train",
        "yolo cannot hold image ids: 1 left out",
        "yolo cannot hold areas other than the box's: 1 left out",
        "yolo cannot hold things without a mask beside masks: 2 given the rectangle of their box",
        "yolo cannot hold boxes smaller than their masks: 1 enlarged",
    ]
    with pytest.warns(DataWarning) as caught:
        assert sightline.convert(given, tmp_path / "voc", "voc") == {"all": 1}
    assert "voc cannot hold classes without a thing: 1 left out" in told(caught)
    assert "voc cannot hold boxes thinner than a pixel: 1 widened to one" in told(caught)


def test_coco_cannot_hold_everything_either(tmp_path: Path) -> None:
    tags = "<truncated>1</truncated><difficult>1</difficult>"
    xmls = {"a": voc_xml([("cat", (1, 1, 60, 40))], tags=tags), "b": voc_xml([])}
    given = write_voc_folder(tmp_path / "given", xmls)
    with pytest.warns(DataWarning) as caught:
        assert sightline.convert(given, tmp_path / "coco", "coco") == {"all": 2}
    assert told(caught) == ["coco cannot hold truncated: 1 left out"]
    document = json.loads((tmp_path / "coco" / "annotations" / "instances_all.json").read_text())
    assert [image["id"] for image in document["images"]] == [1, 2]  # the names are no loss
    classes = Classes(("a",), keypoints=("p", "q"), mirrored=(1, 0))
    points = torch.tensor([[[1.0, 2, 2], [0, 0, 0]]])
    given = tmp_path / "yolo"
    write_yolo(InMemory([boxes_scene(SIZE, [1, 2, 3, 4], keypoints=points)], classes), given)
    with pytest.warns(DataWarning, match="counterpart that names do not tell: 2 left without one"):
        sightline.convert(given / "data.yaml", tmp_path / "out", "coco")


@pytest.mark.filterwarnings("ignore:voc cannot hold image ids")
def test_difficult_is_no_crowd_and_comes_back(tmp_path: Path) -> None:
    tags = "<difficult>1</difficult>"
    xmls = {"a": voc_xml([("cat", (1, 1, 60, 40))], tags=tags)}
    given = write_voc_folder(tmp_path / "given", xmls)
    sightline.convert(given, tmp_path / "coco", "coco")  # without a line
    sightline.convert(tmp_path / "coco", tmp_path / "back", "voc")
    assert open_splits(tmp_path / "back")["all"].scene(0).things.difficult.tolist() == [True]
    file = tmp_path / "coco" / "annotations" / "instances_all.json"
    document = json.loads(file.read_text())
    document["annotations"][0]["iscrowd"] = 0
    file.write_text(json.dumps(document))
    line = "voc cannot hold difficult things that are not ignored: 1 written as any other"
    with pytest.warns(DataWarning, match=line):
        sightline.convert(tmp_path / "coco", tmp_path / "any", "voc")


def lists(folder: Path, **stems: str) -> Path:
    main = folder / "ImageSets" / "Main"
    main.mkdir(parents=True)
    for split, names in stems.items():
        (main / f"{split}.txt").write_text("\n".join(names))
    return folder


@pytest.mark.parametrize(
    ("given", "to", "expected"),
    [
        ({"train": "a", "val": "b", "trainval": "ab"}, "coco", {"train": 1, "val": 1}),
        (
            {"train": "a", "val": "b", "trainval": "ab"},
            "voc",
            {"train": 1, "trainval": 2, "val": 1},
        ),
        (
            {"train": "a", "val": "b", "trainval": "abc"},
            "coco",
            {"train": 1, "trainval": 3, "val": 1},
        ),
        ({"trainval": "ab", "test": "c"}, "coco", {"test": 1, "trainval": 2}),
        ({"trainval": "ab", "test": "c"}, "yolo", {"test": 1, "train": 2}),
        ({"trainval": "abc", "val": "b"}, "yolo", {"train": 2, "val": 1}),
        (
            {"trainval": "abc", "val": "b", "test": "c"},
            "coco",
            {"test": 1, "trainval": 3, "val": 1},
        ),
        ({"train": "a", "val": "b"}, "yolo", {"train": 1, "val": 1}),  # c is told of
    ],
)
@pytest.mark.filterwarnings("ignore:yolo cannot hold a data set without train")
def test_splits(given: dict[str, str], to: str, expected: dict[str, int], tmp_path: Path) -> None:
    xmls = {stem: voc_xml([("cat", (1, 1, 60, 40))]) for stem in "abc"}
    folder = lists(write_voc_folder(tmp_path / "given", xmls), **given)
    if "c" in "".join(given.values()):
        assert sightline.convert(folder, tmp_path / "out", to) == expected
    else:
        with pytest.warns(DataWarning, match=r"1 annotation files are in no split .*: c\.xml"):
            assert sightline.convert(folder, tmp_path / "out", to) == expected
    assert {name: len(data) for name, data in open_splits(tmp_path / "out").items()} == expected


def test_val_alone_is_told_where_train_is_wanted(tmp_path: Path) -> None:
    given = keypoints_folder(tmp_path / "given")
    with pytest.warns(DataWarning) as caught:
        assert sightline.convert(given, tmp_path / "out", "yolo") == {"val": 1}
    line = "yolo cannot hold val or test alone: 1 written without a train, which other tools want"
    assert line in told(caught)


@pytest.mark.filterwarnings("ignore:yolo cannot hold image ids")
def test_a_split_of_background_alone(tmp_path: Path) -> None:
    """YOLO's empty label files are kept in COCO's JSON; nothing else is no data set."""
    given, empty = tmp_path / "given", boxes_scene(SIZE)
    write_yolo(InMemory([boxes_scene(SIZE, [1, 2, 3, 4])]), given, "train")
    write_yolo(InMemory([empty, empty]), given, "val")
    assert sightline.convert(given, tmp_path / "coco", "coco") == {"train": 1, "val": 2}
    found = open_splits(tmp_path / "coco")
    assert [len(data.boxes) for data in found.values()] == [1, 0]
    assert sightline.convert(tmp_path / "coco", tmp_path / "yolo", "yolo") == {"train": 1, "val": 2}
    write_yolo(InMemory([empty]), tmp_path / "none", "train")
    with pytest.raises(SightlineError, match="none has no label that coco can hold"):
        sightline.convert(tmp_path / "none", tmp_path / "out", "coco")


def test_ignore_regions_alone_leave_nothing_in_yolo(tmp_path: Path) -> None:
    scene = boxes_scene(SIZE, [1, 2, 3, 4], ignore=torch.tensor([True]))
    write_coco(InMemory([scene]), tmp_path / "given")
    with pytest.raises(SightlineError, match="given has no label that yolo can hold"):
        sightline.convert(tmp_path / "given", tmp_path / "out", "yolo")


def test_numbers_that_count_from_0_in_each_file(tmp_path: Path) -> None:
    """As Detectron2's image ids do."""
    for split in ("train", "val"):
        records = [record(BOX, name=f"{name}.jpg", image_id=i) for i, name in enumerate("ab")]
        write_lines(tmp_path / "given", *records, name=f"{split}.jsonl")
    assert sightline.convert(tmp_path / "given", tmp_path / "out", "coco") == {"train": 2, "val": 2}


def test_a_place_inside_the_data_is_refused(tmp_path: Path) -> None:
    given = coco_folder(tmp_path / "given", "train")
    file = given / "annotations" / "instances_train.json"
    for source, out in ((given, given / "out"), (file, file.with_name("out"))):
        with pytest.raises(SightlineError, match="out lies in the data set, which is not touched"):
            sightline.convert(source, out, "yolo")
        assert not out.exists()


@pytest.mark.parametrize("to", ["coco", *KINDS])
def test_a_broken_picture_of_the_data_leaves_nothing(to: str, tmp_path: Path) -> None:
    document = coco_document(3)
    document["annotations"][2]["bbox"] = [1, 2, "wide", 4]
    given = write_coco_folder(tmp_path / "given", document)
    with pytest.raises(SightlineError, match="annotation 2 has a"):
        sightline.convert(given, tmp_path / "out", to)
    assert [path.name for path in tmp_path.iterdir()] == ["given"]


@pytest.mark.filterwarnings("ignore::sightline.data.packed.DataWarning")
def test_a_flaw_found_while_writing_leaves_nothing(tmp_path: Path) -> None:
    """The last picture is not of the size it was annotated in."""
    document = coco_document(3)
    document["images"][2]["height"] = 30
    given = write_coco_folder(tmp_path / "given", document)
    with pytest.raises(SightlineError, match="its annotation says 60x30"):
        sightline.convert(given, tmp_path / "out", "yolo")
    with pytest.raises(SightlineError, match="ply is no format to write: coco, yolo, voc"):
        sightline.convert(given, tmp_path / "out", "ply")
    assert [path.name for path in tmp_path.iterdir()] == ["given"]


@pytest.mark.filterwarnings("ignore::sightline.data.packed.DataWarning")
def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """Half of a pair of code units, which JSON and YAML can say, but no XML."""
    document = coco_document(3)
    document["categories"][1]["name"] = "c\ud800t"
    given = write_coco_folder(tmp_path / "given", document)
    assert sightline.convert(given, tmp_path / "out", "yolo") == {"train": 3}
    assert open_splits(tmp_path / "out")["train"].classes.names == ("c\ud800t", "cat")
    with pytest.raises(SightlineError, match=r"cannot hold a class called 'c.*t'"):
        sightline.convert(given, tmp_path / "voc", "voc")
    assert not (tmp_path / "voc").exists()


@pytest.mark.filterwarnings("always::sightline.data.packed.DataWarning")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, out = coco_folder(tmp_path / "given", "train", "val"), str(tmp_path / "out")
    assert cli.main(["convert", str(given), out, "--to", "yolo"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out}: 3 pictures in train, 3 pictures in val\n"
    assert "warning: yolo cannot hold ignore regions: 4 left out\n" in printed.err
    assert cli.main(["convert", str(given), out, "--to", "yolo"]) == 2
    assert capsys.readouterr().err == f"error: {out} is there already: name a new folder\n"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sightline.data.packed.DataWarning")
@pytest.mark.parametrize("middle", KINDS)
@pytest.mark.parametrize("name", ["inst_nuts", "kpt_openfield"])
def test_real_photos_there_and_back(
    name: str, middle: str, real_data: Path, tmp_path: Path
) -> None:
    sightline.convert(real_data / name, tmp_path / middle, middle)
    sightline.convert(tmp_path / middle, tmp_path / "back", "coco")
    (first,), (last,) = (open_splits(p).values() for p in (real_data / name, tmp_path / "back"))
    assert by_name(first).keys() == by_name(last).keys()
    for path, boxes in by_name(first).items():
        assert (boxes - by_name(last)[path]).abs().max() < 0.501


def by_name(data: Packed) -> dict[str, Tensor]:
    return {Path(scene.path).name: scene.things.boxes for scene in scenes(data)}
