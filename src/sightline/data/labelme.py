"""LabelMe's JSON: one file beside each picture, with the shapes that were drawn on it.

Shapes of one label and one ``group_id`` are the parts of one thing. Rectangles are boxes; polygons,
circles and masks are masks too. Lines and points are no things: they are left out, and counted in a
warning. Classes are the labels found in all files, sorted. ``difficult``, which X-AnyLabeling
writes, or a flag is_crowd, difficult or ignore makes an ignore region, and ``extra["difficult"]``
says which of these are one thing.
"""

import base64
import binascii
import io
import math
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sightline.data.find import (
    Pictures,
    by_folder,
    contents,
    head,
    of_kind,
    pictures_of,
    subfolders,
)
from sightline.data.images import DAMAGED, SUFFIXES, TOO_LARGE, image_size
from sightline.data.packed import DataWarning, MakePacker, Packed, Packer
from sightline.data.parts import Part, block, ellipse, grouped, join, polygon, rectangle
from sightline.data.records import IGNORED, LARGEST, field, load_json, numbers, size_of
from sightline.errors import SightlineError
from sightline.types import Classes

Record = dict[str, Any]
LOOKED_FOR = "LabelMe JSON (one beside each picture)"
_OUTLINES = ("polygon", "oriented_rectangle", "rotation")
_NO_THINGS = ("line", "linestrip", "point", "points")


def find(path: Path) -> dict[str, list[Path]]:
    """The JSON files of each split, by the folders they lie in, and of "all"."""
    if not path.is_dir():
        return {}
    opened = subfolders(path)
    folders = [path, *opened, *(inner for outer in opened for inner in subfolders(outer))]
    return by_folder(path, [file for folder in folders for file in _files(folder)])


def _files(folder: Path) -> list[Path]:
    """Those that look right and, where there are such, those that lie beside a picture: they may
    be damaged."""
    right = set(of_kind(folder, "*.json", _looks_right))
    if not right:
        return []
    beside = {file.stem for file in contents(folder) if file.suffix.lower() in SUFFIXES}
    return sorted(right.union(file for file in folder.glob("*.json") if file.stem in beside))


def _looks_right(file: Path) -> bool:
    """The copy of the picture may come before all shapes."""
    start = head(file)
    named = b'"imagePath"' in start or b'"shape_type"' in start
    return (named and b'"shapes"' in start) or b'"imageData"' in start


def read(
    path: Path, found: dict[str, list[Path]], wanted: Sequence[str], packer: MakePacker = Packer
) -> dict[str, Packed]:
    """The wanted splits; the classes are those of all files, so every split numbers them alike.

    Raises:
        SightlineError: whatever is wrong in a file, with its shape.

    Warns:
        DataWarning: lines and points were left out.
    """
    documents = packer(path, path, 0).load(found["all"], _load)
    shapes = [shape for document in documents.values() for shape in document["shapes"]]
    things = [shape for shape in shapes if shape.get("shape_type") not in _NO_THINGS]
    if not things:
        raise SightlineError(f"{path} has no things in its {len(documents)} LabelMe files")
    if len(shapes) > len(things):
        told = f"{path}: {len(shapes) - len(things)} lines and points left out: they are no things"
        warnings.warn(told, DataWarning, stacklevel=2)
    names = sorted({shape["label"] for shape in things if isinstance(shape.get("label"), str)})
    return {
        split: _pack(path, {f: documents[f] for f in found[split] if f in documents}, names, packer)
        for split in wanted
    }


def _load(file: Path) -> Record:
    """Without the copy of the picture that LabelMe puts into its files."""
    document = load_json(file)
    shapes = document.get("shapes") if isinstance(document, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise SightlineError(f'{file} has no list of "shapes": not a LabelMe file')
    return {key: value for key, value in document.items() if key != "imageData"}


def _pack(path: Path, documents: dict[Path, Record], names: list[str], make: MakePacker) -> Packed:
    labels = {name: label for label, name in enumerate(names)}
    folders = dict.fromkeys(file.parent for file in documents)
    pictures = {folder: pictures_of(folder, path) for folder in folders}
    packer = make(path, path, 0)
    for file, document in documents.items():
        with packer.record(file=file):
            picture = _picture(document, file, pictures[file.parent])
            height, width = document.get("imageHeight"), document.get("imageWidth")
            size = size_of(height, width, str(file)) or image_size(picture)
            packer.picture(picture.relative_to(path), size)
            for group in _groups(document["shapes"]):
                with packer.record(f"shape {group[0][0]}", file):
                    _thing(packer, group, labels, size, file)
    return packer.finish(Classes(tuple(names)))


def _picture(document: Record, file: Path, pictures: Pictures) -> Path:
    """Beside the file as it says, or named like the file: what it says is often out of date."""
    told = str(document.get("imagePath") or file.stem)
    same = Path(re.split(r"[\\/]", told)[-1]).stem.lower() == file.stem.lower()
    return pictures.need(str(file), *((told, file.stem) if same else (file.stem, told)))


def _groups(shapes: Sequence[Record]) -> list[list[tuple[int, Record]]]:
    """The numbered shapes of each thing."""

    def of(shape: Record) -> tuple[str, str | None]:
        group = shape.get("group_id")
        return str(shape.get("label")), None if group is None else str(group)

    numbered = enumerate(shapes, start=1)
    return grouped(((n, s) for n, s in numbered if s.get("shape_type") not in _NO_THINGS), of)


def _thing(
    packer: Packer,
    group: Sequence[tuple[int, Record]],
    labels: dict[str, int],
    size: tuple[int, int],
    file: Path,
) -> None:
    parts = [_part(shape, size, f"{file}: shape {number}") for number, shape in group]
    number, first = group[0]
    label = labels[field(first, "label", str, f"{file}: shape {number}")]
    box, polygons, counts = join(parts, size)
    ignore = any(_has(shape, *IGNORED) for _, shape in group)
    difficult = any(_has(shape, "difficult") for _, shape in group)
    packer.thing(box, label, ignore=ignore, polygons=polygons, counts=counts, difficult=difficult)


def _has(shape: Record, *names: str) -> bool:
    """Whether it says so itself, or in a flag of one of these names."""
    flags = shape.get("flags")
    told = (flags if isinstance(flags, dict) else {}) | {"difficult": shape.get("difficult")}
    return any(value is True and name.lower() in names for name, value in told.items())


def _part(shape: Record, size: tuple[int, int], where: str) -> Part:
    points = _points(shape, where)
    xs, ys = points[::2], points[1::2]
    kind = shape.get("shape_type") or "polygon"
    if kind in _OUTLINES and len(xs) >= 3:
        return polygon(points)
    if kind == "rectangle" and len(xs) in (2, 4):
        return rectangle(xs, ys)
    if kind == "circle" and len(xs) == 2:
        radius = math.dist((xs[0], ys[0]), (xs[1], ys[1]))
        if radius > LARGEST:
            raise SightlineError(f"{where} is a circle larger than any picture")
        return ellipse(xs[0], ys[0], radius, radius)
    if kind == "mask" and len(xs) == 2:
        return block(_mask(shape, where), (round(min(ys)), round(min(xs))), size)
    if kind not in (*_OUTLINES, "rectangle", "circle", "mask"):
        raise SightlineError(f"{where} is of an unknown kind: {kind!s:.40}")
    raise SightlineError(f"{where} is a {kind} of {len(xs)} points")


def _points(shape: Record, where: str) -> list[float]:
    """Flat."""
    pairs = field(shape, "points", list, where)
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise SightlineError(f'{where} has "points" that are not pairs of numbers')
    return numbers([value for pair in pairs for value in pair], where, "points")


def _mask(shape: Record, where: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """From the picture in its text."""
    try:
        data = base64.b64decode(field(shape, "mask", str, where), validate=True)
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("L")) > 0
    except (binascii.Error, *DAMAGED, *TOO_LARGE) as error:
        raise SightlineError(f'{where} has a "mask" that is no picture') from error
