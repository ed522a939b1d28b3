"""The doctor's packer: notes what is wrong in a record and goes on; what it packs is mended."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline.data import flaws, runs
from sightline.data.flaws import Box, Flaw
from sightline.data.packed import Packed, Packer, encloses
from sightline.data.records import RecordError
from sightline.errors import SightlineError
from sightline.ops import boxes, masks
from sightline.types import Classes

_SAME_PLACE = 0.98  # IoU from which on two boxes are one


@dataclass
class _Thing:
    """What ``Packer.thing`` takes, and where it was read."""

    file: Path
    name: str
    box: Box
    label: int
    fields: dict[str, Any]


class Examiner(Packer):
    """Takes in what ``Packer`` does. A picture's things are held back until the next picture, so
    that they can be compared."""

    def __init__(
        self, told: list[Flaw], path: Path, source: str | Path, root: str | Path, keypoints: int = 0
    ) -> None:
        super().__init__(source, root, keypoints)
        self._told, self._path = told, path
        self._things: list[_Thing] = []
        self._named = set[tuple[Path, str]]()

    @contextmanager
    def record(self, name: str = "", file: Path | None = None) -> Iterator[None]:
        """What is wrong in it is noted, and the rest of it passed over."""
        with super().record(name, file):
            try:
                yield
            except SightlineError as error:
                kind = error.kind if isinstance(error, RecordError) else "broken-record"
                of_thing = len(self._records) > 1
                self._tell(kind, *self._records[-1], self._shortened(error), of_thing)

    def picture(
        self, path: str | Path, size: tuple[int, int], image_id: int | str | None = None
    ) -> None:
        self._settle()
        super().picture(path, size, image_id)

    def thing(self, box: Sequence[float], label: int, **fields: Any) -> None:
        """Examined, mended and held back."""
        thing = _Thing(*self._records[-1], _xyxy(box), label, fields)
        self._check_name(thing)
        size = self.sizes[-2], self.sizes[-1]
        found = list(flaws.check_box(box, size))
        for kind, message in found:
            self._note(thing, kind, message)
        self._check_polygons(thing, size)
        usable = all(flaws.KINDS[kind].mended != "left out" for kind, _ in found)
        self._check_keypoints(thing, size)
        if usable:
            thing.box = _clipped(thing.box, size)
            self._check_mask(thing, size)
            self._check_keypoints_in(thing)
            self._things.append(thing)

    def finish(self, classes: Classes) -> Packed:
        self._settle()
        return super().finish(classes)

    def _note(self, thing: _Thing, kind: str, message: str) -> None:
        self._tell(kind, thing.file, thing.name, message, of_thing=True)

    def _tell(self, kind: str, file: Path, name: str, message: str, of_thing: bool) -> None:
        """A thing is of the picture last taken in."""
        picture = relative(Path(self.root, self.paths[-1]), self._path) if of_thing else ""
        self._told.append(Flaw(kind, relative(file, self._path), name, picture, message))

    def _shortened(self, error: SightlineError) -> str:
        """Without the file and the name, which the flaw says beside."""
        file, name = self._records[-1]
        told = error.here if isinstance(error, RecordError) else str(error)
        for known in (str(file), name):
            told = told.removeprefix(known).lstrip(":, ") if known else told
        return told

    def _check_name(self, thing: _Thing) -> None:
        """Names in a file are ids, or places, which are not taken twice."""
        if (thing.file, thing.name) in self._named:
            self._note(thing, "duplicate-annotation-id", "its id is taken")
        self._named.add((thing.file, thing.name))

    def _check_polygons(self, thing: _Thing, size: tuple[int, int]) -> None:
        """A polygon that crosses itself or the picture's edge becomes the pixels it covers, which
        are what is trained on."""
        polygons = thing.fields.get("polygons") or ()
        found = list(flaws.check_polygons(polygons, size))
        for kind, message in found:
            self._note(thing, kind, message)
        if {"reaching-mask", "crossing-polygon"}.intersection(kind for kind, _ in found):
            outlines = [torch.tensor(p, dtype=torch.float64) for p in polygons if encloses(p)]
            rle = masks.from_polygons([outline.view(-1, 2) for outline in outlines], size)
            thing.fields |= {"polygons": (), "counts": rle["counts"]}

    def _check_mask(self, thing: _Thing, size: tuple[int, int]) -> None:
        """Where mask and box disagree the mask is believed: it is the finer work."""
        mask_box = _mask_box(thing.fields, size)
        if mask_box is None:
            return
        for kind, message in flaws.check_mask(_clipped(mask_box, size), thing.box):
            self._note(thing, kind, message)
            thing.box = _clipped(mask_box, size)

    def _check_keypoints(self, thing: _Thing, size: tuple[int, int]) -> None:
        keypoints = _triples(thing.fields.get("keypoints", ()))
        for place, kind, message in flaws.check_keypoints(keypoints, size):
            self._note(thing, kind, message)
            keypoints[place] = (0.0, 0.0, 0.0)
        if keypoints:
            thing.fields["keypoints"] = [value for point in keypoints for value in point]

    def _check_keypoints_in(self, thing: _Thing) -> None:
        """Here too the finer work is believed: the box is widened."""
        keypoints = _triples(thing.fields.get("keypoints", ()))
        for place, kind, message in list(flaws.check_keypoints_in(thing.box, keypoints)):
            self._note(thing, kind, message)
            (x, y, _), (x1, y1, x2, y2) = keypoints[place], thing.box
            thing.box = min(x, x1), min(y, y1), max(x, x2), max(y, y2)

    def _settle(self) -> None:
        """Compare the things of a picture and pack them."""
        twice = self._twice()
        for place, thing in enumerate(self._things):
            if place not in twice:
                super().thing(thing.box, thing.label, **thing.fields)
        self._things.clear()

    def _twice(self) -> set[int]:
        """Of two boxes of one class in one place the second is one too many."""
        things = self._things
        twice = set[int]()
        if len(things) < 2:
            return twice
        rows = torch.tensor([thing.box for thing in things], dtype=torch.float64)
        near = np.triu(boxes.iou(rows, rows).numpy() > _SAME_PLACE, 1)
        for first, second in np.argwhere(near).tolist():
            one, other = things[first], things[second]
            if {first, second} & twice or _ignored(one) != _ignored(other):
                continue
            same = one.label == other.label
            told = f"its box is that of {one.name}"
            if same:
                self._note(other, "duplicate-box", told)
                twice.add(second)
            else:
                self._note(other, "two-classes", f"{told}, of another class")
        return twice

    def _warn(self) -> None:
        """What was clipped and dropped has been noted one by one."""


def relative(file: Path, path: Path) -> str:
    """As told: from the data set on, where it lies inside."""
    root, lies = (path.parent if path.is_file() else path).absolute(), file.absolute()
    return lies.relative_to(root).as_posix() if lies.is_relative_to(root) else file.as_posix()


def _ignored(thing: _Thing) -> bool:
    return bool(thing.fields.get("ignore"))


def _xyxy(box: Sequence[float]) -> Box:
    x1, y1, x2, y2 = box
    return x1, y1, x2, y2


def _clipped(box: Box, size: tuple[int, int]) -> Box:
    x1, y1, x2, y2 = box
    height, width = size
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))


def _triples(values: Sequence[float]) -> list[tuple[float, float, float]]:
    return list(zip(values[::3], values[1::3], values[2::3], strict=True))


def _mask_box(fields: dict[str, Any], size: tuple[int, int]) -> Box | None:
    """The tight box of a thing's mask, None where it has none."""
    enclosing = [p for p in fields.get("polygons") or () if encloses(p)]
    if enclosing:
        points = np.concatenate([np.array(p).reshape(-1, 2) for p in enclosing])
        return _xyxy([*points.min(0).tolist(), *points.max(0).tolist()])
    if not fields.get("counts"):
        return None
    box = runs.box(runs.expand(fields["counts"]), size[0])
    return box if box[2] > box[0] else None
