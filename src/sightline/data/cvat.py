"""CVAT's XML, "CVAT for images 1.1": one file that lists pictures and the shapes on each.

Shapes of one label and one ``group_id`` (other than 0) are the parts of one thing. Boxes are boxes,
turned ones also polygons; polygons, ellipses and masks are masks too. Polylines, points, skeletons
and cuboids are no things: they are left out, and counted in a warning. ``occluded`` is kept in
``extra["occluded"]``; an attribute is_crowd, difficult or ignore that is true makes an ignore
region, and ``extra["difficult"]`` says which of these are one thing. Classes are the labels of the
task or project, in its order. A picture's ``subset`` is its split, where that is the word for one.
Tracks of videos are refused.
"""

import math
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from sightline.data.find import Pictures, head, of_kind, picture_folders, split_of, subfolders
from sightline.data.images import image_size
from sightline.data.packed import DataWarning, MakePacker, Packed, Packer
from sightline.data.parts import Part, block, ellipse, grouped, join, polygon, turned
from sightline.data.records import IGNORED, RecordError, load_xml, numbers, size_of, whole_numbers
from sightline.errors import SightlineError
from sightline.types import Classes

LOOKED_FOR = "CVAT XML (annotations.xml)"
_THINGS = ("box", "polygon", "ellipse", "mask")
_NO_THINGS = ("polyline", "points", "skeleton", "cuboid")
_OTHER_LABELS = ("tag", *_NO_THINGS)


Listed = list[tuple[Path, str | None]]  # files, each with the subset that is meant, or all of it


def find(path: Path) -> dict[str, Listed]:
    """The files of each split and of "all": by the subsets inside them, or by their folders."""
    found: dict[str, Listed] = {}
    for file in _files(path):
        found.setdefault("all", []).append((file, None))
        around = None if path.is_file() else split_of("/".join(file.relative_to(path).parts))
        if around:
            found.setdefault(around, []).append((file, None))
        for subset in () if around else _subsets(file):
            found.setdefault(split_of(subset) or subset, []).append((file, subset))
    return found


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".xml" and _looks_right(path) else []
    folders = [path, *subfolders(path)]
    return [file for folder in folders for file in of_kind(folder, "*.xml", _looks_right)]


def _looks_right(file: Path) -> bool:
    start = head(file)
    return b"<annotations" in start and any(
        tag in start for tag in (b"<image", b"<track", b"<meta")
    )


def _subsets(file: Path) -> list[str]:
    """Those that are words for splits, without making a tree of the file."""
    try:
        found = set(re.findall(rb'<image [^>]*subset="([^"]*)"', file.read_bytes()))
    except OSError as error:
        raise SightlineError(f"cannot read {file}: {error.strerror}") from error
    names = sorted(name.decode(errors="replace") for name in found)
    return [name for name in names if split_of(name)]


def read(
    path: Path, found: dict[str, Listed], wanted: Sequence[str], packer: MakePacker = Packer
) -> dict[str, Packed]:
    """The wanted splits; the classes are those of all files.

    Raises:
        SightlineError: whatever is wrong in a file, with its picture and shape.

    Warns:
        DataWarning: shapes that are no things were left out.
    """
    trees = packer(path, path, 0).load((file for file, _ in found["all"]), _load)
    names = _names(trees)
    if not names:
        raise SightlineError(f"{path} has no labels")
    _warn(path, trees)
    return {split: _pack(path, split, trees, found[split], names, packer) for split in wanted}


def _load(file: Path) -> Element:
    tree = load_xml(file)
    if tree.find("track") is not None:
        raise SightlineError(
            f"{file} has tracks of a video: export the task as CVAT for images 1.1"
        )
    return tree


def _names(trees: dict[Path, Element]) -> list[str]:
    """Labels that may be of things; without a list of labels, those of the shapes, sorted."""
    listed = [label for tree in trees.values() for label in tree.iterfind("meta//labels/label")]
    names = [
        (label.findtext("name") or "").strip()
        for label in listed
        if label.find("parent") is None and label.findtext("type") not in _OTHER_LABELS
    ]
    shapes = [s for tree in trees.values() for s in tree.iterfind("image/*") if s.tag in _THINGS]
    used = sorted({shape.get("label", "").strip() for shape in shapes})
    return list(dict.fromkeys(filter(None, names if listed else used)))


def _warn(path: Path, trees: dict[Path, Element]) -> None:
    tags = [shape.tag for tree in trees.values() for shape in tree.iterfind("image/*")]
    left_out = [tag for tag in tags if tag not in _THINGS]
    if left_out:
        kinds = ", ".join(sorted(set(left_out)))
        told = f"{path}: {len(left_out)} shapes left out that are no things: {kinds}"
        warnings.warn(told, DataWarning, stacklevel=3)


def _pack(
    path: Path,
    split: str,
    trees: dict[Path, Element],
    listed: Listed,
    names: list[str],
    make: MakePacker,
) -> Packed:
    root = path.parent if path.is_file() else path
    labels = {name: label for label, name in enumerate(names)}
    packer = make(path, root, 0)
    for file, subset in ((file, subset) for file, subset in listed if file in trees):
        bases = dict.fromkeys([file.parent, root])
        pictures = Pictures(picture_folders(list(bases), None if split == "all" else split))
        for image in trees[file].iterfind("image"):
            if subset is None or image.get("subset") == subset:
                name = f"image {image.get('id')}"
                with packer.record(name, file):
                    _picture(packer, image, name, labels, pictures, file)
    return packer.finish(Classes(tuple(names)))


def _picture(
    packer: Packer,
    image: Element,
    record: str,
    labels: dict[str, int],
    pictures: Pictures,
    file: Path,
) -> None:
    where, name, subset = f"{file}: {record}", image.get("name"), image.get("subset")
    if not name:
        raise SightlineError(f"{where} has no name")
    picture = pictures.need(where, *([f"{subset}/{name}"] if subset else []), name)
    height, width = (
        _number(image, s, where) if image.get(s) else None for s in ("height", "width")
    )
    size = size_of(height, width, where) or image_size(picture)
    packer.picture(picture.relative_to(packer.root), size)
    for group in _groups(image):
        with packer.record(f"{record}, shape {group[0][0]}", file):
            _thing(packer, group, labels, size, where)


def _groups(image: Element) -> list[list[tuple[int, Element]]]:
    """The numbered shapes of each thing."""

    def of(shape: Element) -> tuple[str, str | None]:
        group = shape.get("group_id", "0")
        return shape.get("label", ""), None if group == "0" else group

    numbered = enumerate(image, start=1)
    return grouped(((number, shape) for number, shape in numbered if shape.tag in _THINGS), of)


def _thing(
    packer: Packer,
    group: Sequence[tuple[int, Element]],
    labels: dict[str, int],
    size: tuple[int, int],
    where: str,
) -> None:
    number, first = group[0]
    label = first.get("label", "").strip()
    if label not in labels:
        told = f"{where}, shape {number} has a label that is not listed: {label}"
        raise RecordError("unknown-class", told)
    parts = [_part(shape, size, f"{where}, shape {number}") for number, shape in group]
    box, polygons, counts = join(parts, size)
    packer.thing(
        box,
        labels[label],
        ignore=any(_has(shape, *IGNORED) for _, shape in group),
        difficult=any(_has(shape, "difficult") for _, shape in group),
        polygons=polygons,
        counts=counts,
        occluded=any(shape.get("occluded") == "1" for _, shape in group),
    )


def _has(shape: Element, *names: str) -> bool:
    """Whether an attribute of one of these names is true."""
    return any(
        (attribute.get("name") or "").lower() in names
        and (attribute.text or "").strip().lower() in ("true", "1", "yes")
        for attribute in shape.iterfind("attribute")
    )


def _part(shape: Element, size: tuple[int, int], where: str) -> Part:
    def value(key: str) -> float:
        return _number(shape, key, where)

    degrees = value("rotation") if shape.get("rotation") else 0.0
    if shape.tag == "box":
        x1, y1, x2, y2 = (value(key) for key in ("xtl", "ytl", "xbr", "ybr"))
        return turned((x1, y1, x2, y2), degrees, ((x1 + x2) / 2, (y1 + y2) / 2))
    if shape.tag == "ellipse":
        return ellipse(value("cx"), value("cy"), value("rx"), value("ry"), degrees)
    if shape.tag == "mask":
        corner = round(value("top")), round(value("left"))
        return block(_pixels(shape, size, where), corner, size)
    points = numbers(re.split("[,;]", shape.get("points") or ""), where, "points")
    if len(points) < 6 or len(points) % 2:
        raise SightlineError(f"{where} is a polygon of {len(points) / 2:g} points")
    return polygon(points)


def _pixels(shape: Element, size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """Runs of 0 and 1 in turn, 0 first, along the rows of the mask's own window."""
    height, width = (round(_number(shape, key, where)) for key in ("height", "width"))
    if not (0 < height <= size[0] and 0 < width <= size[1]):
        raise SightlineError(
            f"{where} is a mask of {width}x{height} in a {size[1]}x{size[0]} picture"
        )
    runs = whole_numbers((shape.get("rle") or "").split(","), where, "rle")
    if min(runs) < 0 or sum(runs) != height * width:
        raise SightlineError(f"{where} has an rle that does not fill its {width}x{height} pixels")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)


def _number(element: Element, key: str, where: str) -> float:
    try:
        number = float(element.get(key, ""))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SightlineError(f'{where} has no proper "{key}": {element.get(key, "")[:40]}')
    return number
