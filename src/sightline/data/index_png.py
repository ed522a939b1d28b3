"""A folder of pictures and a folder of maps of the same names, each pixel a number.

Maps of 8 bits, of palette entries or of colours are label maps: every value is a class, all of them
stuff. Maps of 16 bits number the things of a picture: 0 is the ground, every other value a thing,
and all things are of one class, "object".

What the values mean stands in a file beside: ``classes.txt`` or ``labels.txt`` has a class a line,
the first being value 0 (a number before the name is the value), ``label_colors.txt`` a colour and a
name, CVAT's ``labelmap.txt`` a name and a colour. Splits are those that ImageSets/Segmentation
lists, or else told by the folders. A class called void, unlabelled or ignore is none, nor is 255
where it has no name. Without such a file every map is read to see which values there are, and their
numbers are the names; where they are 0 and 255 alone, both are classes.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from scipy import ndimage

from sightline.data import runs
from sightline.data.find import (
    MAP_WORDS,
    TRIED,
    Pictures,
    by_lists,
    contents,
    is_file,
    picture_folders,
    read_lines,
    split_of,
    subfolders,
)
from sightline.data.images import DAMAGED, TOO_LARGE, image_size
from sightline.data.maps import Numbers, read_numbers, read_sized
from sightline.data.packed import MakePacker, Packed, Packer
from sightline.data.records import RecordError
from sightline.errors import SightlineError
from sightline.types import UNLABELLED, Classes

LOOKED_FOR = "index PNGs (images and masks or labels, train and trainannot)"
_SUFFIXES = {".png", ".bmp", ".tif", ".tiff", ".gif"}
_MAPS = re.compile(f"({'|'.join((*MAP_WORDS, 'mask', 'label', 'annotation'))})$", re.IGNORECASE)
_LEGENDS = ("classes.txt", "labels.txt", "label_colors.txt", "labelmap.txt")
_NONE = {"void", "unlabelled", "unlabeled", "ignore", "ignored"}


class Legend(NamedTuple):
    """The classes and the label of each value."""

    stuff: tuple[str, ...]
    meaning: dict[int, int]


def find(path: Path) -> dict[str, list[Path]]:
    """The maps of each split, by lists or by their folders; "all" is every one of them."""
    if not path.is_dir():
        return {}
    found: dict[str, list[Path]] = {}
    for folder in _map_folders(path):
        maps = [file for file in contents(folder) if file.suffix.lower() in _SUFFIXES]
        pictures = Pictures(_picture_folders(path, folder))
        if any(pictures.find(file.stem) for file in maps[:TRIED]):
            found.setdefault(_split(path, folder) or "all", []).extend(maps)
    every = [file for files in found.values() for file in files]
    listed = by_lists(path / "ImageSets" / "Segmentation", every) if every else {}
    return (listed or found) | {"all": every} if every else {}


def _map_folders(path: Path) -> list[Path]:
    """Folders named after maps ("masks", "trainannot", "train/labels"), and those of splits in
    them ("labels/train")."""
    opened = subfolders(path)
    folders = [*opened, *(inner for folder in opened for inner in subfolders(folder))]
    return [f for f in folders if any(map(_MAPS.search, f.relative_to(path).parts))]


def _split(path: Path, folder: Path) -> str | None:
    """ "trainannot" is one word to ``split_of``, and "train" is meant."""
    parts = [_MAPS.sub("", part) for part in folder.relative_to(path).parts]
    return split_of(" ".join(parts))


def _picture_folders(path: Path, folder: Path) -> list[Path]:
    bases = [*folder.parents[: len(folder.relative_to(path).parts)]]
    likely = picture_folders(bases, _split(path, folder))
    return [f for f in likely if not any(map(_MAPS.search, f.relative_to(path).parts))]


def read(
    path: Path, found: dict[str, list[Path]], wanted: Sequence[str], packer: MakePacker = Packer
) -> dict[str, Packed]:
    """The wanted splits; the classes are those of all maps.

    Raises:
        SightlineError: whatever is wrong in a file.
    """
    packing = packer(path, path, 0)
    maps: Sequence[Path] = list(dict.fromkeys(f for s in ("all", *wanted) for f in found[s]))
    legend = None
    if not _first_numbers_things(path, maps):
        legend, maps = _read_legend(path, maps, packing)
    kept = set(maps)
    return {
        split: _pack(path, [file for file in found[split] if file in kept], legend, packer)
        for split in wanted
    }


def _first_numbers_things(path: Path, maps: Sequence[Path]) -> bool:
    """Of the first map that can be read: another is told where it is needed."""
    for file in maps:
        with suppress(SightlineError):
            return _numbers_things(file)
    raise SightlineError(f"{path}: none of its {len(maps)} maps can be read as a picture")


def _numbers_things(file: Path) -> bool:
    """Whether it has 16 bits, by its header alone."""
    try:
        with Image.open(file) as image:
            return image.mode.startswith("I")
    except UnidentifiedImageError as error:
        told = f"cannot read {file} as a picture: unknown format"
        raise RecordError("unreadable-map", told) from error
    except (*DAMAGED, *TOO_LARGE) as error:
        raise RecordError("unreadable-map", f"cannot read {file}: {error}") from error


def _pack(path: Path, maps: Sequence[Path], legend: Legend | None, make: MakePacker) -> Packed:
    packer = make(path, path, 0)
    pictures = {
        f: Pictures(_picture_folders(path, f)) for f in dict.fromkeys(m.parent for m in maps)
    }
    for file in maps:
        with packer.record(file=file):
            picture = pictures[file.parent].need(str(file), file.stem)
            if not is_file(file):
                raise RecordError("unreadable-map", f"{file}: no such map")
            size = image_size(picture)
            numbers = _numbers(file, size) if legend is None else None
            packer.picture(picture.relative_to(path), size)
            if numbers is not None:
                _things(packer, file, numbers, size)
            if legend is not None:
                packer.label_map(file.relative_to(path), legend.meaning)
    if legend is None:
        return packer.finish(Classes(("object",)))
    return packer.finish(Classes((), stuff=legend.stuff))


def _numbers(file: Path, size: tuple[int, int]) -> Numbers:
    if not _numbers_things(file):
        raise SightlineError(f"{file} has 8 bits and others here have 16: are both things?")
    return read_sized(file, size)


def _things(packer: Packer, file: Path, numbers: Numbers, size: tuple[int, int]) -> None:
    """One for each number above 0, with all its parts and holes."""
    for value, window in enumerate(ndimage.find_objects(numbers), start=1):
        if window is not None:
            rows, columns = window
            block: NDArray[np.bool_] = numbers[window] == value
            lengths = runs.of_block(block, (rows.start, columns.start), size)
            box = (columns.start, rows.start, columns.stop, rows.stop)
            with packer.record(f"thing {value}", file):
                area = float(block.sum())  # at hand: a third of the reading is saved
                packer.thing(box, 0, area=area, counts=runs.compress(lengths))


def _read_legend(
    path: Path, maps: Sequence[Path], packing: Packer
) -> tuple[Legend, Sequence[Path]]:
    """From the file beside, or from the values in all maps; and the maps that can be read."""
    file = next((path / name for name in _LEGENDS if (path / name).is_file()), None)
    if file is None:
        values = packing.load(maps, _values)
        return _legend_of_values(path, values), list(values)
    return _legend_of_lines(file), maps


def _legend_of_lines(file: Path) -> Legend:
    names: dict[int, str] = {}
    lines = read_lines(file)
    if file.name == "labelmap.txt":  # a head, then "cat:128,0,0::"
        told = ((number, line) for number, line in lines if not line.startswith("#"))
        lines = [(number, " ".join(line.split(":")[1::-1])) for number, line in told]
    for number, line in lines:
        value, name = _entry(line, number - 1, f"{file}, line {number}")
        if value in names:
            raise SightlineError(f"{file}, line {number}: a second name for {value}")
        names[value] = name
    return _legend(names, str(file))


def _entry(line: str, number: int, where: str) -> tuple[int, str]:
    """Value and name: "road", "3 road", or a colour, "128 64 128 road"."""
    numbers, name = re.fullmatch(r"((?:\d+[\s,:]+)*)(.*)", line).groups()  # type: ignore[union-attr]
    values = [int(word) for word in re.findall(r"\d+", numbers)]
    if len(values) not in (0, 1, 3) or not name:
        raise SightlineError(f"{where}: neither a name, nor a number or a colour and a name")
    if len(values) == 3:
        red, green, blue = values
        return red + 256 * green + 65536 * blue, name
    return values[0] if values else number, name


def _values(file: Path) -> set[int]:
    return set(np.unique(read_numbers(file)).tolist())


def _legend_of_values(path: Path, found: Mapping[Path, set[int]]) -> Legend:
    values = set[int]()
    for file, of_map in found.items():
        values |= of_map
        if len(values) > UNLABELLED:
            raise SightlineError(
                f"{file}: more than {UNLABELLED} values in the maps so far; if they are colours, "
                f"name them in {path / 'label_colors.txt'}"
            )
    if values != {0, UNLABELLED}:
        values.discard(UNLABELLED)
    return _legend({value: str(value) for value in sorted(values)}, str(path))


def _legend(names: Mapping[int, str], where: str) -> Legend:
    classes = list(dict.fromkeys(n for n in names.values() if n.lower() not in _NONE))
    if not classes or len(classes) > UNLABELLED:
        raise SightlineError(f"{where} has {len(classes)} classes: between 1 and 255 can be told")
    places = {name: label for label, name in enumerate(classes)}
    meaning = {value: places.get(name, UNLABELLED) for value, name in names.items()}
    return Legend(tuple(classes), {UNLABELLED: UNLABELLED} | meaning)
