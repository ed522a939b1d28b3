"""A data set from one format into another: all of its splits, and a line for each kind of thing
that is lost."""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sightline.data import runs
from sightline.data.categories import mirrored
from sightline.data.coco import write_coco
from sightline.data.folder import open_splits, with_train
from sightline.data.packed import Dataset, DataWarning, Packed
from sightline.data.strings import Strings
from sightline.data.voc_write import write_voc
from sightline.data.yolo_write import SLACK, as_polygon, write_yolo
from sightline.errors import SightlineError
from sightline.files import check_folder, filling
from sightline.shapes import Float
from sightline.types import Classes, Instances, Polygons, Rle, Scene

Splits = dict[str, Packed]

_WRITERS: dict[str, Callable[[Dataset, Path, str], Path]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
}
# Each kind of thing, the formats that hold it, and what becomes of it elsewhere.
_KINDS = {
    "a data set without train": ("coco voc", "written as train"),
    "val or test alone": ("coco voc", "written without a train, which other tools want"),
    "classes without a thing": ("coco yolo", "left out"),
    "classes in an order of their own": ("coco yolo", "sorted by name"),
    "category ids": ("coco", "left out"),
    "image ids": ("coco", "left out"),
    "image ids that are words": ("", "left out"),
    "ignore regions": ("coco voc", "left out"),
    "crowd regions": ("coco", "marked as difficult, which is one thing"),
    "truncated": ("voc", "left out"),
    "difficult things that are not ignored": ("", "written as any other"),
    "areas other than the box's": ("coco", "left out"),
    "boxes thinner than a pixel": ("coco yolo", "widened to one"),
    "masks": ("coco yolo", "left out"),
    "masks beside keypoints": ("coco", "left out"),
    "things without a mask beside masks": ("coco voc", "given the rectangle of their box"),
    "boxes smaller than their masks": ("coco voc", "enlarged"),
    "things with keypoints": ("coco yolo", "written without"),
    "keypoints outside their picture": ("coco voc", "moved to its edge"),
    "pairs of keypoints in a skeleton": ("coco", "left out"),
    "keypoints with a counterpart that names do not tell": ("yolo", "left without one"),
    "label maps": ("", "left out"),
    "panoptic maps": ("coco", "left out"),
    "pictures with captions": ("coco", "left out"),
}


def convert(source: str | Path, out: str | Path, to: str) -> dict[str, int]:
    """Write a labelled data set, of any format that is read, as COCO JSON, YOLO text files or
    Pascal VOC XML: every split, and in ``out`` all of it or nothing.

    ``to`` is "coco", "yolo" or "voc". Returns how many pictures each split of ``out`` has.

    Raises:
        SightlineError: no such format, ``out`` is no place for it, something in ``source`` cannot
            be read, nothing in it can be held, or ``out`` cannot be written.

    Warns:
        DataWarning: for each kind of thing that the format cannot hold, how many of them were lost
            or changed; and for what was mended in reading.
    """
    if to not in _WRITERS:
        raise SightlineError(f"{to} is no format to write: {', '.join(_WRITERS)} are")
    check_out(Path(out), Path(source))
    found = open_splits(source)
    splits = _arranged(found, to)
    if not any(_leaves_something(data, to) for data in splits.values()):
        raise SightlineError(f"{source} has no label that {to} can hold: nothing would be left")
    lost = _lost(splits, to)
    lost["a data set without train"] = int("train" in splits.keys() - found.keys())
    lost["val or test alone"] = int("train" not in splits)
    for kind in [*_KINDS, *(lost.keys() - _KINDS.keys())]:
        holders, fate = _KINDS.get(kind, ("", "left out"))
        if lost[kind] and to not in holders.split():
            line = f"{to} cannot hold {kind}: {lost[kind]} {fate}"
            warnings.warn(line, DataWarning, stacklevel=2)
    with filling(Path(out)) as beside:
        for split, data in (numbered(splits) if to == "coco" else splits).items():
            _WRITERS[to](data, beside, split)
    return {split: len(data) for split, data in splits.items()}


def check_out(out: Path, source: Path) -> None:
    """Before the work whose result is to fill ``out``.

    Raises:
        SightlineError: it is there and not empty, or lies in the data set, which is never touched.
    """
    check_folder(out)
    inside = source.parent if source.is_file() else source
    if out.resolve().is_relative_to(inside.resolve()):
        raise SightlineError(
            f"{out} lies in the data set, which is not touched: name another place"
        )


def _arranged(splits: Splits, to: str) -> Splits:
    """YOLO needs a train: what trainval has and val has not, or what has no split, becomes it. Only
    VOC's lists share pictures without copying them: elsewhere trainval is left out where it is
    train and val."""
    if to == "yolo" and "train" not in splits:
        as_train = dict.fromkeys(("all", "trainval"), "train")
        splits = {as_train.get(name, name): data for name, data in with_train(splits).items()}
    if to == "voc" or not {"train", "val", "trainval"} <= set(splits):
        return splits
    parts, both = [splits["train"], splits["val"]], splits["trainval"]
    there = {data.path(index) for data in parts for index in range(len(data))}
    if not all(both.path(index) in there for index in range(len(both))):
        return splits
    return {name: data for name, data in splits.items() if name != "trainval"}


def numbered(splits: Splits) -> Splits:
    """With whole numbers as ids, as COCO's tools want them, where any are words."""
    if not any(isinstance(data.image_ids, Strings) for data in splits.values()):
        return splits
    numbers = iter(
        torch.arange(1, 1 + sum(map(len, splits.values()))).split(
            [len(data) for data in splits.values()]
        )
    )
    return {name: replace(data, image_ids=next(numbers)) for name, data in splits.items()}


def _lost(splits: Splits, to: str) -> Counter[str]:
    """How many there are of each kind that this format, or another, cannot hold. Boxes that YOLO's
    polygons go beyond take long to count: for YOLO alone."""
    classes = next(iter(splits.values())).classes
    lost, used = Counter(dict(_of_classes(classes))), set[int]()
    for data in splits.values():
        for index in range(len(data)):
            scene = data.scene(index)
            used.update(scene.things.labels.tolist())
            lost["ignore regions"] += int(scene.things.ignore.sum())
            if to == "yolo":
                scene.things = scene.things[~scene.things.ignore]
                lost["boxes smaller than their masks"] += _smaller(scene.things, scene.size)
            for kind, count in _of_scene(scene, classes):
                lost[kind] += int(count)
    lost["classes without a thing"] = len(classes) - len(used)
    return lost


def _leaves_something(data: Packed, to: str) -> bool:
    """Beside the pictures."""
    if to == "coco" and (data.panoptic is not None or data.captions is not None):
        return True
    left_out = data.ignore if to == "yolo" else torch.zeros_like(data.ignore)
    return not all(bool(left_out[first:last].all()) for first, last in data.spans.tolist())


def _of_classes(classes: Classes) -> Iterator[tuple[str, int]]:
    count = len(classes)
    yield "classes in an order of their own", count * (list(classes.names) != sorted(classes.names))
    yield "category ids", count * (classes.ids != tuple(range(count)))
    yield "pairs of keypoints in a skeleton", len(classes.skeleton)
    pairs = zip(classes.mirrored, mirrored(classes.keypoints), strict=False)
    yield "keypoints with a counterpart that names do not tell", sum(a != b for a, b in pairs)


def _of_scene(scene: Scene, classes: Classes) -> Iterator[tuple[str, int | Tensor]]:
    things, stem = scene.things, Path(scene.path).stem
    ids = "image ids" if isinstance(scene.image_id, int) else "image ids that are words"
    yield ids, str(scene.image_id) != stem
    yield "label maps", scene.semantic is not None
    yield "panoptic maps", scene.panoptic is not None
    yield "pictures with captions", bool(scene.captions)
    yield "crowd regions", (things.ignore & ~things.difficult).sum()
    sides = things.boxes[:, 2:] - things.boxes[:, :2]
    yield "boxes thinner than a pixel", (sides <= 1).any(dim=1).sum()
    if things.area is not None:
        own = things.area.isclose(sides.prod(dim=1), rtol=1e-3)
        yield "areas other than the box's", (~own).sum()
    if things.keypoints is not None:
        points, seen = things.keypoints[..., :2], things.keypoints[..., 2] > 0
        outside = (points < 0) | (points > points.new_tensor([scene.size[1], scene.size[0]]))
        yield "things with keypoints", seen.any(dim=1).sum()
        yield "keypoints outside their picture", (outside.any(dim=2) & seen).sum()
    if isinstance(things.masks, list):
        present = sum(map(bool, things.masks))
        yield "masks beside keypoints" if classes.keypoints else "masks", present
        if not classes.keypoints:
            yield "things without a mask beside masks", len(things) - present
    for name, column in things.extra.items():
        if name == "difficult" and isinstance(column, Tensor):
            yield "difficult things that are not ignored", (column & ~things.ignore).sum()
        else:
            yield name, sum(map(bool, column))


def _smaller(things: Instances, size: tuple[int, int]) -> int:
    """Boxes that the polygons YOLO takes for them go beyond; none beside keypoints, where it takes
    the boxes."""
    if not isinstance(things.masks, list) or things.keypoints is not None:
        return 0
    count = 0
    for mask, box in zip(things.masks, things.boxes, strict=True):
        if _beyond(_extent(mask, size), box) > SLACK:
            polygon = as_polygon(mask, box, size)
            count += polygon is not None and _beyond(_extent([polygon], size), box) > SLACK
    return count


def _extent(mask: Rle | Polygons, size: tuple[int, int]) -> Float[Tensor, "4"]:
    if isinstance(mask, dict):
        return torch.tensor(runs.box(runs.expand(mask["counts"]), size[0]))
    if not mask:
        return torch.tensor([math.inf, math.inf, 0, 0])
    points = torch.cat(mask)
    return torch.cat([points.amin(0), points.amax(0)])


def _beyond(extent: Float[Tensor, "4"], box: Float[Tensor, "4"]) -> float:
    return float(torch.cat([box[:2] - extent[:2], extent[2:] - box[2:]]).max())
