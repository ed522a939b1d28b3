"""The metrics against the numbers that the official tools print.

    python -m benchmarks.evalref FOLDER

FOLDER holds ``coco_val2014_100`` (100 pictures of COCO val2014 and made-up results; the numbers are
pycocotools'), ``keypoints_small`` (one picture with people; pycocotools'), ``voc_ap_7img`` (the
test case of review_object_detection_metrics) and ``cartucho_map`` (the input of J. Cartucho's mAP).
Every number is printed as expected and as obtained; equal means equal to the last digit given.
Exits with 1 if one is not.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sightline.metrics.cocoapi import BACKENDS
from sightline.metrics.detection import KINDS, Of, coco_numbers
from sightline.metrics.voc import voc_numbers
from sightline.ops.boxes import from_xywh
from sightline.ops.masks import from_counts
from sightline.types import Classes, Instances, Masks, Polygons, Rle, Scene

COCO_FILES: dict[Of, tuple[str, str]] = {
    "boxes": ("coco_val2014_100", "fake_bbox.json"),
    "masks": ("coco_val2014_100", "fake_segm.json"),
    "keypoints": ("keypoints_small", "dt.json"),
}


class Row(NamedTuple):
    name: str
    expected: float
    obtained: float
    digits: str | None = None  # the last digit given, "0.01" say; None: all of a double
    rounding: str = ROUND_HALF_EVEN

    @property
    def equal(self) -> bool:
        if self.digits is None:
            return self.expected == self.obtained
        obtained = Decimal(self.obtained).quantize(Decimal(self.digits), self.rounding)
        return Decimal(repr(self.expected)) == obtained


def rows(folder: Path) -> Iterator[Row]:
    """Every number of the folder."""
    for of in COCO_FILES:
        yield from coco_rows(folder, of)
    yield from voc_rows(folder / "voc_ap_7img")
    yield from cartucho_rows(folder / "cartucho_map")


def coco_rows(folder: Path, of: Of) -> Iterator[Row]:
    name, answers_file = COCO_FILES[of]
    expected = _json(folder / name / "expected.json")
    truth, found = _json(folder / name / "gt.json"), _json(folder / name / answers_file)
    categories = sorted(truth["categories"], key=lambda category: category["id"])
    ids = [category["id"] for category in categories]
    classes = Classes(tuple(category["name"] for category in categories), tuple(ids))
    truths = coco_scenes(truth["images"], truth["annotations"], ids)
    answers = coco_scenes(truth["images"], found, ids)
    for backend in BACKENDS:
        numbers = coco_numbers(truths, answers, classes, of=of, backend=backend)
        for key, value in expected.get(KINDS[of], expected).items():
            yield Row(f"{name} {of} {key} ({backend})", value, numbers[key])


def coco_scenes(
    images: list[dict[str, Any]], annotations: list[dict[str, Any]], ids: list[int]
) -> list[Scene]:
    """The annotations or results of each picture, in double precision."""
    by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in images}
    for annotation in annotations:
        by_image[annotation["image_id"]].append(annotation)
    return [
        Scene(
            size=(image["height"], image["width"]),
            things=_coco_things(by_image[image["id"]], ids),
            image_id=image["id"],
        )
        for image in images
    ]


def _coco_things(rows: list[dict[str, Any]], ids: list[int]) -> Instances:
    if not rows:
        return Instances.empty()
    first = rows[0]
    boxes = [row.get("bbox", (0, 0, 0, 0)) for row in rows]
    keypoints = [row["keypoints"] for row in rows] if "keypoints" in first else None
    return Instances(
        boxes=from_xywh(_doubles(boxes)),
        labels=torch.tensor([ids.index(row["category_id"]) for row in rows]),
        scores=_doubles([row["score"] for row in rows]) if "score" in first else None,
        ignore=torch.tensor([bool(row.get("iscrowd", 0)) for row in rows]),
        area=_doubles([row["area"] for row in rows]) if "area" in first else None,
        masks=_coco_masks(rows) if "segmentation" in first else None,
        keypoints=None if keypoints is None else _doubles(keypoints).unflatten(1, (-1, 3)),
    )


def _coco_masks(rows: list[dict[str, Any]]) -> Masks:
    masks: list[Rle | Polygons] = []
    for row in rows:
        mask = row["segmentation"]
        if isinstance(mask, list):
            masks.append([_doubles(polygon).view(-1, 2) for polygon in mask])
        elif isinstance(mask["counts"], list):
            masks.append(from_counts(mask["counts"], tuple(mask["size"])))
        else:
            masks.append(mask)
    return masks


def voc_rows(folder: Path) -> Iterator[Row]:
    """Boxes x, y, width, height; both ends of ``x .. x + width`` count as inside. The numbers are
    cut off after ten digits, not rounded: .2683982683 is given for .26839826839..."""
    expected = _json(folder / "expected.json")
    classes = Classes(("object",))
    truths = [text_scene(path, classes, False, True) for path in sorted(folder.glob("gts/*.txt"))]
    answers = [text_scene(path, classes, True, True) for path in sorted(folder.glob("dets/*.txt"))]
    ious = [float(iou) for iou in expected["eleven_point"]]
    numbers = voc_numbers(truths, answers, classes, ious=ious, inclusive=True)
    for kind, key in (("VOC11", "eleven_point"), ("VOC", "every_point")):
        for iou, value in expected[key].items():
            name = f"{kind}@{iou}"
            yield Row(f"{folder.name} {name}", value, numbers[name], "1e-10", ROUND_DOWN)


def cartucho_rows(folder: Path) -> Iterator[Row]:
    """Boxes left, top, right, bottom in pixel indices, all inside; numbers in percent."""
    expected = _json(folder / "expected.json")
    paths = sorted(folder.glob("ground-truth/*.txt"))
    found = [folder / "detection-results" / path.name for path in paths]
    lines = [line for path in paths + found for line in path.read_text().splitlines()]
    classes = Classes(tuple(sorted({line.split()[0] for line in lines})))
    truths = [text_scene(path, classes, False, False) for path in paths]
    answers = [text_scene(path, classes, True, False) for path in found]
    key = f"VOC@{expected['iou']}"
    numbers = voc_numbers(truths, answers, classes, ious=[expected["iou"]], inclusive=True)
    for name, value in expected["AP_percent"].items():
        obtained = 100 * numbers.per_class[name][key]
        yield Row(f"{folder.name} {name} {key}", value, obtained, "0.01")
    yield Row(f"{folder.name} mean {key}", expected["mAP"], 100 * numbers[key], "0.01")


def text_scene(path: Path, classes: Classes, scored: bool, xywh: bool) -> Scene:
    """One thing a line: class, score where there is one, four numbers."""
    cells = [line.split() for line in path.read_text().splitlines()]
    boxes = _doubles([[float(value) for value in row[-4:]] for row in cells]).view(-1, 4)
    labels = torch.tensor([classes.names.index(row[0]) for row in cells], dtype=torch.long)
    scores = _doubles([float(row[1]) for row in cells]) if scored else None
    things = Instances(from_xywh(boxes) if xywh else boxes, labels, scores)
    return Scene(size=(1, 1), things=things, image_id=path.stem)


def _doubles(values: Sequence[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print(__doc__, file=sys.stderr)
        return 2
    missed = total = 0
    for row in rows(Path(arguments[0])):
        total, missed = total + 1, missed + (not row.equal)
        verdict = "equal" if row.equal else "MISS"
        print(f"{verdict:5} {row.expected!r:>20} {row.obtained!r:>20}  {row.name}")
    print(f"{total - missed} of {total} equal")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
