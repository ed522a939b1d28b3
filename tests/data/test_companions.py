"""COCO's panoptic maps and captions, alone and beside the instances."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data.coco import write_coco
from sightline.data.folder import open_dataset, open_split
from sightline.data.loader import train_loader
from sightline.data.packed import DataWarning
from sightline.errors import SightlineError
from sightline.preprocess import Preprocess
from sightline.types import Classes, Panoptic, Segment
from tests.data.samples import InMemory, boxes_scene, coco_document, write_coco_folder, write_json

CATEGORIES = [
    {"id": 7, "name": "cat", "isthing": 1},
    {"id": 3, "name": "dog", "isthing": 1},
    {"id": 5, "name": "sky", "isthing": 0},
]
SEGMENTS = [
    {"id": 300, "category_id": 7, "iscrowd": 0, "bbox": [0, 0, 60, 20], "area": 1200},
    {"id": 70000, "category_id": 5, "iscrowd": 0},
    {"id": 9, "category_id": 3, "iscrowd": 1},
]


def write_map(path: Path, size: tuple[int, int] = (40, 60)) -> None:
    """Above cat 300 (44, 1, 0), below sky 70000 (112, 17, 1), a row of void, a row of dogs 9."""
    colours = np.zeros((*size, 3), np.uint8)
    colours[:20], colours[20:38], colours[39:] = (44, 1, 0), (112, 17, 1), (9, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours).save(path)


def panoptic_document(*image_ids: int, **changes: Any) -> dict[str, Any]:
    annotations = [
        {"image_id": number, "file_name": f"{number}.png", "segments_info": SEGMENTS}
        for number in image_ids
    ]
    images = coco_document(3)["images"]
    return {"images": images, "annotations": annotations, "categories": CATEGORIES} | changes


def captions_document(*said: tuple[int, str]) -> dict[str, Any]:
    annotations = [{"id": i, "image_id": n, "caption": text} for i, (n, text) in enumerate(said)]
    return {"images": coco_document(3)["images"], "annotations": annotations}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures with a cat each; the first and the last have a map, the first has captions."""
    write_coco_folder(tmp_path, coco_document(3), "instances_val")
    write_json(tmp_path / "annotations" / "panoptic_val.json", panoptic_document(0, 20))
    for number in (0, 20):
        write_map(tmp_path / "annotations" / "panoptic_val" / f"{number}.png")
    said = captions_document((0, "A cat. "), (0, "Under the sky."))
    write_json(tmp_path / "annotations" / "captions_val.json", said)
    return tmp_path


def test_all_three_together(folder: Path) -> None:
    data = open_split(folder, "val")
    assert data.classes == Classes(("dog", "cat"), (3, 7), stuff=("sky",), stuff_ids=(5,))
    scenes = [data.scene(i) for i in range(3)]
    assert [scene.things.labels.tolist() for scene in scenes] == [[1]] * 3
    assert [scene.captions for scene in scenes] == [["A cat.", "Under the sky."], [], []]
    ids, segments = scenes[0].panoptic
    assert segments == [
        Segment(300, 1, True),
        Segment(70000, 2, False),
        Segment(9, 0, True, ignore=True),
    ]
    assert ids[[0, 19, 20, 37, 38, 39], 0].tolist() == [300, 300, 70000, 70000, 0, 9]
    assert scenes[2].panoptic.map.equal(ids)
    assert scenes[1].panoptic.segments == []  # without a map: void
    assert scenes[1].panoptic.map.unique().tolist() == [0]
    one = data.take([2]).scene(0)
    assert (one.panoptic.segments, one.captions) == (segments, [])


@pytest.mark.parametrize("role", ["panoptic", "captions"])
def test_each_alone(folder: Path, role: str) -> None:
    together = open_split(folder, "val").scene(0)
    (folder / "annotations" / "instances_val.json").unlink()
    (
        folder / "annotations" / f"{'captions' if role == 'panoptic' else 'panoptic'}_val.json"
    ).unlink()
    data = open_split(folder, "val")
    assert len(data) == 3
    scene = data.scene(0)
    assert len(scene.things) == 0
    if role == "captions":
        assert scene.captions == together.captions
        assert scene.panoptic is None
    else:
        assert scene.panoptic.map.equal(together.panoptic.map)
        assert scene.panoptic.segments == together.panoptic.segments
        assert data.classes.names == ("dog", "cat")
        assert scene.captions is None


def test_a_file_by_its_name(folder: Path) -> None:
    data = open_split(folder / "annotations" / "captions_val.json", "all")
    assert data.scene(0).captions == ["A cat.", "Under the sky."]
    data = open_split(folder / "annotations" / "instances_val.json", "all")
    assert data.scene(0).panoptic is not None


def test_what_the_model_does_not_need_is_not_read(folder: Path) -> None:
    for file in (folder / "annotations" / "panoptic_val").iterdir():
        file.write_bytes(b"no picture")
    data = open_split(folder, "val")
    preprocess = Preprocess(short=40)
    [batch] = train_loader(data, preprocess, batch=3, seed=0, epoch=0)
    assert all(t.panoptic is None and t.captions is None for t in batch.targets)
    with pytest.raises(SightlineError, match=r"cannot read .*\.png as a picture"):
        next(iter(train_loader(data, preprocess, batch=3, seed=0, epoch=0, needs=NEEDS)))


NEEDS = frozenset({"panoptic", "captions"})


def test_what_the_model_needs_is_placed(folder: Path) -> None:
    data = open_split(folder, "val")
    loader = train_loader(data, Preprocess(short=20), batch=3, seed=0, epoch=0, needs=NEEDS)
    [batch] = loader
    first = batch.targets[batch.indices.index(0)]
    # half the size: row 19 shows row 39, the dogs; the row of void, 38, is not shown
    assert first.panoptic.map[[9, 10, 18, 19], 29].tolist() == [300, 70000, 70000, 9]
    assert first.captions == ["A cat.", "Under the sky."]


def test_round_trip(tmp_path: Path) -> None:
    ids = torch.tensor([[0, 300, 300], [70000, 70000, 300]])
    scene = boxes_scene((2, 3), [1, 0, 3, 2])
    scene.panoptic = Panoptic(ids, [Segment(300, 0, True), Segment(70000, 2, False, ignore=True)])
    scene.captions = ["Ein Bär.", "A bear."]
    classes = Classes(("a", "b"), (4, 9), stuff=("sky",), stuff_ids=(2,))
    write_coco(InMemory([scene], classes), tmp_path, "val")
    data = open_split(tmp_path, "val")
    again = data.scene(0)
    assert again.panoptic.map.equal(ids)
    assert again.panoptic.segments == scene.panoptic.segments
    assert again.captions == scene.captions
    assert data.classes == classes


def test_maps_that_were_not_unpacked(folder: Path) -> None:
    """As COCO's own archive leaves them: the PNGs in an archive of their own."""
    for file in (folder / "annotations" / "panoptic_val").iterdir():
        file.unlink()
    (folder / "annotations" / "panoptic_val").rmdir()
    with pytest.warns(DataWarning, match=r"panoptic_val\.json is left out: the folder of its PNGs"):
        assert open_split(folder, "val").scene(0).panoptic is None
    with pytest.raises(SightlineError, match=r"panoptic_val\.json has no folder panoptic_val of"):
        open_split(folder / "annotations" / "panoptic_val.json", "all")


def test_pictures_that_the_instances_lack(folder: Path) -> None:
    write_json(folder / "annotations" / "instances_val.json", coco_document(2))
    with pytest.warns(DataWarning, match=r"panoptic_val\.json speaks of 1 pictures that"):
        assert len(open_split(folder, "val")) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            [{"id": 1, "category_id": 4}],
            "map of image 0, segment 1, is of category 4, which is not",
        ),
        ([{"id": 0, "category_id": 3}], "segment 0, has an id that no PNG can hold"),
        ([{"id": 1, "category_id": 3}] * 2, "map of image 0 has two segments of one id"),
        ([{"category_id": 3}], 'map of image 0 has no proper "id"'),
        ([3], "map of image 0 has a segment that is no record: 3"),
        (None, 'map of image 0 has no proper "segments_info"'),
        ([], r"0\.png holds segments that are not listed: 9, 300, 70000"),
    ],
)
def test_flaws_of_maps_are_named(folder: Path, wrong: Any, message: str) -> None:
    document = panoptic_document(0)
    document["annotations"][0]["segments_info"] = wrong
    write_json(folder / "annotations" / "panoptic_val.json", document)
    with pytest.raises(SightlineError, match=message) as error:
        open_split(folder, "val").scene(0)
    assert "\n" not in str(error.value)


def test_flaws_of_files_are_named(folder: Path) -> None:
    write_map(folder / "annotations" / "panoptic_val" / "0.png", (40, 61))
    with pytest.raises(SightlineError, match=r"0\.png is 61x40, its picture 60x40"):
        open_split(folder, "val").scene(0)
    write_json(folder / "annotations" / "panoptic_val.json", panoptic_document(10))
    with pytest.raises(
        SightlineError, match=r"the map of image 10, 10\.png, is not there \(looked"
    ):
        open_split(folder, "val")
    write_json(folder / "annotations" / "panoptic_val.json", panoptic_document(0, 0))
    with pytest.raises(SightlineError, match="the map of image 0 is one of 2: which one counts"):
        open_split(folder, "val")
    (folder / "annotations" / "panoptic_val.json").unlink()
    said = captions_document((0, "A cat."))
    said["annotations"] += [{"id": 8, "image_id": 10, "caption": 5}]
    write_json(folder / "annotations" / "captions_val.json", said)
    with pytest.raises(SightlineError, match=r'val\.json: annotation 8 has no proper "caption": 5'):
        open_split(folder, "val")


def test_real_maps_and_captions(real_data: Path) -> None:
    train = open_dataset(real_data / "coco").train
    assert len(train) == 294
    assert (len(train.classes.names), len(train.classes.stuff)) == (80, 53)
    scenes = [train.scene(i) for i in range(len(train))]
    assert sum(bool(scene.panoptic.segments) for scene in scenes) == 100
    assert sum(len(scene.captions) for scene in scenes) == 400
    alone = open_split(real_data / "coco" / "annotations" / "panoptic_train.json", "all")
    assert len(alone) == 100
