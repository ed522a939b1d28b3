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
from tests.data.test_cvat import box, document, image, write_cvat
from tests.data.test_cvat import shape as cvat_shape
from tests.data.test_jsonlines import BOX, record, write_lines
from tests.data.test_labelme import shape, write_labelme
from tests.data.test_labelstudio import rectangle, region, task, write_export


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


def cvat(folder: Path) -> Dataset:
    mask = cvat_shape("mask", rle="0, 4, 1, 4", left=57, top=37, width=3, height=3)
    pictures = image(box(), mask), image(name="b.jpg", number=1)
    return open_split(write_cvat(folder, document(*pictures), "a.jpg", "b.jpg"), "all")


def labelstudio(folder: Path) -> Dataset:
    outline = region("polygonlabels", "dog", points=[[10, 25], [60, 25], [10, 75]])
    return open_split(write_export(folder, task(rectangle(), outline), task(id=8)), "all")


def jsonlines(folder: Path) -> Dataset:
    points = {"keypoints": [5, 7, 2], "segmentation": [[4, 6, 14, 6, 14, 26]]}
    return open_split(write_lines(folder, record(BOX | points), record(name="b.jpg")), "all")


KINDS = [toybox, coco, voc, index_png, labelme, yolo, cvat, labelstudio, jsonlines]


@pytest.mark.filterwarnings("ignore::sightline.data.packed.DataWarning")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_contract(kind, tmp_path: Path) -> None:
    assert_dataset(kind(tmp_path))


@pytest.mark.filterwarnings("ignore::sightline.data.packed.DataWarning")
def test_contract_of_real_photos(real_data: Path) -> None:
    photos = open_dataset(real_data / "det_cards").val
    assert_dataset(photos.take(range(8)))
