"""Label Studio's JSON export: a list of tasks, each a picture with the regions of its annotations.

Places are in percent of the picture. Rectangles are boxes, turned ones also polygons; polygons,
ellipses and brush strokes are masks too. Key points are no things: they are left out, and counted
in a warning. Of several annotations of a task the last counts that was not cancelled; a task
without one was not labelled, and its picture is left out. Classes are the labels found in all
files, sorted.
"""

import re
import urllib.parse
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.find import Pictures, by_name, head, of_kind, picture_folders, subfolders
from sightline.data.images import SUFFIXES, image_size
from sightline.data.packed import DataWarning, MakePacker, Packed, Packer
from sightline.data.parts import Part, block, ellipse, polygon, turned
from sightline.data.records import field, load_json, numbers, size_of, told_id
from sightline.errors import SightlineError
from sightline.types import Classes

Record = dict[str, Any]
LOOKED_FOR = "Label Studio JSON (its export)"
_LARGEST_BRUSH = 1 << 30  # bytes
_PLACES = {"x", "points", "rle", "imageDataURL", "vertices"}  # what a region has that has a place
_LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "labels")


def find(path: Path) -> dict[str, list[Path]]:
    """The files of each split, by file or folder name, and of "all"."""
    if path.is_file():
        return {"all": [path]} if path.suffix == ".json" and _looks_right(path) else {}
    folders = [path, *subfolders(path)]
    return by_name(path, [f for folder in folders for f in of_kind(folder, "*.json", _looks_right)])


def _looks_right(file: Path) -> bool:
    start = head(file).removeprefix(b"\xef\xbb\xbf").lstrip()
    return start.startswith(b"[") and b'"annotations"' in start and b'"result"' in start


def read(
    path: Path, found: dict[str, list[Path]], wanted: Sequence[str], packer: MakePacker = Packer
) -> dict[str, Packed]:
    """The wanted splits; the classes are those of all files.

    Raises:
        SightlineError: whatever is wrong in a file, with its task and region.

    Warns:
        DataWarning: key points, regions without a label that is known here, or tasks that nobody
            labelled were left out.
    """
    root = path.parent if path.is_file() else path
    tasks = packer(root, root, 0).load(found["all"], _load)
    labelled = {file: [t for t in of if _regions(t) is not None] for file, of in tasks.items()}
    all_labelled = [task for of_file in labelled.values() for task in of_file]
    regions = [region for task in all_labelled for region in _regions(task) or []]
    names = sorted({name for region in regions for name in _names(region)})
    if not names:
        raise SightlineError(f"{path} has no regions in its {len(tasks)} Label Studio files")
    left_out = {
        "tasks without an annotation": sum(map(len, tasks.values()))
        - sum(map(len, labelled.values())),
        "key points": sum("keypointlabels" in _value(region) for region in regions),
        "regions without a label that is read": sum(
            _unlabelled(_regions(t) or []) for t in all_labelled
        ),
    }
    told = [f"{count} {what}" for what, count in left_out.items() if count]
    if told:
        warnings.warn(f"{path}: {', '.join(told)} left out", DataWarning, stacklevel=2)
    return {
        split: _pack(
            root, split, {f: labelled[f] for f in found[split] if f in labelled}, names, packer
        )
        for split in wanted
    }


def _load(file: Path) -> list[Record]:
    tasks = load_json(file)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise SightlineError(f"{file} is no list of tasks: not an export of Label Studio")
    return tasks


def _regions(task: Record) -> list[Any] | None:
    """Of the last annotation that was not cancelled; None where there is none."""
    annotations = task.get("annotations")
    for annotation in reversed(annotations if isinstance(annotations, list) else []):
        if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
            regions = annotation.get("result")
            return regions if isinstance(regions, list) else []
    return None


def _value(region: Any) -> Record:
    value = region.get("value") if isinstance(region, dict) else None
    return value if isinstance(value, dict) else {}


def _names(region: Any) -> list[str]:
    """The labels of a region; none of what is no region (a choice, a text, a key point)."""
    named = (_value(region).get(key) for key in _LABELS)
    return [str(name) for names in named if isinstance(names, list) for name in names]


def _unlabelled(regions: Sequence[Any]) -> int:
    """How many places have no label. Shape and label may stand in two regions of one id."""
    named = {str(region.get("id")) for region in regions if _names(region)}
    placed = {
        str(region.get("id", number))
        for number, region in enumerate(regions)
        if isinstance(region, dict) and _PLACES & _value(region).keys()
    }
    points = {str(r.get("id")) for r in regions if "keypointlabels" in _value(r)}
    return len(placed - named - points)


def _pack(
    root: Path, split: str, tasks: dict[Path, list[Record]], names: list[str], make: MakePacker
) -> Packed:
    labels = {name: label for label, name in enumerate(names)}
    packer = make(root, root, 0)
    for file, of_file in tasks.items():
        bases = dict.fromkeys([file.parent, root])
        pictures = Pictures(picture_folders(list(bases), None if split == "all" else split))
        for task in of_file:
            name = f"task {task.get('id')}"
            with packer.record(name, file):
                _task(packer, task, name, labels, pictures, file)
    return packer.finish(Classes(tuple(names)))


def _task(
    packer: Packer,
    task: Record,
    record: str,
    labels: dict[str, int],
    pictures: Pictures,
    file: Path,
) -> None:
    where = f"{file}: {record}"
    picture = pictures.need(where, *_file_names(task, where))
    said = _regions(task) or []
    if not all(isinstance(region, dict) for region in said):
        raise SightlineError(f"{where} has a region that is no record")
    regions = [region for region in said if _names(region)]
    first: Record = next(iter(regions), {})
    size = size_of(first.get("original_height"), first.get("original_width"), where)
    size = size or image_size(picture)
    packer.picture(picture.relative_to(packer.root), size, told_id(task, "id"))
    labelled = ((region, label) for region in regions for label in _names(region))
    for region, label in labelled:
        several = f" ({label})" if len(_names(region)) > 1 else ""
        name = f"{record}, region {region.get('id')}{several}"
        with packer.record(name, file):
            part = _part(region, size, f"{file}: {name}")
            packer.thing(part.box, labels[label], polygons=part.polygons, counts=part.counts)


def _file_names(task: Record, where: str) -> Iterator[str]:
    """The names that the address of a picture stands for. An upload has eight digits before its
    name, and its picture may have them or not, in any folder; local files are asked for as
    "?d=folder/name"."""
    data = field(task, "data", dict, where)
    addresses = [text for text in data.values() if isinstance(text, str)]
    pictures = [text for text in addresses if Path(_path(text)).suffix.lower() in SUFFIXES]
    address = data["image"] if isinstance(data.get("image"), str) else next(iter(pictures), "")
    if not address:
        raise SightlineError(f'{where} has no picture in its "data"')
    name = _path(address)
    yield name
    if upload := re.search(r"(?:^|/)([0-9a-f]{8}-([^/]+))$", name):
        yield from upload.groups()


def _path(address: str) -> str:
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError:  # no address, but a name with brackets in it
        return address
    asked = urllib.parse.parse_qs(parts.query).get("d")
    return asked[0] if asked else urllib.parse.unquote(parts.path)


def _part(region: Record, size: tuple[int, int], where: str) -> Part:
    value, (height, width) = _value(region), size
    told = region.get("original_height", height), region.get("original_width", width)
    if told != size:
        raise SightlineError(
            f"{where} is of a picture of {told[1]}x{told[0]}, not {width}x{height}"
        )
    if region.get("image_rotation"):
        raise SightlineError(f"{where} was drawn on a turned picture: turn the file, draw it anew")
    if "rle" in value:
        return block(brush(value["rle"], size, where), (0, 0), size)
    if "points" in value:
        pairs = field(value, "points", list, where)
        if len(pairs) < 3 or not all(isinstance(p, list) and len(p) == 2 for p in pairs):
            raise SightlineError(f"{where} is a polygon of fewer than three points")
        points = np.array(numbers([c for p in pairs for c in p], where, "points")).reshape(-1, 2)
        return polygon((points * (width / 100, height / 100)).flatten().tolist())
    sides = ("radiusX", "radiusY") if "radiusX" in value else ("width", "height")
    given = [value.get(key) for key in ("x", "y", *sides, "rotation")]
    x, y, across, down, degrees = numbers([*given[:4], given[4] or 0], where, f"x, y, {sides}")
    x, across, y, down = (
        v * s / 100
        for v, s in zip((x, across, y, down), (width, width, height, height), strict=True)
    )
    if "radiusX" in value:
        return ellipse(x, y, across, down, degrees)
    return turned((x, y, x + across, y + down), degrees, (x, y))


def brush(rle: Any, size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """The pixels that a brush has covered at least by half: the alpha of a picture of four bytes a
    pixel, in the code of thi.ng's rle-pack.

    A stream of bits, highest first: 32 for the number of values, 5 for the bits of a value less
    one (7), four times 4 for the bits of a length less one. Then runs: 1 bit whether one value is
    repeated, 2 bits which of the four lengths follows, the length less one, and the value, or as
    many values.

    Raises:
        SightlineError: it is broken, or of another size; the line begins with ``where``.
    """
    if not isinstance(rle, list) or not all(isinstance(v, int) and 0 <= v < 256 for v in rle):
        raise SightlineError(f'{where} has an "rle" that is no list of bytes')
    bits = np.unpackbits(np.array(rle, np.uint8))
    total, at = 4 * size[0] * size[1], 0

    def take(count: int, width: int) -> NDArray[np.int64]:
        nonlocal at
        at += count * width
        if at > len(bits):
            raise SightlineError(f'{where} has an "rle" that is cut short')
        words = bits[at - count * width : at].reshape(count, width).astype(np.int64)
        return words @ (1 << np.arange(width - 1, -1, -1))

    if take(1, 32)[0] != total or take(1, 5)[0] != 7 or total > _LARGEST_BRUSH:
        raise SightlineError(f'{where} has an "rle" that is not of {size[1]}x{size[0]} pixels')
    lengths = take(4, 4) + 1
    values, done = np.zeros(total, np.uint8), 0
    while done < total:
        repeated = take(1, 1)[0]
        count = int(take(1, int(lengths[take(1, 2)[0]]))[0]) + 1
        if done + count > total:
            raise SightlineError(f'{where} has an "rle" longer than its picture')
        values[done : done + count] = take(1 if repeated else count, 8)
        done += count
    return values.reshape(*size, 4)[..., 3] >= 128
