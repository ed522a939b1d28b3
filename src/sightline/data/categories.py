"""COCO's categories and our classes, both ways."""

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.data.packed import DataWarning
from sightline.data.records import field
from sightline.errors import SightlineError
from sightline.types import Classes

Category = dict[str, Any]
Skeleton = tuple[tuple[int, int], ...]


def read_categories(
    documents: Mapping[Path, dict[str, Any]],
) -> tuple[Classes, dict[int, int]]:
    """The categories of all the files of a data set, in the order of their ids, and the label of
    each id: of the things, then of the stuff (what panoptic files say is no thing).

    Raises:
        SightlineError: an id with two names, or a name with two ids.
    """
    categories: dict[int, Category] = {}
    for path, document in documents.items():
        for category in document.get("categories", []):
            where = f"{path}: category {category.get('id')}"
            number, name = field(category, "id", int, where), field(category, "name", str, where)
            known = categories.setdefault(number, category)["name"]
            if known != name:
                raise SightlineError(f'{where} is "{name}" here and "{known}" elsewhere')
    named = (n for d in documents.values() for record in d["annotations"] for n in _named(record))
    used = {number for number in named if isinstance(number, int | float)}
    kept = {n: c for n, c in sorted(categories.items()) if not _is_umbrella(n, categories, used)}
    where = ", ".join(map(str, documents))
    _check_names(kept, where)
    things = {n: c for n, c in kept.items() if c.get("isthing", 1) != 0}
    stuff = {n: c for n, c in kept.items() if n not in things}
    keypoints, skeleton = _keypoints(list(things.values()), where)
    classes = Classes(
        names=tuple(category["name"] for category in things.values()),
        ids=tuple(things),
        stuff=tuple(category["name"] for category in stuff.values()),
        stuff_ids=tuple(stuff),
        keypoints=keypoints,
        mirrored=mirrored(keypoints),
        skeleton=skeleton,
    )
    return classes, {number: label for label, number in enumerate([*things, *stuff])}


def _named(record: Category) -> list[Any]:
    """The categories that an annotation, or its segments, are of."""
    segments = record.get("segments_info")
    inside = segments if isinstance(segments, list) else []
    return [r.get("category_id") for r in [record, *inside] if isinstance(r, dict)]


def _is_umbrella(number: int, categories: Mapping[int, Category], used: set[Any]) -> bool:
    """Exports by Roboflow list, as category 0, a parent that no annotation uses."""
    if number in used:
        return False
    name = categories[number]["name"]
    return any(c.get("supercategory") == name for n, c in categories.items() if n != number)


def _check_names(categories: Mapping[int, Category], where: str) -> None:
    numbers: dict[str, int] = {}
    for number, category in categories.items():
        first = numbers.setdefault(category["name"], number)
        if first != number:
            raise SightlineError(
                f'{where}: categories {first} and {number} are both "{category["name"]}"'
            )


def _keypoints(categories: Sequence[Category], where: str) -> tuple[tuple[str, ...], Skeleton]:
    """Names, and the skeleton counted from 0. Classes with unlike keypoints share no tensor.

    Warns:
        DataWarning: there are such.
    """
    marked = [category for category in categories if category.get("keypoints")]
    kinds = {tuple(map(str, field(c, "keypoints", list, where))): c for c in marked}
    if len(kinds) > 1:
        told = f"{where}: its classes have different keypoints, which are left out"
        warnings.warn(told, DataWarning, stacklevel=2)
    if len(kinds) != 1:
        return (), ()
    names, category = kinds.popitem()
    pairs = field(category, "skeleton", list, where) if category.get("skeleton") else []
    numbers = range(1, len(names) + 1)
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(n in numbers for n in pair):
            raise SightlineError(f"{where}: a skeleton that does not pair its keypoints: {pair}")
    return names, tuple((int(first) - 1, int(second) - 1) for first, second in pairs)


def mirrored(names: Sequence[str]) -> tuple[int, ...]:
    """Which keypoint each becomes in a mirror, by name: left_eye and right_eye, "LEar" does not
    count but "l_ear" and "ear.R" do; one without a counterpart that leads back to it stays, as one
    of two that are named alike."""
    places = {name: place for place, name in enumerate(names)}
    others = [places.get(_other_side(name), place) for place, name in enumerate(names)]
    return tuple(other if others[other] == place else place for place, other in enumerate(others))


_SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}


def _other_side(name: str) -> str:
    """ "left" or "right" anywhere, else a lone "l" or "r" at either end, behind a separator."""
    swapped = re.sub("left|right", _swap, name, flags=re.IGNORECASE)
    if swapped != name:
        return swapped
    return re.sub(r"^[lr](?=[_\-. ])|(?<=[_\-. ])[lr]$", _swap, name, flags=re.IGNORECASE)


def _swap(match: re.Match[str]) -> str:
    """The other side, in upper, lower or title case as it was."""
    word = match.group()
    other = _SIDES[word.lower()]
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other


def write_categories(classes: Classes, stuff: bool) -> list[Category]:
    """COCO's records: with the stuff and who is a thing, as panoptic files have it, or without."""
    numbers, names = [*classes.ids, *classes.stuff_ids], [*classes.names, *classes.stuff]
    categories: list[Category] = [
        {"id": number, "name": name} for number, name in zip(numbers, names, strict=True)
    ]
    if classes.keypoints:
        skeleton = [[first + 1, second + 1] for first, second in classes.skeleton]
        for category in categories[: len(classes)]:
            category |= {"keypoints": list(classes.keypoints), "skeleton": skeleton}
    if not stuff:
        return categories[: len(classes)]
    return [c | {"isthing": int(place < len(classes))} for place, c in enumerate(categories)]
