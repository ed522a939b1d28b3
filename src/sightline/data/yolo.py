"""YOLO's text files, as Ultralytics and its kin read them: one file a picture, one line a thing.

A line is a class and numbers, all relative to the picture's width and height: four are a box, its
centre and its size; more are the corners of a polygon, or, where ``kpt_shape`` says so, a box and
its keypoints. ``data.yaml`` says where the pictures of each split lie and what the classes are
called; without one, ``classes.txt`` or ``obj.names`` has the names, and folders tell the splits. A
picture without a label file, or with an empty one, has no things.

Parts and holes of one thing come joined into one polygon, by lines that go there and back: filled
by the even-odd rule, as COCO's tools do, it covers the same pixels.
"""

import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from os.path import commonpath
from pathlib import Path
from typing import NamedTuple

from sightline.data.find import contents, is_file, is_folder, read_lines, split_of, subfolders
from sightline.data.images import SUFFIXES, image_size
from sightline.data.packed import DataWarning, MakePacker, Packed, Packer
from sightline.data.records import RecordError
from sightline.data.yolo_yaml import (
    looks_right,
    read_classes,
    read_names,
    read_splits,
    read_yaml,
)
from sightline.errors import SightlineError
from sightline.types import Classes

LOOKED_FOR = "YOLO text files (data.yaml, or classes.txt or obj.names beside images and labels)"
YAML = (".yaml", ".yml")
_NAMES = ("classes.txt", "obj.names", "labels/classes.txt", "images/classes.txt", "data/obj.names")
_FARTHEST = 2  # sides of the picture: a number beyond is in pixels
_DECIMALS = 4  # of a pixel: files round, and a whole pixel stays one


class Found(NamedTuple):
    """Where one split is described."""

    described: Path  # the YAML file, or that of the names
    sources: list[Path]  # folders of pictures, or lists of them


class Told(NamedTuple):
    """A picture of a split, and where it is told of."""

    file: Path  # a list of pictures, or the picture itself
    record: str  # the line of a list
    line: str
    picture: Path | None  # none where the line leads nowhere


def find(path: Path) -> dict[str, Found]:
    """The folders and lists of each split: as the YAML says, or, without one, those named after
    splits; "all" where there are none. ``path`` is a folder or a YAML file.

    Raises:
        SightlineError: two YAML files look right, or the one that does is broken.
    """
    if path.is_file():
        fits = path.suffix.lower() in YAML and looks_right(path)
        return _by_yaml(path) if fits else {}
    files = [file for file in contents(path) if file.suffix.lower() in YAML]
    files = [file for file in files if file.is_file() and looks_right(file)]
    files = [file for file in files if file.stem == "data"] or files
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise SightlineError(f"{path} has several descriptions: {names}; give the one you mean")
    return _by_yaml(files[0]) if files else _by_folders(path)


def _by_yaml(file: Path) -> dict[str, Found]:
    """What a split's entry leads to, or the path it should. A test split that is told of but not
    there (Roboflow always tells of one) is none, nor is one without a label (COCO's own)."""
    document = read_yaml(file)
    told = document.get("path")
    bases = [file.parent / told, file.parent] if isinstance(told, str) else [file.parent]
    found = {}
    for split, entries in read_splits(document, file).items():
        located = [_locate(entry, bases) for entry in entries]
        there = Found(file, [way for way in located if way])
        if split == "test" and there.sources and not _is_labelled(there):
            told = f"{file}: test is left out: none of its pictures has a label file"
            warnings.warn(told, DataWarning, stacklevel=2)
        elif split != "test" or there.sources:
            paths = [way or file.parent / e for way, e in zip(located, entries, strict=True)]
            found[split] = Found(file, paths)
    return found


def _locate(entry: str, bases: Sequence[Path]) -> Path | None:
    """The file or folder: as it says, or below a base, without the folders of the machine it was
    written on ("/content/set/train/images", "../train/images")."""
    parts = [part for part in re.split(r"[\\/]", entry) if part.strip(".")]
    ends = [Path(*parts[first:]) for first in range(max(1, len(parts) - 1))]
    paths = (base / end for end in [Path(entry), *ends] for base in bases)
    # os.path.exists is False for whatever cannot be a path, pathlib raises for some of it.
    return next((path for path in paths if os.path.exists(path)), None)  # noqa: PTH110


def _by_folders(path: Path) -> dict[str, Found]:
    """By names of classes, pictures and labels beside them; {} where one of these is missing."""
    names = next((path / name for name in _NAMES if (path / name).is_file()), None)
    if names is None:
        return {}
    sources: dict[str, list[Path]] = {}
    for file in sorted(path.glob("*.txt")):
        if file.stem.isalpha() and (split := split_of(file.stem)):
            sources.setdefault(split, []).append(file)
    if not sources:
        images = path / "images"
        for folder in [*(subfolders(images) if images.is_dir() else []), *subfolders(path)]:
            if split := split_of(folder.name):
                inner = folder / "images"
                sources.setdefault(split, []).append(inner if inner.is_dir() else folder)
        sources = sources or {"all": [images if images.is_dir() else path]}
    found = {split: Found(names, listed) for split, listed in sources.items()}
    return found if any(map(_is_labelled, found.values())) else {}


def _is_labelled(found: Found) -> bool:
    """Whether any picture is."""
    return any(told.picture and _label_file(told.picture) for told in _pictures(found))


def _pictures(found: Found) -> Iterator[Told]:
    """Of a split: all in its folders, however deep, and those on its lists."""
    for source in found.sources:
        if not source.resolve().name:  # however it is reached
            raise SightlineError(f"{found.described} names {source}, which is the whole disk")
        if is_folder(source):
            files = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
            yield from (Told(file, "", "", file) for file in files)
        elif source.suffix == ".txt" and is_file(source):
            for number, line in read_lines(source):
                picture = _locate(line, [source.parent, found.described.parent])
                known = picture if picture is not None and is_file(picture) else None
                yield Told(source, f"line {number}", line, known)
        else:
            raise SightlineError(
                f"{found.described} names {source}, which is neither a folder of pictures nor a "
                "list of them (.txt)"
            )


def _label_file(picture: Path) -> Path | None:
    """In the folder labels where the picture is in one of images, or else beside it."""
    parts = list(picture.with_suffix(".txt").parts)
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        swapped = Path(*parts[:last], "labels", *parts[last + 1 :])
        if swapped.is_file():
            return swapped
    beside = picture.with_suffix(".txt")
    return beside if beside.is_file() else None


def read(
    path: Path, found: dict[str, Found], wanted: Sequence[str], packer: MakePacker = Packer
) -> dict[str, Packed]:
    """The wanted splits.

    Raises:
        SightlineError: whatever is wrong in a file, with its line.
    """
    described = found[wanted[0]].described
    if described.suffix.lower() in YAML:
        classes, values = read_classes(read_yaml(described), described)
    else:
        classes, values = Classes(read_names(described)), 0
    return {split: _pack(found[split], classes, values, packer) for split in wanted}


def _pack(found: Found, classes: Classes, values: int, make: MakePacker) -> Packed:
    files = _files(found, make(found.described, found.described.parent, 0))
    sources = ", ".join(map(str, found.sources))
    if not files:
        raise SightlineError(f"{found.described} names {sources}, where there is no picture")
    labels = [_label_file(file) for file in files]
    if not any(labels):
        raise SightlineError(
            f"no picture in {sources} has a label file (its name with .txt, in a folder labels "
            "in the place of images, or beside it)"
        )
    root = Path(commonpath([file.parent for file in files]))
    packer = make(root, root, len(classes.keypoints))
    for file, label_file in zip(files, labels, strict=True):
        with packer.record(file=file):
            size = image_size(file)
            packer.picture(file.relative_to(root), size)
            for own, lines in packer.load([label_file] if label_file else [], read_lines).items():
                for number, line in lines:
                    with packer.record(f"line {number}", own):
                        _thing(packer, line, size, classes, values, f"{own}, line {number}")
    return packer.finish(classes)


def _files(found: Found, packing: Packer) -> list[Path]:
    """The pictures of a split, each once; a line that leads to none is told."""
    files = dict[Path, None]()
    for file, record, line, picture in _pictures(found):
        with packing.record(record, file):
            if picture is None:
                told = f"{file}, {record}: no picture {line[:200]}"
                raise RecordError("missing-picture", told)
            files[picture.absolute()] = None
    return list(files)


def _thing(
    packer: Packer, line: str, size: tuple[int, int], classes: Classes, values: int, where: str
) -> None:
    label, *shape = _numbers(line, where)
    if label not in range(len(classes)):
        told = f"{where} is of class {label:g}, but there are {len(classes)} names"
        raise RecordError("unknown-class", told)
    count, points = len(classes.keypoints), [0.0] * (3 * len(classes.keypoints))
    if len(shape) == 4 or (count and len(shape) == 4 + count * values):
        if len(shape) > 4:
            points = _keypoints(shape[4:], values, size)
        packer.thing(_box(shape[:4], size), int(label), keypoints=points)
    elif count or len(shape) < 6 or len(shape) % 2:
        more = f"{4 + count * values} a box with keypoints" if count else "6, 8, 10 ... a polygon"
        raise SightlineError(f"{where} has {len(shape)} numbers: 4 are a box, {more}")
    else:
        xs, ys = _pixels(shape[::2], size[1]), _pixels(shape[1::2], size[0])
        polygon = [number for point in zip(xs, ys, strict=True) for number in point]
        packer.thing((min(xs), min(ys), max(xs), max(ys)), int(label), polygons=[polygon])


def _numbers(line: str, where: str) -> list[float]:
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError as error:
        raise SightlineError(f"{where} is not a class and numbers: {line[:40]}") from error
    if not all(map(math.isfinite, numbers)):
        raise SightlineError(f"{where} has a number that is not finite")
    if max(map(abs, numbers[1:]), default=0) > _FARTHEST:
        raise SightlineError(f"{where} is in pixels: its numbers must lie between 0 and 1")
    return numbers


def _pixels(values: Sequence[float], side: int) -> list[float]:
    return [round(value * side, _DECIMALS) for value in values]


def _box(values: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """From centre and size."""
    (x, width), (y, height) = _pixels(values[::2], size[1]), _pixels(values[1::2], size[0])
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _keypoints(values: Sequence[float], each: int, size: tuple[int, int]) -> list[float]:
    """With visibility; where it is not told, a keypoint in the corner at 0, 0 is not labelled."""
    xs, ys = _pixels(values[::each], size[1]), _pixels(values[1::each], size[0])
    seen = values[2::each] if each == 3 else [2.0 * any(p) for p in zip(xs, ys, strict=True)]
    return [number for point in zip(xs, ys, seen, strict=True) for number in point]
