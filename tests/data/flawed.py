"""Data sets with one flaw each, made from a clean one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sightline.data.toybox import toybox_splits
from sightline.data.toybox.folder import write_toybox
from tests.data.samples import coco_document, write_json

Make = Callable[[Path], None]
# What makes the set, the kind of the one flaw found, its file and record, and its words.
Case = tuple[Make, str, str, str, str]
SQUARE = [4, 6, 14, 6, 14, 26, 4, 26]  # round the box of each cat
POINTS = [{"id": 7, "name": "cat", "keypoints": ["a", "b"]}]


def noise(path: Path, seed: int, height: int = 40, width: int = 60, **options: Any) -> Path:
    """A picture unlike all others: coarse random cells."""
    cells = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(cells).resize((width, height), Image.Resampling.NEAREST)
    image.save(path, **options)
    return path


def clean(root: Path) -> dict[str, Any]:
    """Three pictures to train on, each with a cat, and two to measure on."""
    for seed, (split, count) in enumerate({"train": 3, "val": 2}.items()):
        document = coco_document(count, categories=[{"id": 7, "name": "cat"}])
        write_json(root / "annotations" / f"{split}.json", document)
        for number in range(count):
            noise(root / split / f"{number}.png", 10 * seed + number)
    return coco_document(3, categories=[{"id": 7, "name": "cat"}])


def changed(change: Callable[[dict[str, Any]], Any]) -> Make:
    """The clean set with something else in its training file."""

    def make(root: Path) -> None:
        document = clean(root)
        change(document)
        write_json(root / "annotations" / "train.json", document)

    return make


def thing(**fields: Any) -> Make:
    """The clean set with other values in annotation 1, which is of picture 1.png."""
    return changed(lambda document: document["annotations"][1].update(fields))


def image(**fields: Any) -> Make:
    return changed(lambda document: document["images"][1].update(fields))


def added(**fields: Any) -> Make:
    """The clean set with an annotation 9 of picture 1.png."""
    record = {"id": 9, "image_id": 10, "category_id": 7, "bbox": [30, 10, 8, 8]} | fields
    return changed(lambda document: document["annotations"].append(record))


def points(*values: float) -> Make:
    def change(document: dict[str, Any]) -> None:
        document["categories"] = POINTS
        document["annotations"][1]["keypoints"] = list(values)

    def make(root: Path) -> None:
        changed(change)(root)
        write_json(root / "annotations" / "val.json", coco_document(2, categories=POINTS))

    return make


def files(change: Callable[[Path], Any]) -> Make:
    """The clean set with other files."""

    def make(root: Path) -> None:
        clean(root)
        change(root)

    return make


def cut(root: Path, tail: bytes) -> None:
    """Picture 1 as a JPEG whose second half is lost."""
    whole = noise(root / "1.jpg", 1, 160, 240).read_bytes()
    (root / "1.jpg").unlink()
    (root / "train" / "1.png").unlink()
    (root / "train" / "1.jpg").write_bytes(whole[: len(whole) // 2] + tail)
    document = coco_document(3, categories=[{"id": 7, "name": "cat"}])
    document["images"][1] |= {"height": 160, "width": 240}
    write_json(root / "annotations" / "train.json", document)


def turned(root: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter
    noise(root / "train" / "1.png", 1, exif=exif)


def torn_map(root: Path) -> None:
    """Toys with panoptic maps, of which the second is cut short."""
    write_toybox(toybox_splits(12, 4, size=(96, 96)), root)
    torn = sorted((root / "panoptic_train").iterdir())[1]
    torn.write_bytes(torn.read_bytes()[:60])


def alike(document: dict[str, Any]) -> None:
    document["categories"].append({"id": 8, "name": "Cat "})
    document["annotations"].append(document["annotations"][1] | {"id": 9, "category_id": 8})
    document["annotations"][-1]["bbox"] = [30, 10, 8, 8]


def of_two_classes(document: dict[str, Any]) -> None:
    document["categories"].append({"id": 8, "name": "dog"})
    document["annotations"].append(document["annotations"][1] | {"id": 9, "category_id": 8})


def many(count: int, **fields: int) -> list[dict[str, Any]]:
    """Small boxes side by side."""
    return [
        {"id": i, "category_id": 7, "bbox": [5 * (i % 10), 6 * (i // 10 % 6), 4, 5]} | fields
        for i in range(count)
    ]


def sparse(document: dict[str, Any]) -> None:
    document["annotations"] = [
        *({**t, "image_id": 0} for t in many(8)),
        {"id": 8, "image_id": 10, "category_id": 7, "bbox": [4, 6, 10, 20]},
        *({**t, "image_id": 20, "id": 10 + t["id"]} for t in many(8)),
    ]


def unbalanced(document: dict[str, Any]) -> None:
    document["categories"].append({"id": 8, "name": "dog"})
    document["annotations"] += [{**t, "image_id": 0, "id": 90 + t["id"]} for t in many(24)]
    document["annotations"] += [{**t, "image_id": 10, "id": 120 + t["id"]} for t in many(24)]
    document["annotations"] += [{**t, "image_id": 20, "id": 150 + t["id"]} for t in many(23)]
    document["annotations"][-1]["category_id"] = 8


def resaved(root: Path) -> None:
    """Another format with other noise, and a size of its own."""
    picture = Image.open(root / "train" / "1.png").resize((120, 80))
    picture.save(root / "val" / "0.jpg", quality=90)
    (root / "val" / "0.png").unlink()
    document = coco_document(2, categories=[{"id": 7, "name": "cat"}])
    document["images"][0] |= {"file_name": "0.jpg", "height": 80, "width": 120}
    write_json(root / "annotations" / "val.json", document)


TRAIN = "annotations/train.json"
BOW = [4, 6, 14, 26, 14, 6, 4, 26]  # a bow tie

FLAWS: list[Case] = [
    (added(bbox=[1, 2]), "broken-record", TRAIN, "annotation 9", "has a bbox of 2 numbers"),
    (added(iscrowd="no"), "broken-record", TRAIN, "annotation 9", 'has an "iscrowd"'),
    (
        changed(lambda d: d["images"].append({"file_name": "1.png"})),
        *("broken-record", TRAIN, "image None", "an image has no proper id"),
    ),
    (
        files(lambda root: (root / "train" / "1.png").unlink()),
        *("missing-picture", TRAIN, "image 10", "no picture 1.png (looked in"),
    ),
    (
        files(lambda root: (root / "train" / "1.png").write_text("no picture")),
        *("unreadable-picture", "train/1.png", "", "unknown format"),
    ),
    (files(lambda root: cut(root, b"")), "unreadable-picture", "train/1.jpg", "", "truncated"),
    (
        files(lambda root: cut(root, b"\xff\xd9")),  # a JPEG's end
        *("truncated-picture", "train/1.jpg", "", "of 160 rows are lost"),
    ),
    (files(turned), "turned-picture", "train/1.png", "", "is 40x60, annotated as 60x40"),
    (
        files(lambda root: noise(root / "train" / "1.png", 1, 20, 30)),
        *("resized-picture", "train/1.png", "", "is 30x20, annotated as 60x40"),
    ),
    (
        files(lambda root: noise(root / "train" / "1.png", 1, 40, 90)),
        *("wrong-size", "train/1.png", "", "is 90x40, annotated as 60x40"),
    ),
    (
        files(lambda root: noise(root / "val" / "1.png", 2)),
        *("same-in-two-splits", "train/2.png", "", "of train, is val/1.png of val"),
    ),
    (
        files(lambda root: noise(root / "train" / "2.png", 1)),
        *("same-in-one-split", "train/2.png", "", "of train, is train/1.png of train"),
    ),
    (files(resaved), "nearly-same", "train/1.png", "", "of train, is nearly val/0.jpg of val"),
    (
        changed(lambda d: d["images"].append(d["images"][1])),
        *("duplicate-id", TRAIN, "image 10", "two images have the id 10"),
    ),
    (added(id=1), "duplicate-annotation-id", TRAIN, "annotation 1", "its id is taken"),
    (added(image_id=5), "unlisted-image", TRAIN, "annotation 9", "is of image 5, which is not"),
    (added(category_id=5), "unknown-class", TRAIN, "annotation 9", "is of category 5, which is"),
    (changed(alike), "alike-classes", "", "", '"Cat ", 1 times, and "cat", 5 times'),
    (added(bbox=[4, 6, 0, 9]), "empty-box", TRAIN, "annotation 9", "[4, 6, 4, 15] has no area"),
    (added(bbox=[9, 9, -3, 9]), "empty-box", TRAIN, "annotation 9", "[9, 9, 6, 18] has no area"),
    (added(bbox=[60, 6, 4, 9]), "outside-box", TRAIN, "annotation 9", "outside its picture of 60x"),
    (added(bbox=[50, 6, 10.2, 9]), "reaching-box", TRAIN, "annotation 9", "reaches 0.2 px outside"),
    (
        added(bbox=[4, 6, 10, 20.2]),  # 200 / 202 of the first
        *("duplicate-box", TRAIN, "annotation 9", "its box is that of annotation 1"),
    ),
    (changed(of_two_classes), "two-classes", TRAIN, "annotation 9", "annotation 1, of another"),
    (
        thing(segmentation=[SQUARE, [5, 5, 6, 6]]),
        *("short-polygon", TRAIN, "annotation 1", "polygon 2 has 2 points"),
    ),
    (thing(segmentation=[BOW]), "crossing-polygon", TRAIN, "annotation 1", "its polygon crosses"),
    (
        added(bbox=[50, 6, 10, 9], segmentation=[[50, 6, 60.5, 6, 60, 15, 50, 15]]),
        *("reaching-mask", TRAIN, "annotation 9", "its polygon reaches 0.5 px outside 60x40"),
    ),
    (
        thing(segmentation=[[4, 6, 20, 6, 14, 26, 4, 26]]),
        *("mask-off-box", TRAIN, "annotation 1", "stands 6 px out of box [4, 6, 14, 26]"),
    ),
    (
        points(5, 7, 3, 6, 8, 2),
        *("impossible-visibility", TRAIN, "annotation 1", "keypoint 1 has visibility 3"),
    ),
    (
        points(5, 7, 2, 6, 8, 0),
        *(
            "impossible-visibility",
            TRAIN,
            "annotation 1",
            "keypoint 2 is at 6, 8 with visibility 0",
        ),
    ),
    (
        points(0, 0, 2, 6, 8, 2),
        *(
            "impossible-visibility",
            TRAIN,
            "annotation 1",
            "keypoint 1 is at 0, 0 with visibility 2",
        ),
    ),
    (
        points(5, 7, 2, 5, 41, 1),
        *(
            "outside-keypoint",
            TRAIN,
            "annotation 1",
            "keypoint 2 is at 5, 41 in a picture of 60x40",
        ),
    ),
    (
        points(5, 7, 2, 20, 8, 2),
        *("keypoint-off-box", TRAIN, "annotation 1", "keypoint 2 stands 6 px out of box"),
    ),
    (torn_map, "unreadable-map", "train/000001.png", "", "cannot read"),
    (
        changed(lambda d: d["annotations"].pop(1)),
        *("unlabelled-picture", "train/1.png", "", "has no labels"),
    ),
    (changed(sparse), "sparse-labels", "train/1.png", "", "has 1 label, where 8 are usual"),
    (
        files(lambda root: noise(root / "train" / "new.png", 5)),
        *("unnamed-picture", "train/new.png", "", "is in no split: no record that could be"),
    ),
    (
        changed(lambda d: d["categories"].append({"id": 8, "name": "dog"})),
        *("unused-class", "", "", '"dog" has no label'),
    ),
    (changed(unbalanced), "unbalanced-classes", "", "", '"cat" has 75 of 76 labels, "dog" 1'),
    (
        files(lambda root: (root / "train" / "1.png").rename(root / "train" / "1.PNG")),
        *("mixed-suffixes", "", "", "4 pictures end in .png, 1 in .PNG"),
    ),
    (
        changed(
            lambda d: (
                alike(d),
                d.update(categories=[*POINTS, {"id": 8, "name": "dog", "keypoints": ["nose"]}]),
            )
        ),
        *("not-read", "", "", "different keypoints, which are left out"),
    ),
]
