"""Detectron2's dataset dicts as JSON: one picture a line, or a list of them.

A box is x1, y1, x2, y2 (``bbox_mode`` 0) or x, y, width, height (1). Class names come from
``metadata.json`` (``thing_classes``, ``stuff_classes``, ``keypoint_names``) or ``classes.txt``
beside the file or in the data set's folder; without either the numbers are the names. Label maps
(``sem_seg_file_name``) number the stuff from 0, 255 is unlabelled; a segment of a panoptic map is a
thing or stuff as ``isthing`` says. Keypoints are taken in continuous coordinates, as Detectron2 has
them.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sightline.data.categories import mirrored
from sightline.data.find import (
    Pictures,
    by_name,
    head,
    is_file,
    of_kind,
    picture_folders,
    read_lines,
    subfolders,
)
from sightline.data.images import image_size
from sightline.data.packed import MakePacker, Packed, Packer
from sightline.data.records import RecordError, field, flag, load_json, size_of, told_id
from sightline.data.segmentation import box_around, read_box, read_keypoints, read_segmentation
from sightline.errors import SightlineError
from sightline.types import UNLABELLED, Classes, Segment

Record = dict[str, Any]
LOOKED_FOR = "JSON lines of Detectron2 (*.jsonl)"
_UNNAMED = "which has no name in metadata.json or classes.txt"
_LAYERS = ("annotations", "sem_seg_file_name", "pan_seg_file_name")


class Numbered(NamedTuple):
    """A record and where it stands."""

    file: Path
    name: str
    record: Record

    @property
    def where(self) -> str:
        return f"{self.file}, {self.name}"


def find(path: Path) -> dict[str, list[Path]]:
    """The files of each split, by file or folder name, and of "all"."""
    if path.is_file():
        right = path.suffix in (".json", ".jsonl") and _looks_right(path)
        return {"all": [path]} if right else {}
    folders, endings = [path, *subfolders(path)], ("*.jsonl", "*.json")
    files = (of_kind(folder, ending, _looks_right) for folder in folders for ending in endings)
    return by_name(path, [file for of_folder in files for file in of_folder])


def _looks_right(file: Path) -> bool:
    """The first line is a picture's record, or begins as one: with a file name before any list."""
    start = head(file).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not any(f'"{key}"'.encode() in start for key in _LAYERS):
        return False
    try:
        first = json.loads(start.split(b"\n", 1)[0])
    except (RecursionError, ValueError):
        first = None
    named = isinstance(first, dict) and "file_name" in first
    return named or re.match(rb'\[?\s*\{[^][]*"file_name"', start) is not None


def read(
    path: Path, found: dict[str, list[Path]], wanted: Sequence[str], packer: MakePacker = Packer
) -> dict[str, Packed]:
    """The wanted splits, with one list of classes.

    Raises:
        SightlineError: whatever is wrong in a file, with its line.
    """
    root = path.parent if path.is_file() else path
    packing = packer(root, root, 0)
    lines = packing.load(found["all"], _lines)
    records = {file: list(_records(file, of_file, packing)) for file, of_file in lines.items()}
    everything = [numbered for of_file in records.values() for numbered in of_file]
    classes = _classes([*dict.fromkeys([found["all"][0].parent, root])], everything)
    return {
        split: _pack(
            root, split, {f: records[f] for f in found[split] if f in records}, classes, packer
        )
        for split in wanted
    }


def _lines(file: Path) -> list[tuple[str, Any]]:
    """The name of each record, and its text; or itself, where the file is a list of them."""
    lines = read_lines(file)
    if lines and lines[0][1].startswith("["):
        return [(f"record {n}", record) for n, record in enumerate(load_json(file), start=1)]
    return [(f"line {n}", line) for n, line in lines]


def _records(file: Path, lines: Sequence[tuple[str, Any]], packing: Packer) -> Iterator[Numbered]:
    """Those that are no records are told."""
    for name, told in lines:
        good = None
        with packing.record(name, file):
            good = Numbered(file, name, _record(told, f"{file}, {name}"))
        if good is not None:
            yield good


def _record(told: Any, where: str) -> Record:
    record = _parse(told, where) if isinstance(told, str) else told
    if not isinstance(record, dict):
        raise SightlineError(f"{where} is no record of a picture: {record!s:.40}")
    things = record.get("annotations", [])
    if not isinstance(things, list) or not all(isinstance(thing, dict) for thing in things):
        raise SightlineError(f'{where} has "annotations" that are no list of records')
    return record


def _parse(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        told = f"{where}, column {error.colno}: broken JSON ({error.msg})"
        raise SightlineError(told) from error
    except (RecursionError, ValueError) as error:
        raise SightlineError(f"{where}: broken JSON ({error})") from error


def _classes(folders: Sequence[Path], records: Sequence[Numbered]) -> Classes:
    """As a file beside names them, or by their numbers."""
    told = _metadata(folders)
    texts = (folder / name for folder in folders for name in ("classes.txt", "thing_classes.txt"))
    lines = next((read_lines(file) for file in texts if file.is_file()), [])
    names = told["thing_classes"] or [line for _, line in lines]
    things = [thing for numbered in records for thing in numbered.record.get("annotations", [])]
    used = {
        thing.get("category_id") for thing in things if isinstance(thing.get("category_id"), int)
    }
    ids = range(len(names)) if names else sorted(used)
    points = [t["keypoints"] for t in things if isinstance(t.get("keypoints"), list)]
    count = len(points[0]) // 3 if points else 0
    keypoints = tuple(told["keypoint_names"] or map(str, range(count)))[:count]
    return Classes(
        names=tuple(names or map(str, ids)),
        ids=tuple(ids),
        stuff=tuple(told["stuff_classes"]),
        keypoints=keypoints,
        mirrored=mirrored(keypoints),
    )


def _metadata(folders: Sequence[Path]) -> dict[str, list[str]]:
    """The names in the first metadata.json there is; none of what it leaves out."""
    keys = "thing_classes", "stuff_classes", "keypoint_names"
    file = next((f / "metadata.json" for f in folders if (f / "metadata.json").is_file()), None)
    if file is None:
        return {key: [] for key in keys}
    metadata = load_json(file)
    if not isinstance(metadata, dict):
        raise SightlineError(f"{file} has no names of classes")
    found = {key: field({key: []} | metadata, key, list, str(file)) for key in keys}
    return {key: [str(name) for name in names] for key, names in found.items()}


def _pack(
    root: Path,
    split: str,
    records: dict[Path, list[Numbered]],
    classes: Classes,
    make: MakePacker,
) -> Packed:
    packer = make(root, root, len(classes.keypoints))
    for file, of_file in records.items():
        bases = dict.fromkeys([file.parent, root])
        pictures = Pictures(picture_folders(list(bases), None if split == "all" else split))
        for numbered in of_file:
            with packer.record(numbered.name, file):
                _pack_record(packer, numbered, pictures, classes)
    return packer.finish(classes)


def _pack_record(packer: Packer, numbered: Numbered, pictures: Pictures, classes: Classes) -> None:
    file, name, record = numbered
    where = numbered.where
    picture = _picture(record, file, pictures, where)
    size = size_of(record.get("height"), record.get("width"), where) or image_size(picture)
    packer.picture(_under(Path(packer.root), picture), size, told_id(record, "image_id"))
    for number, thing in enumerate(record.get("annotations", []), start=1):
        with packer.record(f"{name}, annotation {number}", file):
            _thing(packer, thing, classes, size, f"{where}, annotation {number}")
    with packer.record(f"{name}, its maps", file):
        _maps(packer, record, file, classes, where)


def _picture(record: Record, file: Path, pictures: Pictures, where: str) -> Path:
    """Where it says, from the file on; else of that name in the data set."""
    told = field(record, "file_name", str, where)
    exact = file.parent / told
    return exact if is_file(exact) else pictures.need(where, told)


def _under(root: Path, file: Path) -> Path:
    return file.relative_to(root) if file.is_relative_to(root) else file.absolute()


def _thing(
    packer: Packer, thing: Record, classes: Classes, size: tuple[int, int], where: str
) -> None:
    category = field(thing, "category_id", int, where)
    if category not in classes.ids:
        told = f"{where} is of category {category}, {_UNNAMED}"
        raise RecordError("unknown-class", told)
    polygons, counts = read_segmentation(thing.get("segmentation"), size, where)
    box = _box(thing, where) or box_around(polygons, counts, size)
    if box is None:
        raise SightlineError(f"{where} has neither bbox nor segmentation")
    packer.thing(
        box,
        classes.ids.index(category),
        ignore=flag(thing, "iscrowd", where),
        polygons=polygons,
        counts=counts,
        keypoints=read_keypoints(thing.get("keypoints"), packer.keypoints, where),
    )


def _box(thing: Record, where: str) -> tuple[float, float, float, float] | None:
    if thing.get("bbox") is None:
        return None
    x, y, across, down = read_box(thing["bbox"], where)
    match field(thing, "bbox_mode", int, where):
        case 0:
            return x, y, across, down
        case 1:
            return x, y, x + across, y + down
        case other:
            raise SightlineError(
                f"{where} has bbox_mode {other}: 0 (XYXY_ABS) and 1 (XYWH_ABS) are read"
            )


def _maps(packer: Packer, record: Record, file: Path, classes: Classes, where: str) -> None:
    """The label map and the panoptic map of the picture last taken in, if it has them."""
    root, things = Path(packer.root), len(classes)
    if record.get("sem_seg_file_name"):
        if not classes.stuff:
            raise SightlineError(
                f"{where} has a label map: name its classes in {file.parent / 'metadata.json'}, "
                "stuff_classes"
            )
        meaning = {value: things + value for value in range(len(classes.stuff))}
        path = _under(root, _map_file(record, "sem_seg_file_name", file, where))
        packer.label_map(path, {UNLABELLED: UNLABELLED} | meaning)
    if record.get("pan_seg_file_name"):
        infos = field(record, "segments_info", list, where)
        segments = [_segment(info, classes, where) for info in infos]
        if len({segment.id for segment in segments}) < len(segments):
            raise SightlineError(f"{where} has two segments of one id")
        path = _under(root, _map_file(record, "pan_seg_file_name", file, where))
        packer.panoptic_map(path, segments)


def _map_file(record: Record, key: str, file: Path, where: str) -> Path:
    """From the file on, as it is told."""
    path = file.parent / field(record, key, str, where)
    if not is_file(path):
        raise SightlineError(f"{where} has a {key} that is not there: {path}")
    return path


def _segment(info: Any, classes: Classes, where: str) -> Segment:
    """Things and stuff are numbered apart where ``isthing`` tells which it is, else on."""
    if not isinstance(info, dict):
        raise SightlineError(f"{where} has a segment that is no record: {info!s:.40}")
    number, category = field(info, "id", int, where), field(info, "category_id", int, where)
    told = info.get("isthing")
    thing = category in classes.ids if told is None else bool(told)
    label = classes.ids.index(category) if thing and category in classes.ids else category
    if told is not None and not thing:
        label = len(classes) + category
    if not 0 <= label < len(classes) + len(classes.stuff) or (thing and label >= len(classes)):
        raise SightlineError(f"{where} has a segment of category {category}, {_UNNAMED}")
    return Segment(number, label, thing, ignore=flag(info, "iscrowd", where))
