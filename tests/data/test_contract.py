"""Every kind of data set against what loaders and evaluations rely on."""

from pathlib import Path

import pytest

from sightline.data.coco import write_coco
from sightline.data.folder import open_dataset, open_split
from sightline.data.packed import Dataset
from sightline.data.toybox import toybox_splits
from sightline.data.yolo_write import write_yolo
from tests.contracts import assert_dataset
from tests.data.samples import voc_xml, write_voc_folder


def toybox(folder: Path) -> Dataset:
    return toybox_splits(4, 2, size=(48, 64)).train


def coco(folder: Path) -> Dataset:
    write_coco(toybox(folder), folder, split="val")
    return open_split(folder, "val")


def voc(folder: Path) -> Dataset:
    xmls = {
        "a": voc_xml([("cat", (1, 1, 60, 40)), ("dog", (5, 5, 90, 30))]),  # reaches outside
        "b": voc_xml([("dog", (3, 4, 3.5, 9)), ("dog", (7, 7, 7, 9))]),  # the second has no area
        "c": voc_xml([]),
    }
    return open_split(write_voc_folder(folder, xmls), "all")


def yolo(folder: Path) -> Dataset:
    write_yolo(toybox(folder), folder, split="val")
    return open_split(folder, "val")


@pytest.mark.filterwarnings("ignore::sightline.data.packed.DataWarning")
@pytest.mark.parametrize("kind", [toybox, coco, voc, yolo], ids=lambda kind: kind.__name__)
def test_contract(kind, tmp_path: Path) -> None:
    assert_dataset(kind(tmp_path))


@pytest.mark.filterwarnings("ignore::sightline.data.packed.DataWarning")
def test_contract_of_real_photos(real_data: Path) -> None:
    photos = open_dataset(real_data / "det_cards").val
    assert_dataset(photos.take(range(8)))
