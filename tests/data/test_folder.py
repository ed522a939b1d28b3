import os
from pathlib import Path

import pytest

from sightline.data.find import split_of
from sightline.data.folder import open_dataset, open_split
from sightline.data.packed import Dataset
from sightline.errors import SightlineError
from tests.data.samples import (
    coco_document,
    voc_xml,
    write_coco_folder,
    write_json,
    write_picture,
    write_voc_folder,
)


def names(data: Dataset) -> list[str]:
    return [Path(data.scene(i).path).name for i in range(len(data))]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_train2017", "train"),
        ("val", "val"),
        ("Valid", "val"),
        ("validation_set", "val"),
        ("trainval", "trainval"),
        ("test-dev", "test"),
        ("training", None),
        ("_annotations.coco", None),
        ("interval", None),
    ],
)
def test_the_split_a_name_speaks_of(name: str, split: str | None) -> None:
    assert split_of(name) == split


# Where annotation files and pictures lie in data sets that people have: for two splits.
LAYOUTS = {
    "coco": [
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_val2017.json", "val2017"),
    ],
    "coco, pictures under images": [
        ("annotations/instances_train.json", "images/train"),
        ("annotations/instances_val.json", "images/val"),
    ],
    "one picture folder": [("train.json", "images"), ("val.json", "images")],
    "pictures at the top": [("annotations/train.json", "."), ("annotations/val.json", ".")],
    "roboflow": [
        ("train/_annotations.coco.json", "train"),
        ("valid/_annotations.coco.json", "valid"),
    ],
    "splits with pictures inside": [
        ("train/labels.json", "train/images"),
        ("val/labels.json", "val/images"),
    ],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_with_splits(layout: str, tmp_path: Path) -> None:
    shared = len({folder for _, folder in LAYOUTS[layout]}) == 1
    for number, (file, folder) in enumerate(LAYOUTS[layout]):
        document = coco_document(number + 1)
        for image in document["images"]:
            image["file_name"] = f"{number}{image['file_name']}" if shared else image["file_name"]
            write_picture(tmp_path / folder / image["file_name"])
        write_json(tmp_path / file, document)
    train, val = open_dataset(tmp_path)
    assert (len(train), len(val)) == (1, 2)
    for data, (_, folder) in zip((train, val), LAYOUTS[layout], strict=True):
        assert Path(data.scene(0).path).parent == tmp_path / folder


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("annotations/trainval.json", "images"),
        ("result.json", "images"),
        ("labels/all.json", "photos"),
        ("train.json", "."),
    ],
)
def test_layouts_without_splits_are_divided(file: str, folder: str, tmp_path: Path) -> None:
    document = coco_document(10)
    write_json(tmp_path / file, document)
    for image in document["images"]:
        write_picture(tmp_path / folder / image["file_name"])
    train, val = open_dataset(tmp_path)
    assert (len(train), len(val)) == (8, 2)
    assert sorted(names(train) + names(val)) == [f"{i}.png" for i in range(10)]


def test_instances_before_keypoints_and_other_tasks_never(tmp_path: Path) -> None:
    write_coco_folder(tmp_path, coco_document(3), "instances_val")
    write_coco_folder(tmp_path, coco_document(2), "person_keypoints_val")
    write_json(tmp_path / "annotations" / "stuff_val.json", {"annotations": []})
    write_json(tmp_path / "annotations" / "image_info_val.json", {"annotations": []})
    assert len(open_split(tmp_path, "val")) == 3
    assert len(open_split(tmp_path / "annotations" / "person_keypoints_val.json", "val")) == 2


def test_one_file_brings_its_siblings(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 2)):
        write_coco_folder(tmp_path, coco_document(count), f"person_keypoints_{split}")
        write_coco_folder(tmp_path, coco_document(5), f"instances_{split}")
    train, val = open_dataset(tmp_path / "annotations" / "person_keypoints_train.json")
    assert (len(train), len(val)) == (3, 2)


def test_all_of_a_file_is_what_it_lists(tmp_path: Path) -> None:
    """Whatever siblings it has, and though training would set a part of it aside."""
    for split, count in (("train", 5), ("test", 2)):
        write_coco_folder(tmp_path, coco_document(count), f"instances_{split}")
    file = tmp_path / "annotations" / "instances_train.json"
    assert len(open_split(file, "all")) == 5
    assert len(open_split(file, "train")) == 4
    assert len(open_split(file, "test")) == 2
    with pytest.raises(SightlineError, match="has no split all: it has test, train"):
        open_split(tmp_path, "all")


def test_two_files_for_one_split_are_refused(tmp_path: Path) -> None:
    for year in ("2014", "2017"):
        write_coco_folder(tmp_path, coco_document(2), f"instances_train{year}")
    with pytest.raises(SightlineError, match=r"several annotation files for train: .*2014.*2017"):
        open_dataset(tmp_path)
    assert len(open_split(tmp_path / "annotations" / "instances_train2017.json", "all")) == 2


def test_the_division_depends_on_seed_and_names_alone(tmp_path: Path) -> None:
    xmls = {f"picture{i}": voc_xml([("cat", (1, 1, 9, 9))]) for i in range(40)}
    here = open_dataset(write_voc_folder(tmp_path / "here", xmls), val=0.25, seed=3)
    there = open_dataset(write_voc_folder(tmp_path / "there", xmls), val=0.25, seed=3)
    other = open_dataset(tmp_path / "here", val=0.25, seed=4)
    assert names(here.val) == names(there.val)
    assert names(here.train) == names(there.train)
    assert (len(here.train), len(here.val)) == (30, 10)
    assert names(here.val) != names(other.val)
    assert not set(names(here.train)) & set(names(here.val))


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_neither_side_is_ever_empty(tmp_path: Path, share: float) -> None:
    folder = write_coco_folder(tmp_path, coco_document(2))
    assert [len(data) for data in open_dataset(folder, val=share)] == [1, 1]


@pytest.mark.skipif(os.name != "posix", reason="elsewhere names of files are text")
def test_names_of_files_that_are_no_text_are_divided_too(tmp_path: Path) -> None:
    for number in range(3):
        write_picture(tmp_path / "images" / f"{number}.png")
        (tmp_path / "images" / f"{number}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
        for suffix in (".png", ".txt"):
            name = tmp_path / "images" / f"{number}{suffix}"
            name.rename(os.fsdecode(os.fsencode(name.with_suffix("")) + b"\xe9" + suffix.encode()))
    (tmp_path / "classes.txt").write_text("cat\n")
    assert list(map(len, open_dataset(tmp_path))) == [2, 1]


def test_what_cannot_be_divided(tmp_path: Path) -> None:
    folder = write_coco_folder(tmp_path, coco_document(1))
    with pytest.raises(SightlineError, match="add another"):
        open_dataset(folder)
    for share in (0, 1, -0.2):
        with pytest.raises(SightlineError, match="between 0 and 1"):
            open_dataset(folder, val=share)


def test_a_test_split_is_not_trained_on(tmp_path: Path) -> None:
    write_coco_folder(tmp_path, coco_document(10), "train")
    write_coco_folder(tmp_path, coco_document(4), "test")
    assert [len(data) for data in open_dataset(tmp_path)] == [8, 2]
    assert len(open_split(tmp_path, "test")) == 4
    assert len(open_split(tmp_path, "train")) == 8  # what open_dataset trains on
    assert len(open_split(tmp_path, "val")) == 2


def test_all_that_is_listed_as_test_or_val_is_not_trained_on(tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path, {stem: voc_xml([("a", (1, 1, 9, 9))]) for stem in "ab"})
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "val.txt").write_text("a\n")
    with pytest.raises(SightlineError, match="nothing to train on: only all, val"):
        open_dataset(folder)
    assert names(open_split(folder, "val")) == ["a.jpg"]


def test_train_is_trainval_without_val(tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path, {stem: voc_xml([("a", (1, 1, 9, 9))]) for stem in "abc"})
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("c\na\nb\n")
    (lists / "val.txt").write_text("a\n")
    train, val = open_dataset(folder)
    assert (names(train), names(val)) == (["c.jpg", "b.jpg"], ["a.jpg"])
    assert names(open_split(folder, "train")) == ["c.jpg", "b.jpg"]


def test_a_folder_to_be_measured_alone_needs_no_train(tmp_path: Path) -> None:
    write_coco_folder(tmp_path, coco_document(3), "val")
    assert len(open_split(tmp_path, "val")) == 3
    with pytest.raises(SightlineError, match="nothing to train on: only val"):
        open_dataset(tmp_path)
    with pytest.raises(SightlineError, match="has no split test: it has val"):
        open_split(tmp_path, "test")


def test_other_json_files_are_passed_over(tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path, {"a": voc_xml([("cat", (1, 1, 9, 9))])})
    write_json(folder / "label_map.json", {"cat": 1})
    write_json(folder / "results" / "predictions.json", [{"image_id": 1}])
    assert open_split(folder, "all").classes.names == ("cat",)


def test_no_folder_and_no_known_layout(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=r"no such folder: .*nowhere"):
        open_dataset(tmp_path / "nowhere")
    write_picture(tmp_path / "a.jpg")
    for path in (tmp_path, tmp_path / "a.jpg"):
        with pytest.raises(
            SightlineError, match=r"no known layout; looked for .*COCO JSON .*VOC XML"
        ):
            open_dataset(path)


def test_all_real_folders_open(real_data: Path) -> None:
    counts = {"coco": (294, 111), "inst_balloon": (61, 13), "inst_nuts": (14, 4)}
    counts |= {"kpt_openfield": (69, 17)}
    for name, count in counts.items():
        splits = open_dataset(real_data / name)
        assert (len(splits.train), len(splits.val)) == count
        for data in splits:
            assert data.picture(0).shape[1:] == data.size(0)
    people = open_dataset(real_data / "coco" / "annotations" / "person_keypoints_train.json")
    assert (len(people.train), len(people.val)) == (110, 30)
    assert people.train.classes.mirrored[:5] == (0, 2, 1, 4, 3)


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=r"cannot read .*: File name too long"):
        open_dataset(tmp_path / ("x" * 300))


def test_a_device_is_no_folder() -> None:
    with pytest.raises(SightlineError, match="/dev/full is neither a folder nor a file"):
        open_dataset("/dev/full")
