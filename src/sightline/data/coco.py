"""COCO's JSON: boxes, polygons, run-length masks, crowds and keypoints, read and written.

A crowd (``iscrowd``) becomes an ignore region. Category ids may have gaps: classes are counted from
0 in the order of their ids, and the ids are kept in ``Classes.ids``. Pictures without annotations
are kept: they are pure background.
"""

import json
import math
import os
import re
import shutil
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from sightline.data import rle
from sightline.data.find import Pictures, split_of, subfolders
from sightline.data.images import image_size
from sightline.data.packed import Dataset, DataWarning, Packed, Packer
from sightline.errors import SightlineError
from sightline.types import Classes, Panoptic, Polygons, Rle, Scene

LOOKED_FOR = "COCO JSON (annotations/*.json, *.json or train/*.json)"
_OTHER_TASKS = ("captions", "panoptic", "stuff", "image_info")
_PREFERRED = ("instances", "", "person_keypoints")  # "" is any other name


def find(path: Path) -> dict[str, Path]:
    """The annotation file of each split, by file or folder name; "all" where a name tells no split.

    ``path`` is a data set's folder, or one annotation file, which brings its siblings of the same
    name but for the split ("person_keypoints_train.json" brings "person_keypoints_val.json").

    Raises:
        SightlineError: two files claim one split.
    """
    if path.is_file():
        return _siblings(path) if path.suffix == ".json" else {}
    claims: dict[str, list[Path]] = defaultdict(list)
    for folder in [path, *subfolders(path)]:
        for file in sorted(folder.glob("*.json")):
            if not file.stem.lower().startswith(_OTHER_TASKS):
                claims[split_of(file.stem) or split_of(folder.name) or "all"].append(file)
    if set(claims) > {"all"}:
        claims.pop("all", None)
    return {split: _preferred(path, split, files) for split, files in claims.items()}


def _siblings(path: Path) -> dict[str, Path]:
    def without_split(name: str) -> str:
        return re.sub(r"trainval|train|validation|valid|val|test", "", name.lower())

    family = without_split(path.name)
    alike = [file for file in path.parent.glob("*.json") if without_split(file.name) == family]
    return {split_of(file.stem) or "all": file for file in [*sorted(alike), path]}


def _preferred(root: Path, split: str, files: list[Path]) -> Path:
    def kind(file: Path) -> str:
        return next((k for k in _PREFERRED if k and file.stem.lower().startswith(k)), "")

    for wanted in _PREFERRED:
        matching = [file for file in files if kind(file) == wanted]
        if len(matching) > 1:
            names = ", ".join(str(file.relative_to(root)) for file in matching)
            raise SightlineError(
                f"{root} has several annotation files for {split}: {names}; give the one you mean"
            )
        if matching:
            return matching[0]
    raise AssertionError("every file is of some kind")


def read(path: Path, found: dict[str, Path], wanted: Sequence[str]) -> dict[str, Packed]:
    """The wanted splits, with one list of classes: the categories of all their files."""
    documents = {split: _load(found[split]) for split in wanted}
    classes = _classes({found[split]: document for split, document in documents.items()})
    return {
        split: _pack(document, found[split], classes, _pictures(found[split], split))
        for split, document in documents.items()
    }


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise SightlineError(f"{path}, {where}: broken JSON ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise SightlineError(f"{path}: not a text file in UTF-8") from error
    except OSError as error:
        raise SightlineError(f"cannot read {path}: {error.strerror}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise SightlineError(f'{path} has no list "{key}": not a COCO annotation file')
    for key in ("images", "annotations", "categories"):
        if not document[key]:
            raise SightlineError(f"{path} has no {key}")
    return document


def _pictures(path: Path, split: str) -> Pictures:
    """Where the pictures of an annotation file may lie, the likeliest folder first."""
    beside = path.parent
    root = beside.parent if split_of(beside.name) or "annotation" in beside.name.lower() else beside
    folders = subfolders(root)
    folders += [
        inner for folder in folders if folder.name == "images" for inner in subfolders(folder)
    ]
    named = {folder: split_of(folder.name) for folder in folders}
    kin = {split, "trainval" if split in ("train", "val") else split}
    ranked = [folder for folder in folders if named[folder] in kin]
    ranked += [folder for folder in folders if named[folder] is None]
    ranked += [root] + [folder for folder in folders if folder not in ranked]
    return Pictures([beside] * (beside != root) + ranked)


def _classes(documents: dict[Path, dict[str, Any]]) -> Classes:
    """Raises:
    SightlineError: two categories share an id or a name.
    """
    categories: dict[int, dict[str, Any]] = {}
    for path, document in documents.items():
        for category in document["categories"]:
            where = f"{path}: category {category.get('id')}"
            number, name = _get(category, "id", int, where), _get(category, "name", str, where)
            known = categories.setdefault(number, category)
            if known["name"] != name:
                raise SightlineError(f'{where} is "{name}" here and "{known["name"]}" elsewhere')
    used = {a.get("category_id") for d in documents.values() for a in d["annotations"]}
    kept = [c for _, c in sorted(categories.items()) if not _is_umbrella(c, categories, used)]
    names = [category["name"] for category in kept]
    for name in names:
        if names.count(name) > 1:
            ids = ", ".join(str(c["id"]) for c in kept if c["name"] == name)
            raise SightlineError(f'{next(iter(documents))}: categories {ids} are all "{name}"')
    keypoints, skeleton = _keypoints(kept, next(iter(documents)))
    return Classes(
        names=tuple(names),
        ids=tuple(category["id"] for category in kept),
        keypoints=keypoints,
        mirrored=mirrored(keypoints),
        skeleton=skeleton,
    )


def _is_umbrella(
    category: dict[str, Any], categories: dict[int, dict[str, Any]], used: set[Any]
) -> bool:
    """Exports by Roboflow list, as category 0, a parent that no annotation uses."""
    children = (c for c in categories.values() if c is not category)
    return category["id"] not in used and any(
        child.get("supercategory") == category["name"] for child in children
    )


def _keypoints(
    categories: list[dict[str, Any]], path: Path
) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Names, and the skeleton counted from 0. Classes with unlike keypoints share no tensor."""
    kinds = {tuple(c["keypoints"]): c for c in categories if c.get("keypoints")}
    if len(kinds) > 1:
        warnings.warn(
            f"{path}: its classes have different keypoints, which are left out",
            DataWarning,
            stacklevel=2,
        )
    if len(kinds) != 1:
        return (), ()
    names, category = kinds.popitem()
    return names, tuple((a - 1, b - 1) for a, b in category.get("skeleton") or ())


def mirrored(names: Sequence[str]) -> tuple[int, ...]:
    """Which keypoint each becomes in a mirror, by name: left_eye and right_eye, LEar and REar do
    not differ but for the side; one without a counterpart stays."""
    places = {name: place for place, name in enumerate(names)}
    return tuple(places.get(_other_side(name), place) for place, name in enumerate(names))


_SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}


def _other_side(name: str) -> str:
    """ "left" or "right" anywhere, else a lone "l" or "r" before or after a separator."""

    def swap(match: re.Match[str]) -> str:
        word = match.group()
        other = _SIDES[word.lower()]
        if word.isupper():
            return other.upper()
        return other.capitalize() if word[0].isupper() else other

    swapped = re.sub("left|right", swap, name, flags=re.IGNORECASE)
    if swapped != name:
        return swapped
    return re.sub(r"^[lr](?=[_\-. ])|(?<=[_\-. ])[lr]$", swap, name, flags=re.IGNORECASE)


def _pack(document: dict[str, Any], path: Path, classes: Classes, pictures: Pictures) -> Packed:
    labels = {number: label for label, number in enumerate(classes.ids)}
    root = Path(os.path.commonpath(pictures.folders))
    packer = Packer(path, root, len(classes.keypoints))
    things = _by_image(document, path)
    for record in document["images"]:
        where = f"{path}: image {record.get('id')}"
        image_id = record["id"]
        file = pictures.find(_get(record, "file_name", str, where))
        if file is None:
            raise _missing(document, path, pictures)
        size = _image_size(record, file, where)
        packer.picture(file.relative_to(root), size, image_id)
        for annotation in things.pop(image_id, ()):
            _thing(packer, annotation, labels, size, path)
    return packer.finish(classes)


def _by_image(document: dict[str, Any], path: Path) -> dict[Any, list[dict[str, Any]]]:
    """Annotations of each image, in the order of the file."""
    things: dict[Any, list[dict[str, Any]]] = {}
    for record in document["images"]:
        if "id" not in record or record["id"] in things:
            what = (
                f"two images have the id {record['id']}" if "id" in record else "an image has no id"
            )
            raise SightlineError(f"{path}: {what}")
        things[record["id"]] = []
    for annotation in document["annotations"]:
        image_id = annotation.get("image_id")
        if image_id not in things:
            raise SightlineError(
                f"{path}: annotation {annotation.get('id')} is of image {image_id}, "
                "which is not listed"
            )
        things[image_id].append(annotation)
    return things


def _missing(document: dict[str, Any], path: Path, pictures: Pictures) -> SightlineError:
    names = [str(record.get("file_name")) for record in document["images"]]
    missing = [name for name in names if pictures.find(name) is None]
    some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    folders = ", ".join(str(folder) for folder in pictures.folders[:4])
    return SightlineError(
        f"{path} lists {len(missing)} of {len(names)} pictures that are not there: {some} "
        f"(looked in {folders})"
    )


def _image_size(record: dict[str, Any], file: Path, where: str) -> tuple[int, int]:
    if "height" not in record or "width" not in record:
        return image_size(file)
    size = _get(record, "height", int, where), _get(record, "width", int, where)
    if min(size) < 1:
        raise SightlineError(f"{where} has width {size[1]} and height {size[0]}")
    return size


def _thing(
    packer: Packer,
    annotation: dict[str, Any],
    labels: dict[int, int],
    size: tuple[int, int],
    path: Path,
) -> None:
    where = f"{path}: annotation {annotation.get('id')}"
    category = annotation.get("category_id")
    if category not in labels:
        raise SightlineError(f"{where} is of category {category}, which is not listed")
    polygons, counts = _mask(annotation.get("segmentation"), size, where)
    area = annotation.get("area")
    packer.thing(
        _box(annotation, polygons, counts, size, where),
        labels[category],
        ignore=bool(annotation.get("iscrowd") or annotation.get("ignore")),
        area=None if area is None else _numbers([area], where, "area")[0],
        polygons=polygons,
        counts=counts,
        keypoints=_keypoint_values(annotation, packer.keypoints, where),
    )


def _box(
    annotation: dict[str, Any],
    polygons: list[list[float]],
    counts: bytes,
    size: tuple[int, int],
    where: str,
) -> tuple[float, float, float, float]:
    """The annotated box as xyxy, or the mask's where there is none."""
    if annotation.get("bbox"):
        values = _numbers(annotation["bbox"], where, "bbox")
        if len(values) != 4:
            raise SightlineError(f"{where} has a bbox of {len(values)} numbers instead of 4")
        x, y, width, height = values
        return x, y, x + width, y + height
    if polygons:
        xs = [x for polygon in polygons for x in polygon[::2]]
        ys = [y for polygon in polygons for y in polygon[1::2]]
        return min(xs), min(ys), max(xs), max(ys)
    if counts:
        return rle.box({"size": list(size), "counts": counts})
    raise SightlineError(f"{where} has neither bbox nor segmentation")


def _mask(segmentation: Any, size: tuple[int, int], where: str) -> tuple[list[list[float]], bytes]:
    """Polygons (those with fewer than three points enclose nothing and are left out) or counts."""
    if not segmentation:
        return [], b""
    if isinstance(segmentation, dict):
        return [], _counts(segmentation, size, where)
    if not isinstance(segmentation, list):
        raise SightlineError(f"{where} has a segmentation that is neither polygons nor RLE")
    if not isinstance(segmentation[0], list):
        segmentation = [segmentation]
    polygons = [_numbers(polygon, where, "segmentation") for polygon in segmentation]
    if any(len(polygon) % 2 for polygon in polygons):
        raise SightlineError(f"{where} has a polygon with an odd number of coordinates")
    return [polygon for polygon in polygons if len(polygon) >= 6], b""


def _counts(segmentation: dict[str, Any], size: tuple[int, int], where: str) -> bytes:
    told = segmentation.get("size")
    if told is None or tuple(told) != size:
        raise SightlineError(f"{where} has an RLE of size {told} in a picture of {list(size)}")
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        return counts.encode()
    if not isinstance(counts, list) or sum(counts) != size[0] * size[1]:
        raise SightlineError(f"{where} has an RLE whose counts do not fill its size")
    compressed: bytes = rle.from_counts(counts, size)["counts"]
    return compressed


def _keypoint_values(annotation: dict[str, Any], count: int, where: str) -> list[float]:
    values = annotation.get("keypoints")
    if not values or not count:
        return []
    if len(values) != 3 * count:
        raise SightlineError(f"{where} has {len(values)} keypoint values instead of {3 * count}")
    return _numbers(values, where, "keypoints")


def _get(record: dict[str, Any], key: str, kind: type[Any], where: str) -> Any:
    value = record.get(key)
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise SightlineError(f'{where} has no proper "{key}": {value!r}')
    return value


def _numbers(values: Any, where: str, key: str) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError) as error:
        raise SightlineError(f'{where} has a "{key}" that is no list of numbers') from error
    if not all(map(math.isfinite, numbers)):
        raise SightlineError(f'{where} has a "{key}" that is not finite')
    return numbers


def write_coco(dataset: Dataset, out: str | Path, split: str = "train") -> Path:
    """A data set as ``open_dataset`` reads it: pictures in ``out/split``, things in
    ``out/annotations/instances_split.json``, whose path is returned, and where its scenes have
    panoptic maps, those beside.

    Picture files are copied; pictures without a file are saved as PNG. The JSON is written last,
    and renamed into place: where it is, all is.
    """
    out = Path(out)
    pictures, annotations = out / split, out / "annotations"
    pictures.mkdir(parents=True, exist_ok=True)
    annotations.mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    things: list[dict[str, Any]] = []
    panoptic: list[dict[str, Any]] = []
    for index in range(len(dataset)):
        scene = dataset.scene(index)
        image_id = index if scene.image_id is None else scene.image_id
        name = _write_picture(dataset, index, scene.path, pictures)
        height, width = scene.size
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for record in _records(scene, dataset.classes):
            things.append({"id": len(things) + 1, "image_id": image_id} | record)
        if scene.panoptic is not None:
            file = out / f"panoptic_{split}" / f"{Path(name).stem}.png"
            segments = _write_panoptic(scene.panoptic, dataset.classes, file)
            panoptic.append(
                {"image_id": image_id, "file_name": file.name, "segments_info": segments}
            )
    categories = _categories(dataset.classes)
    if panoptic:
        document = {"images": images, "annotations": panoptic, "categories": categories}
        _write_json(annotations / f"panoptic_{split}.json", document)
    categories = [c for c in categories if c.pop("isthing")]
    document = {"images": images, "annotations": things, "categories": categories}
    return _write_json(annotations / f"instances_{split}.json", document)


def _write_picture(dataset: Dataset, index: int, path: str, folder: Path) -> str:
    source = Path(path)
    if not path or not source.is_file():
        name = f"{index:06d}.png"
        pixels = dataset.picture(index).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / name, compress_level=1)
        return name
    target = folder / source.name
    if target.exists() and not target.samefile(source):
        target = folder / f"{index:06d}_{source.name}"
    if not target.exists():
        shutil.copyfile(source, target)
    return target.name


def _records(scene: Scene, classes: Classes) -> Iterator[dict[str, Any]]:
    things = scene.things
    masks = rle.encode(things.masks) if isinstance(things.masks, Tensor) else things.masks
    for row, (x1, y1, x2, y2) in enumerate(things.boxes.double().tolist()):
        record = {
            "category_id": classes.ids[int(things.labels[row])],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1) if things.area is None else float(things.area[row]),
            "iscrowd": int(things.ignore[row]),
            "segmentation": [] if masks is None else _segmentation(masks[row]),
        }
        if things.keypoints is not None:
            points = things.keypoints[row].double()
            record["keypoints"] = points.flatten().tolist()
            record["num_keypoints"] = int((points[:, 2] > 0).sum())
        yield record


def _segmentation(mask: Rle | Polygons) -> Any:
    if isinstance(mask, dict):
        return {"size": list(mask["size"]), "counts": mask["counts"].decode()}
    return [polygon.flatten().tolist() for polygon in mask]


def _write_panoptic(panoptic: Panoptic, classes: Classes, file: Path) -> list[dict[str, Any]]:
    """COCO's PNG, whose red, green and blue are the id's lowest three bytes, and its segments."""
    file.parent.mkdir(exist_ok=True)
    ids = panoptic.map.numpy()
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(colours).save(file)
    numbers = _category_ids(classes)
    return [
        {
            "id": segment.id,
            "category_id": numbers[segment.label],
            "area": int((ids == segment.id).sum()),
            "iscrowd": int(segment.ignore),
        }
        for segment in panoptic.segments
    ]


def _category_ids(classes: Classes) -> list[int]:
    """Of the things, then of the stuff, which is numbered on from the highest."""
    after = max(classes.ids, default=-1) + 1
    return [*classes.ids, *range(after, after + len(classes.stuff))]


def _categories(classes: Classes) -> list[dict[str, Any]]:
    names = [*classes.names, *classes.stuff]
    categories: list[dict[str, Any]] = [
        {"id": number, "name": name, "isthing": int(place < len(classes))}
        for place, (number, name) in enumerate(zip(_category_ids(classes), names, strict=True))
    ]
    if classes.keypoints:
        skeleton = [[a + 1, b + 1] for a, b in classes.skeleton]
        for category in categories[: len(classes)]:
            category |= {"keypoints": list(classes.keypoints), "skeleton": skeleton}
    return categories


def _write_json(path: Path, document: dict[str, Any]) -> Path:
    """Beside, then renamed."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(document), encoding="utf-8")
    beside.replace(path)
    return path
