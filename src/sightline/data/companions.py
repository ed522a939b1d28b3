"""What COCO says about whole pictures, in files of their own: panoptic maps and captions.

``panoptic_val.json`` and ``captions_val.json`` are read with the ``instances_val.json`` beside
them, for the pictures that it lists. A picture without a map is void all over.
"""

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sightline.data.find import contents
from sightline.data.packed import DataWarning, Packer
from sightline.data.records import field, flag
from sightline.errors import SightlineError
from sightline.types import Segment

Record = dict[str, Any]
ROLES = ("panoptic", "captions")


def role_of(document: Record) -> str:
    """What an annotation file is about, by its first annotation: things, panoptic, captions. One
    without any is about things: its pictures have none."""
    first: Record = next(iter(document["annotations"]), {})
    if "segments_info" in first:
        return "panoptic"
    return "captions" if "caption" in first else "things"


def companions(path: Path) -> dict[str, Path]:
    """The files beside an instances file, by their role.

    Warns:
        DataWarning: panoptic maps are listed, but their folder is not there.
    """
    if not path.name.lower().startswith("instances"):
        return {}
    named = {role: path.with_name(role + path.name[len("instances") :]) for role in ROLES}
    found = {role: file for role, file in named.items() if file.is_file()}
    if "panoptic" in found and map_folder(found["panoptic"]) is None:
        told = f"{found.pop('panoptic')} is left out: the folder of its PNGs is not there"
        warnings.warn(told, DataWarning, stacklevel=4)
    return found


def map_folder(path: Path) -> Path | None:
    """Where the PNGs of a panoptic file lie: in a folder of its name, beside it or its folder."""
    folders = path.parent / path.stem, path.parent.parent / path.stem
    return next((folder for folder in folders if folder.is_dir()), None)


class Maps(NamedTuple):
    """Where the panoptic maps of a file lie, and what it calls the categories."""

    file: Path
    folder: Path
    names: frozenset[str]  # of the files in it
    labels: Mapping[int, int]  # of things and stuff, by category
    things: int  # how many of the labels are of things

    @classmethod
    def of(cls, file: Path, labels: Mapping[int, int], things: int) -> "Maps":
        folder = map_folder(file)
        if folder is None:
            raise SightlineError(f"{file} has no folder {file.stem} of PNGs beside it")
        return cls(file, folder, frozenset(file.name for file in contents(folder)), labels, things)

    def put(self, packer: Packer, records: Sequence[Record]) -> None:
        """The map of the picture last taken in, if it has one."""
        for record in records:
            where = f"{self.file}: the map of image {record['image_id']}"
            name = re.split(r"[\\/]", field(record, "file_name", str, where))[-1]
            if len(records) > 1:
                raise SightlineError(f"{where} is one of {len(records)}: which one counts?")
            if name not in self.names:
                raise SightlineError(f"{where}, {name}, is not there (looked in {self.folder})")
            infos = field(record, "segments_info", list, where)
            segments = [self._segment(info, where) for info in infos]
            if len({segment.id for segment in segments}) < len(segments):
                raise SightlineError(f"{where} has two segments of one id")
            packer.panoptic_map(os.path.relpath(self.folder / name, packer.root), segments)

    def _segment(self, info: Any, where: str) -> Segment:
        if not isinstance(info, dict):
            raise SightlineError(f"{where} has a segment that is no record: {info!s:.40}")
        number, category = field(info, "id", int, where), field(info, "category_id", int, where)
        where = f"{where}, segment {number},"
        if category not in self.labels:
            raise SightlineError(f"{where} is of category {category}, which is not listed")
        if not 0 < number < 1 << 24:
            raise SightlineError(f"{where} has an id that no PNG can hold")
        label = self.labels[category]
        return Segment(number, label, label < self.things, ignore=flag(info, "iscrowd", where))


def put_captions(packer: Packer, records: Sequence[Record], file: Path) -> None:
    """The sentences about the picture last taken in."""
    if records:
        where = [f"{file}: annotation {record.get('id')}" for record in records]
        told = zip(records, where, strict=True)
        packer.say([field(record, "caption", str, place).strip() for record, place in told])


def warn_of_strangers(
    file: Path, records: Mapping[int | str, Sequence[Record]], known: Mapping[int | str, Any]
) -> None:
    """Pictures that a companion speaks of and the instances file does not list.

    Warns:
        DataWarning: there are such.
    """
    strange = sum(1 for image_id, said in records.items() if said and image_id not in known)
    if strange:
        told = f"{file} speaks of {strange} pictures that its instances file does not list"
        warnings.warn(f"{told}: they are left out", DataWarning, stacklevel=4)
