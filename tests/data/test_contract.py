"""Every kind of data set against what loaders and evaluations rely on."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.data.coco import write_coco
from sightline.data.folder import open_dataset, open_split
from sightline.data.packed import Dataset
from sightline.data.toybox import toybox_splits
from sightline.data.yolo_write import write_yolo
from tests.contracts import assert_dataset
from tests.data.samples import voc_xml, write_picture, write_voc_folder
from tests.data.test_labelme import shape, write_labelme


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


def index_png(folder: Path) -> Dataset:
    for name, numbers in {"a": np.eye(40, 60), "b": np.zeros((40, 60))}.items():
        write_picture(folder / "images" / f"{name}.jpg")
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(numbers.astype(np.uint16)).save(folder / "masks" / f"{name}.png")
    return open_split(folder, "all")


def labelme(folder: Path) -> Dataset:
    outline = [[5, 5], [70, 5], [30, 50]]  # reaches outside
    write_labelme(
        folder, shape("cat", "polygon", *outline), shape("dog", "circle", [9, 9], [9, 12])
    )
    write_labelme(folder, name="b")
    return open_split(folder, "all")


def yolo(folder: Path) -> Dataset:
    write_yolo(toybox(folder), folder, split="val")
    return open_split(folder, "val")


@pytest.mark.filterwarnings("ignore::sightline.data.packed.DataWarning")
@pytest.mark.parametrize(
    "kind", [toybox, coco, voc, index_png, labelme, yolo], ids=lambda kind: kind.__name__
)
def test_contract(kind, tmp_path: Path) -> None:
    assert_dataset(kind(tmp_path))


@pytest.mark.filterwarnings("ignore::sightline.data.packed.DataWarning")
def test_contract_of_real_photos(real_data: Path) -> None:
    photos = open_dataset(real_data / "det_cards").val
    assert_dataset(photos.take(range(8)))
