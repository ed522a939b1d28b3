"""Every format that is read into every one that is written, and back: what is read there is what
was read here, as far as the format can hold it."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

import sightline
from sightline.data.coco import write_coco
from sightline.data.doctor import doctor
from sightline.data.folder import open_splits
from sightline.data.packed import Packed
from sightline.data.pictures import own_name
from sightline.data.yolo_write import write_yolo
from sightline.errors import SightlineError
from sightline.ops.masks import rasterise
from sightline.types import Classes, Instances, Panoptic, Scene, Segment
from tests.data.samples import InMemory, boxes_scene, voc_xml, write_picture, write_voc_folder
from tests.data.test_contract import cvat, jsonlines, labelme
from tests.data.test_convert import CLASSES, SIZE, coco_folder, keypoints_folder, lists, masked
from tests.data.test_index_png import write_map
from tests.data.test_labelstudio import rectangle, region, task, write_export

pytestmark = pytest.mark.filterwarnings("ignore::sightline.data.packed.DataWarning")


def coco(folder: Path) -> None:
    coco_folder(folder, "train", "val")


def voc(folder: Path) -> None:
    tags = "<truncated>1</truncated><difficult>1</difficult>"
    things = [("cat", (1, 1, 60, 40)), ("dog", (5.5, 7, 20, 30.25))]
    xmls = {"a": voc_xml(things), "b": voc_xml(things[:1], tags=tags), "c": voc_xml([])}
    lists(write_voc_folder(folder, xmls), train="ac", val="b")


def yolo(folder: Path) -> None:
    for split, seed in (("train", 0), ("val", 1)):
        write_yolo(InMemory([masked(seed), boxes_scene(SIZE)], CLASSES), folder, split)


def labelstudio(folder: Path) -> None:
    outline = region("polygonlabels", "dog", points=[[10, 25], [60, 25], [10, 75]])
    write_export(folder, task(rectangle(), outline))


def things_of_16_bits(folder: Path) -> None:
    numbers = np.zeros((40, 60), np.uint16)
    numbers[5:20, 5:30], numbers[8:12, 10:20], numbers[25:, 40:], numbers[0, :3] = 300, 0, 2, 300
    write_map(folder / "masks" / "a.png", numbers, np.uint16)
    write_picture(folder / "images" / "a.jpg")


def whole_pictures(folder: Path) -> None:
    """A split with things, maps and captions, and one without a thing."""
    classes = replace(CLASSES, stuff=("sky", "sea"))
    map_ = torch.zeros(SIZE, dtype=torch.long)
    map_[:20], map_[30:] = 300, 70000
    segments = [Segment(300, 1, True, ignore=True), Segment(70000, 4, False)]
    about = {"panoptic": Panoptic(map_, segments), "captions": ["A cat.", "Sea."]}
    one, two = (replace(boxes_scene(SIZE, *b), **about) for b in ([[0, 0, 60, 20]], []))
    write_coco(InMemory([replace(one, image_id=3)], classes), folder, "train")
    write_coco(InMemory([replace(two, image_id=4)], classes), folder, "val")


Make = Callable[[Path], object]
MAKERS: dict[str, Make] = {
    "coco": coco,
    "keypoints": keypoints_folder,
    "whole pictures": whole_pictures,
    "voc": voc,
    "yolo": yolo,
    "labelme": labelme,
    "cvat": cvat,
    "labelstudio": labelstudio,
    "jsonlines": jsonlines,
    "index png": things_of_16_bits,
}
WRITTEN = ["coco", "yolo", "voc"]


class Difference(NamedTuple):
    box: float = 0.0  # pixels, the largest
    iou: float = 1.0  # of masks, the least


def compare(first: Path, last: Path, *ways: str) -> Difference:
    """Of two folders, of which the last came from the first by these formats."""
    before, after = open_splits(first), open_splits(last)
    if before.keys() != after.keys():  # YOLO has no data set without a train
        (before,), (after,) = ([{"train": data} for data in s.values()] for s in (before, after))
    found = []
    for split, data in before.items():
        one, other = scenes(data), scenes(after[split])
        assert one.keys() == other.keys()
        classes = data.classes, after[split].classes
        found += [compare_scenes(one[name], other[name], *classes, set(ways)) for name in one]
    return Difference(max(d.box for d in found), min(d.iou for d in found))


def scenes(data: Packed) -> dict[str, Scene]:
    """By the name of the picture, without what a writer set before it."""
    found = map(data.scene, range(len(data)))
    return {re.sub(r"^(train|val|test)_\d{6}_(?=.)", "", own_name(s.path)): s for s in found}


def compare_scenes(
    before: Scene, after: Scene, classes: Classes, others: Classes, ways: set[str]
) -> Difference:
    assert Path(before.path).read_bytes() == Path(after.path).read_bytes()
    kept, found = before.things, after.things
    if "yolo" in ways:
        kept = kept[~kept.ignore]
    assert [classes.names[n] for n in kept.labels] == [others.names[n] for n in found.labels]
    assert kept.ignore.equal(found.ignore)
    assert "voc" not in ways or found.difficult.equal(found.ignore)
    if ways == {"coco"}:
        assert kept.difficult.equal(found.difficult)
        assert kept.area.allclose(found.area)
        assert after.captions == before.captions
        if before.panoptic is not None:
            assert before.panoptic.map.equal(after.panoptic.map)
            assert named(before.panoptic, classes) == named(after.panoptic, others)
    if "voc" not in ways and kept.keypoints is not None:
        assert kept.keypoints.allclose(found.keypoints, atol=0.01)
    if not len(kept):
        return Difference()
    iou = 1.0 if "voc" in ways or classes.keypoints else least_iou(kept, found, before.size)
    return Difference(box_difference(kept, found, before.size, "yolo" in ways), iou)


def named(panoptic: Panoptic, classes: Classes) -> list[tuple[int, str, bool, bool]]:
    names = [*classes.names, *classes.stuff]
    return [(s.id, names[s.label], s.thing, s.ignore) for s in panoptic.segments]


def least_iou(kept: Instances, found: Instances, size: tuple[int, int]) -> float:
    least = 1.0
    for one, other in zip(kept.masks or [], found.masks or [], strict=True):
        if one:
            maps = rasterise([one, other], size)
            least = min(least, float(maps.all(0).sum() / maps.any(0).sum().clamp(min=1)))
    return least


def box_difference(
    kept: Instances, found: Instances, size: tuple[int, int], polygons: bool
) -> float:
    """A polygon is also the box of its thing: it may lie anywhere between the box and what the mask
    reaches beyond it."""
    inner, outer = kept.boxes.clone(), kept.boxes.clone()
    for row, mask in enumerate(kept.masks or [] if polygons else []):
        place = rasterise([mask], size)[0].nonzero() if mask else torch.zeros(0, 2)
        if len(place):
            outer[row] = grown(outer[row], place)
    beyond = torch.cat(
        [
            (found.boxes - inner)[:, :2],
            (inner - found.boxes)[:, 2:],
            (outer - found.boxes)[:, :2],
            (found.boxes - outer)[:, 2:],
        ]
    )
    return float(beyond.max().clamp(min=0))


def grown(box: Tensor, place: Tensor) -> Tensor:
    (top, left), (bottom, right) = place.amin(0), place.amax(0) + 1
    around = torch.stack([left, top, right, bottom]).to(box)
    return torch.cat([box[:2].minimum(around[:2]), box[2:].maximum(around[2:])])


@pytest.mark.parametrize("to", WRITTEN)
@pytest.mark.parametrize("kind", MAKERS)
def test_into_every_format(kind: str, to: str, tmp_path: Path) -> None:
    MAKERS[kind](tmp_path / "given")
    sightline.convert(tmp_path / "given", tmp_path / "out", to)
    difference = compare(tmp_path / "given", tmp_path / "out", to)
    assert difference.box <= (0.001 if to == "coco" else 0.501)
    assert difference.iou == 1 if to == "coco" else difference.iou > 0.98


@pytest.mark.parametrize(
    ("kind", "middle"),
    [(kind, middle) for kind in WRITTEN for middle in WRITTEN if kind != middle],
)
def test_there_and_back(kind: str, middle: str, tmp_path: Path) -> None:
    MAKERS[kind](tmp_path / "given")
    sightline.convert(tmp_path / "given", tmp_path / middle, middle)
    sightline.convert(tmp_path / middle, tmp_path / "back", kind)
    difference = compare(tmp_path / "given", tmp_path / "back", middle, kind)
    assert difference.box <= 0.501
    assert difference.iou > 0.98
    assert open_splits(tmp_path / "given").keys() == open_splits(tmp_path / "back").keys()


def test_yolos_labels_come_back_from_coco_to_the_letter(tmp_path: Path) -> None:
    yolo(tmp_path / "given")
    sightline.convert(tmp_path / "given", tmp_path / "coco", "coco")
    sightline.convert(tmp_path / "coco", tmp_path / "back", "yolo")
    for file in (tmp_path / "given" / "labels").rglob("*.txt"):
        again = tmp_path / "back" / file.relative_to(tmp_path / "given")
        numbers = [[float(word) for word in f.read_text().split()] for f in (file, again)]
        assert np.abs(np.subtract(*numbers)).max(initial=0) * 60 < 1e-3


@pytest.mark.parametrize("to", WRITTEN)
def test_label_maps_alone_leave_nothing(to: str, tmp_path: Path) -> None:
    write_map(tmp_path / "given" / "masks" / "a.png", np.eye(40, 60))
    write_picture(tmp_path / "given" / "images" / "a.jpg")
    with pytest.raises(SightlineError, match=f"given has no label that {to} can hold"):
        sightline.convert(tmp_path / "given", tmp_path / "out", to)
    assert [path.name for path in tmp_path.iterdir()] == ["given"]


REAL = ["coco", "det_bccd", "det_cards", "inst_balloon", "inst_dsb2018", "inst_nuts"]
REAL += ["kpt_openfield", "sem_camvid", "sem_isbi_em"]


def real_difference(folder: Path, to: str, out: Path) -> Difference | None:
    """None of a data set that holds nothing for this format."""
    if folder.name.startswith("sem"):
        with pytest.raises(SightlineError, match=f"has no label that {to} can hold"):
            sightline.convert(folder, out, to)
        return None
    sightline.convert(folder, out, to)
    return compare(folder, out, to)


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_data_into_every_format(name: str, real_data: Path, tmp_path: Path) -> None:
    found = doctor(real_data / name)
    assert found.worst() != "unusable"
    assert sum(split.pictures for split in found.splits.values()) > 0
    for to in WRITTEN:
        difference = real_difference(real_data / name, to, tmp_path / to)
        if difference is not None:
            assert difference.box <= (0.001 if to == "coco" else 0.501)
            assert difference.iou > 0.98
