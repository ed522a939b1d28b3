"""YOLO's description of a data set: ``data.yaml``, or a file of class names.

Every value is taken as the text it is: a class that is called "no" or "1" keeps its name, and
nothing in the file can be more than text, a list or a dictionary.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from sightline.data.categories import mirrored
from sightline.data.find import head, read_lines, split_of
from sightline.errors import SightlineError
from sightline.types import Classes

Document = dict[Any, Any]
_NOTHING = ("", "~", "null", "None")
_MOST = 1 << 16  # classes or keypoints: beyond, it is a slip


def looks_right(file: Path) -> bool:
    """Whether a YAML of any name may describe a data set, by its first lines."""
    start = head(file)
    wanted = (rb"names|nc", rb"train|trainval|val|valid|validation|test")
    return all(re.search(rb"^[\"']?(%b)[\"']?\s*:" % key, start, re.MULTILINE) for key in wanted)


def read_yaml(file: Path) -> Document:
    """
    Raises:
        SightlineError: it cannot be read, or is no dictionary.
    """
    try:
        document = yaml.load(file.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "an odd character"
        raise SightlineError(f"{file}{where}: broken YAML ({problem})") from error
    except UnicodeDecodeError as error:
        raise SightlineError(f"{file}: broken YAML (not a text in UTF-8)") from error
    except RecursionError as error:
        raise SightlineError(f"{file}: broken YAML (nested too deeply)") from error
    except OSError as error:
        raise SightlineError(f"cannot read {file}: {error.strerror}") from error
    if not isinstance(document, dict):
        raise SightlineError(f"{file} has no keys: not a description of a data set")
    return document


def read_splits(document: Document, file: Path) -> dict[str, list[str]]:
    """The folders and lists told for each split.

    Raises:
        SightlineError: what is told for one is neither a path nor a list of paths.
    """
    told: dict[str, list[str]] = {}
    for key, value in document.items():
        split = split_of(key) if isinstance(key, str) and key.isalpha() else None
        if split is None or value in _NOTHING:
            continue
        entries = value if isinstance(value, list) else [value]
        if not all(isinstance(entry, str) for entry in entries):
            raise SightlineError(f'{file}: "{key}" is neither a path nor a list of paths')
        told.setdefault(split, entries)
    return told


def read_classes(document: Document, file: Path) -> tuple[Classes, int]:
    """The classes, and how many numbers each keypoint has: 2 (x, y), 3 (and visibility), or 0.

    Raises:
        SightlineError: names or keypoints are absent or contradict one another.
    """
    names = _distinct(_names(document, file), file)
    if "kpt_shape" not in document:
        return Classes(names), 0
    count, values = _whole(document["kpt_shape"], f'{file}: "kpt_shape"', 2)
    if not (0 < count <= _MOST and values in (2, 3)):
        raise SightlineError(f'{file}: "kpt_shape" is not a number of keypoints, then 2 or 3')
    keypoints = _keypoint_names(document.get("kpt_names"), count)
    flip = mirrored(keypoints)
    if "flip_idx" in document:
        flip = tuple(_whole(document["flip_idx"], f'{file}: "flip_idx"', count))
        if sorted(flip) != list(range(count)):
            raise SightlineError(f'{file}: "flip_idx" does not give each keypoint a counterpart')
    return Classes(names, keypoints=keypoints, mirrored=flip), values


def _names(document: Document, file: Path) -> list[str]:
    told, count = document.get("names"), None
    if "nc" in document:
        (count,) = _whole([document["nc"]], f'{file}: "nc"', 1)
    if told is None and count is not None and 0 < count <= _MOST:
        return [f"class_{number}" for number in range(count)]
    if isinstance(told, dict):
        numbers = _whole(list(told), f'{file}: the keys of "names"', len(told))
        if sorted(numbers) != list(range(len(told))):
            raise SightlineError(f'{file}: the keys of "names" do not count from 0')
        told = [name for _, name in sorted(zip(numbers, told.values(), strict=True))]
    if not isinstance(told, list) or not all(isinstance(name, str) for name in told):
        raise SightlineError(f'{file}: "names" is no list of names')
    if count not in (None, len(told)):
        raise SightlineError(f'{file}: "nc" is {count}, but there are {len(told)} names')
    return told


def _keypoint_names(told: Any, count: int) -> tuple[str, ...]:
    """Those of the first class where they are told for each, as keypoints are common to all."""
    if isinstance(told, dict) and told:
        told = next(iter(told.values()))
    if isinstance(told, list) and len(told) == count and all(isinstance(n, str) for n in told):
        return tuple(told)
    return tuple(f"keypoint_{number}" for number in range(count))


def _whole(values: Any, where: str, count: int) -> list[int]:
    if isinstance(values, list) and len(values) == count:
        words = [value if isinstance(value, str) else "" for value in values]
        if all(re.fullmatch(r"[0-9]{1,9}", word) for word in words):
            return list(map(int, words))
    raise SightlineError(f"{where} is not {count} whole number{'' if count == 1 else 's'}")


def read_names(file: Path) -> tuple[str, ...]:
    """A name a line.

    Raises:
        SightlineError: it cannot be read, has no name, or one twice.
    """
    return _distinct([line for _, line in read_lines(file)], file)


def _distinct(names: list[str], file: Path) -> tuple[str, ...]:
    if not names:
        raise SightlineError(f"{file} has no name of a class")
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise SightlineError(f'{file}: {times} classes are called "{name}"')
    return tuple(names)
