"""YOLO's text files, written: what ``yolo.py`` reads, and Ultralytics trains on.

One kind of line serves a whole data set, as Ultralytics wants it: boxes with keypoints where the
classes have keypoints, else polygons where there are masks, else boxes. A polygon is also the box
of its thing. What the format has no room for is left out; ``convert.py`` counts it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from sightline.data.find import split_of
from sightline.data.images import image_size
from sightline.data.packed import Dataset
from sightline.data.pictures import free_name, own_name, write_picture
from sightline.data.yolo_yaml import read_yaml
from sightline.errors import SightlineError
from sightline.files import replacing
from sightline.ops import masks
from sightline.ops.outlines import join, outlines
from sightline.shapes import Float
from sightline.types import Classes, Instances, Polygons, Rle, Scene

_ALIKE = 0.99  # IoU: joined polygons that overlap one another lose what they share
SLACK = 0.5  # pixels that a polygon, whose ends are those of the box, may go beyond it
_CLOSE = 0.01  # pixels


def write_yolo(dataset: Dataset, out: str | Path, split: str = "train") -> Path:
    """A data set as ``open_dataset`` reads it: pictures in ``out/images/split``, a text file for
    each in ``out/labels/split``, and ``out/data.yaml``, whose path is returned.

    Picture files are copied; pictures without a file are saved as PNG. Ignore regions are left
    out. A thing without a mask, in a data set with masks, is written as the polygon of its box.
    The YAML is written last; it keeps the splits it has, and the split is in it only once all of
    its files are there.

    Raises:
        SightlineError: no split is called that, the folder holds splits with other classes, or a
            picture is not of the size it was annotated in.
    """
    if split_of(split) != split:
        raise SightlineError(f"YOLO has no split {split}: train, val and test are read")
    out = Path(out)
    described = _described(dataset.classes, out / "data.yaml", split)
    pictures, labels = out / "images" / split, out / "labels" / split
    pictures.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    taken = set[str]()
    for index in range(len(dataset)):
        scene = dataset.scene(index)
        _check_size(scene)
        name = free_name(own_name(scene.path), f"{index:06d}", taken)
        write_picture(dataset, index, scene.path, pictures / name)
        lines = "".join(f"{line}\n" for line in _lines(scene, dataset.classes))
        (labels / f"{Path(name).stem}.txt").write_text(lines, encoding="utf-8")
    with replacing(out / "data.yaml") as beside:
        document = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
        beside.write_text(document, encoding="utf-8")
    return out / "data.yaml"


def _described(classes: Classes, file: Path, split: str) -> dict[str, Any]:
    """The YAML with one split more. It tells no path: its own folder is meant."""
    about: dict[str, Any] = {"nc": len(classes), "names": dict(enumerate(classes.names))}
    if classes.keypoints:
        count = len(classes.keypoints)
        about |= {
            "kpt_shape": [count, 3],
            "flip_idx": list(classes.mirrored or range(count)),
            "kpt_names": {label: list(classes.keypoints) for label in range(len(classes))},
        }
    before = read_yaml(file) if file.exists() else {}
    splits = {key: value for key, value in before.items() if key not in about}
    if before and before != _as_text(splits | about):
        raise SightlineError(f"{file} has other classes or keypoints: name another folder")
    return splits | {split: f"images/{split}"} | about


def _as_text(document: dict[str, Any]) -> Any:
    """As ``read_yaml`` will give it."""
    return yaml.load(yaml.safe_dump(document), Loader=yaml.BaseLoader)


def _check_size(scene: Scene) -> None:
    """Labels are relative to the file's size, of which the annotation may know nothing."""
    if not scene.path or not Path(scene.path).is_file():
        return
    found = image_size(scene.path)
    if found != scene.size:
        raise SightlineError(
            f"{scene.path} is {found[1]}x{found[0]}, its annotation says "
            f"{scene.size[1]}x{scene.size[0]}: YOLO's labels are relative to the picture"
        )


def _lines(scene: Scene, classes: Classes) -> Iterator[str]:
    things = scene.things[~scene.things.ignore]
    shapes = _shapes(things, scene.size, len(classes.keypoints))
    for label, shape in zip(things.labels.tolist(), shapes, strict=True):
        yield " ".join([str(label), *map(_number, shape)])


def _shapes(things: Instances, size: tuple[int, int], keypoints: int) -> list[list[float]]:
    """The numbers behind the class of each."""
    sides = torch.tensor([size[1], size[0]], dtype=torch.float64)
    corners = things.boxes.double().view(-1, 2, 2) / sides
    boxes = torch.cat([corners.mean(1), corners[:, 1] - corners[:, 0]], dim=1)
    if keypoints:
        points = torch.zeros(len(things), keypoints, 3, dtype=torch.float64)
        if things.keypoints is not None:
            points = things.keypoints.double()
            points[..., :2] = (points[..., :2] / sides).clamp(0, 1)
        return torch.cat([boxes, points.flatten(1)], dim=1).tolist()
    if things.masks is None:
        return boxes.tolist()
    shapes = masks.encode(things.masks) if isinstance(things.masks, Tensor) else things.masks
    polygons = [as_polygon(*each, size) for each in zip(shapes, things.boxes, strict=True)]
    rectangles = corners[:, [0, 1, 1, 0], 0], corners[:, [0, 0, 1, 1], 1]
    return [
        (rectangle if polygon is None else polygon / sides).flatten().tolist()
        for rectangle, polygon in zip(torch.stack(rectangles, dim=-1), polygons, strict=True)
    ]


def as_polygon(
    mask: Rle | Polygons, box: Float[Tensor, "4"], size: tuple[int, int]
) -> Float[Tensor, "_ 2"] | None:
    """All of a mask in one polygon inside the picture, that reaches as far as the box; None of an
    empty mask.

    The polygons themselves, joined; cut where they go beyond the box by more than half a pixel, if
    that costs them next to nothing. From the pixels where the polygons overlap one another.
    """
    if isinstance(mask, list):
        if not mask:
            return None
        joined = join([polygon.double() for polygon in mask])
        picture = joined.new_tensor([0, 0, size[1], size[0]])
        near = box.double() + joined.new_tensor([-SLACK, -SLACK, SLACK, SLACK])
        near = torch.cat([near[:2].maximum(picture[:2]), near[2:].minimum(picture[2:])])
        for room in (near, picture):
            inside = joined.clamp(room[:2], room[2:])
            if (len(mask) == 1 and inside.equal(joined)) or _alike(inside, mask, size):
                return _reaching(inside, box)
    found = outlines(masks.rasterise([mask], size)[0])
    return _reaching(join(found), box) if found else None


def _reaching(polygon: Float[Tensor, "_ 2"], box: Float[Tensor, "4"]) -> Float[Tensor, "_ 2"]:
    """As far as the box on each side, where need be by a line out and back, which encloses
    nothing."""
    for side, value in enumerate(box.tolist()):
        axis, outward = side % 2, -1 if side < 2 else 1
        farthest = int((outward * polygon[:, axis]).argmax())
        there = polygon[farthest]
        if outward * (value - float(there[axis])) > _CLOSE:
            tip = there.clone()
            tip[axis] = value
            polygon = torch.cat(
                [polygon[: farthest + 1], torch.stack([tip, there]), polygon[farthest + 1 :]]
            )
    return polygon


def _alike(polygon: Float[Tensor, "_ 2"], mask: Polygons, size: tuple[int, int]) -> bool:
    maps = masks.rasterise([[polygon], mask], size)
    return int(maps.all(0).sum()) >= _ALIKE * int(maps.any(0).sum())


def _number(value: float) -> str:
    """With nine decimals: a ten-thousandth of a pixel in a picture of 100,000."""
    return f"{value:.9f}".rstrip("0").rstrip(".")
