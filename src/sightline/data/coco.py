"""COCO's JSON: boxes, polygons, run-length masks, crowds and keypoints, read and written, with the
panoptic maps and the captions beside.

A crowd (``iscrowd``) becomes an ignore region, and so does what says ``ignore``. All that is
ignored is written as a crowd: the one flag that COCO's own tools heed. One thing that is ignored
for being hard to see (VOC's ``difficult``) says so in a key of that name, which other tools pass
over: read back, it is one thing again and no region.

Category ids may have gaps: classes are counted from 0 in the order of their ids, and the ids are
kept in ``Classes.ids``. Pictures without annotations are kept: they are pure background.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from os.path import commonpath
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from sightline.data.categories import read_categories, write_categories
from sightline.data.companions import (
    ROLES,
    Maps,
    companions,
    put_captions,
    role_of,
    warn_of_strangers,
)
from sightline.data.find import Pictures, head, picture_folders, split_of, subfolders
from sightline.data.images import image_size
from sightline.data.packed import Dataset, MakePacker, Packed, Packer
from sightline.data.pictures import free_name, own_name, write_picture
from sightline.data.records import RecordError, field, flag, load_json, numbers, size_of
from sightline.data.segmentation import box_around, read_box, read_keypoints, read_segmentation
from sightline.errors import SightlineError
from sightline.files import replacing
from sightline.ops import masks
from sightline.types import Classes, Masks, Panoptic, Scene

Record = dict[str, Any]
LOOKED_FOR = "COCO JSON (annotations/*.json, *.json or train/*.json)"
_OTHER_TASKS = ("stuff", "image_info")
_PREFERRED = ("instances", "", "person_keypoints", *ROLES)  # "" is any other name


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
        around = None if folder == path else split_of(folder.name)
        for file in sorted(folder.glob("*.json")):
            split = split_of(file.stem) or around
            if not file.stem.lower().startswith(_OTHER_TASKS) and (split or _looks_right(file)):
                claims[split or "all"].append(file)
    if set(claims) > {"all"}:
        claims.pop("all", None)
    return {split: _preferred(path, split, files) for split, files in claims.items()}


def _looks_right(file: Path) -> bool:
    """Whether a JSON of any name may be an annotation file: data sets are full of label maps (with
    "categories" alone, as beside YOLO labels) and settings."""
    start = head(file)
    return b'"images"' in start or b'"annotations"' in start


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


def read(
    path: Path, found: dict[str, Path], wanted: Sequence[str], packer: MakePacker = Packer
) -> dict[str, Packed]:
    """The wanted splits, with one list of classes: the categories of all their files.

    Raises:
        SightlineError: whatever is wrong in a file, with its record, or none has an annotation.
    """
    documents = {split: _documents(found[split]) for split in wanted}
    pairs = [pair for of_split in documents.values() for pair in of_split.values()]
    if not any(document["annotations"] for _, document in pairs):
        raise SightlineError(f"{', '.join(str(file) for file, _ in pairs)} has no annotations")
    classes, labels = read_categories(dict(pairs))
    return {
        split: _pack(of_split, classes, labels, _pictures(path, found[split], split), packer)
        for split, of_split in documents.items()
    }


def _documents(path: Path) -> dict[str, tuple[Path, Record]]:
    """The annotation file and those beside it by their role; the first lists the pictures."""
    document = _load(path)
    beside = {role: (file, _load(file)) for role, file in companions(path).items()}
    return {role_of(document): (path, document)} | beside


def _load(path: Path) -> Record:
    document = load_json(path)
    _check(document, path, ("images", "annotations"))
    if role_of(document) != "captions":
        _check(document, path, ("categories",))
    return document


def _check(document: Any, path: Path, keys: Sequence[str]) -> None:
    for key in keys:
        records = document.get(key) if isinstance(document, dict) else None
        if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
            raise SightlineError(f'{path} has no list of "{key}": not a COCO annotation file')
        if not records and (key == "images" or (key == "categories" and document["annotations"])):
            raise SightlineError(f"{path} has no {key}")


def _pictures(path: Path, file: Path, split: str) -> Pictures:
    """Where the pictures of an annotation file may lie: beside it, or anywhere in the data set."""
    root = path
    if path.is_file():
        inside = split_of(file.parent.name) or "annotation" in file.parent.name.lower()
        root = file.parent.parent if inside else file.parent
    return Pictures(picture_folders(list(dict.fromkeys([file.parent, root])), split))


def _pack(
    documents: dict[str, tuple[Path, Record]],
    classes: Classes,
    labels: dict[int, int],
    pictures: Pictures,
    make: MakePacker,
) -> Packed:
    path, document = next(iter(documents.values()))
    root = Path(commonpath(pictures.folders))
    packer = make(path, root, len(classes.keypoints))
    images = _by_id(document["images"], path, packer)
    said = _by_role(documents, images, packer)
    maps = Maps.of(documents["panoptic"][0], labels, len(classes)) if "panoptic" in said else None
    of_things = {number: label for number, label in labels.items() if label < len(classes)}
    names = {number: str(image.get("file_name")) for number, image in images.items()}
    files = {number: pictures.find(name) for number, name in names.items()}
    missing = [names[number] for number, file in files.items() if file is None]
    difficult = any("difficult" in annotation for annotation in document["annotations"])
    for number, image in images.items():
        name = f"image {number}"
        with packer.record(name):
            told, file = field(image, "file_name", str, f"{path}: {name}"), files[number]
            if file is None:
                raise _missing(told, missing, path, len(images), pictures)
            sides = size_of(image.get("height"), image.get("width"), f"{path}: {name}")
            size = sides or image_size(file)
            packer.picture(file.relative_to(root), size, number)
            about = {role: by_image.get(number, []) for role, by_image in said.items()}
            for annotation in about.get("things", []):
                name = _name(annotation)
                with packer.record(name):
                    _thing(packer, annotation, of_things, size, f"{path}: {name}", difficult)
            if maps is not None:
                with packer.record(f"the map of image {number}", maps.file):
                    maps.put(packer, about["panoptic"])
            if "captions" in about:
                with packer.record(f"the captions of image {number}", documents["captions"][0]):
                    put_captions(packer, about["captions"], documents["captions"][0])
    return packer.finish(classes)


def _by_role(
    documents: dict[str, tuple[Path, Record]], images: Mapping[int | str, Record], packer: Packer
) -> dict[str, dict[int | str, list[Record]]]:
    """What each file says about each picture; the first file lists the pictures."""
    said: dict[str, dict[int | str, list[Record]]] = {}
    for role, (file, document) in documents.items():
        own = _by_id(document["images"], file, packer) if said else images
        said[role] = _by_image(document["annotations"], own, file, packer)
        warn_of_strangers(file, said[role], images)
    return said


def _name(annotation: Record) -> str:
    return f"annotation {annotation.get('id')}"


def _by_id(images: Sequence[Record], path: Path, packer: Packer) -> dict[int | str, Record]:
    found: dict[int | str, Record] = {}
    for image in images:
        image_id = image.get("id")
        with packer.record(f"image {image_id}", path):
            if not isinstance(image_id, int | str):
                told = f"{path}: an image has no proper id: {str(image)[:80]}"
                raise RecordError("broken-record", told)
            if image_id in found:
                raise RecordError("duplicate-id", f"{path}: two images have the id {image_id}")
            found[image_id] = image
    return found


def _by_image(
    annotations: Sequence[Record],
    images: Mapping[int | str, Record],
    path: Path,
    packer: Packer,
) -> dict[int | str, list[Record]]:
    """Annotations of each image, in the order of the file."""
    things: dict[int | str, list[Record]] = {number: [] for number in images}
    for annotation in annotations:
        image_id, name = annotation.get("image_id"), _name(annotation)
        with packer.record(name, path):
            if not isinstance(image_id, int | str) or image_id not in things:
                told = f"{path}: {name} is of image {image_id}, which is not listed"
                raise RecordError("unlisted-image", told)
            things[image_id].append(annotation)
    return things


def _missing(
    name: str, missing: Sequence[str], path: Path, count: int, pictures: Pictures
) -> RecordError:
    some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    return RecordError(
        "missing-picture",
        f"{path} lists {len(missing)} of {count} pictures that are not there: {some} "
        f"{pictures.why(missing[0])}",
        here=f"no picture {pictures.missing(name)}",
    )


def _thing(
    packer: Packer,
    annotation: Record,
    labels: dict[int, int],
    size: tuple[int, int],
    where: str,
    told_difficult: bool,
) -> None:
    category = field(annotation, "category_id", int, where)
    if category not in labels:
        raise RecordError(
            "unknown-class", f"{where} is of category {category}, which is not listed"
        )
    polygons, counts = read_segmentation(annotation.get("segmentation"), size, where)
    packer.thing(
        _box(annotation, polygons, counts, size, where),
        labels[category],
        ignore=flag(annotation, "iscrowd", where) or flag(annotation, "ignore", where),
        area=_area(annotation, where),
        polygons=polygons,
        counts=counts,
        keypoints=read_keypoints(annotation.get("keypoints"), packer.keypoints, where),
        **({"difficult": flag(annotation, "difficult", where)} if told_difficult else {}),
    )


def _area(annotation: Record, where: str) -> float | None:
    if annotation.get("area") is None:
        return None
    (area,) = numbers([annotation["area"]], where, "area")
    if area < 0:
        raise SightlineError(f'{where} has an "area" below 0: {area:g}')
    return area


def _box(
    annotation: Record,
    polygons: list[list[float]],
    counts: bytes,
    size: tuple[int, int],
    where: str,
) -> tuple[float, float, float, float]:
    """The annotated box as xyxy, or the mask's where there is none."""
    if annotation.get("bbox"):
        x, y, width, height = read_box(annotation["bbox"], where)
        return x, y, x + width, y + height
    around = box_around(polygons, counts, size)
    if around is None:
        raise SightlineError(f"{where} has neither bbox nor segmentation")
    return around


def write_coco(dataset: Dataset, out: str | Path, split: str = "train") -> Path:
    """A data set as ``open_dataset`` reads it: pictures in ``out/split``, things in
    ``out/annotations/instances_split.json``, whose path is returned, and where its scenes have
    panoptic maps or captions, those beside.

    Picture files are copied; pictures without a file are saved as PNG. The JSON is written last,
    and renamed into place: where it is, all is.
    """
    out = Path(out)
    pictures, annotations = out / split, out / "annotations"
    pictures.mkdir(parents=True, exist_ok=True)
    annotations.mkdir(exist_ok=True)
    taken = set[str]()
    images: list[Record] = []
    things: list[Record] = []
    panoptic: list[Record] = []
    captions: list[Record] = []
    for index in range(len(dataset)):
        scene = dataset.scene(index)
        image_id = index if scene.image_id is None else scene.image_id
        name = free_name(own_name(scene.path), f"{index:06d}", taken)
        write_picture(dataset, index, scene.path, pictures / name)
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
        for caption in scene.captions or []:
            captions.append({"id": len(captions) + 1, "image_id": image_id, "caption": caption})
    if captions:
        document = {"images": images, "annotations": captions}
        _write_json(annotations / f"captions_{split}.json", document)
    if panoptic:
        categories = write_categories(dataset.classes, stuff=True)
        document = {"images": images, "annotations": panoptic, "categories": categories}
        _write_json(annotations / f"panoptic_{split}.json", document)
    categories = write_categories(dataset.classes, stuff=False)
    document = {"images": images, "annotations": things, "categories": categories}
    return _write_json(annotations / f"instances_{split}.json", document)


def _records(scene: Scene, classes: Classes) -> Iterator[Record]:
    things = scene.things
    segmentations = _segmentations(things.masks, len(things))
    for row, (x1, y1, x2, y2) in enumerate(things.boxes.double().tolist()):
        record = {
            "category_id": classes.ids[int(things.labels[row])],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1) if things.area is None else float(things.area[row]),
            "iscrowd": int(things.ignore[row]),
            "segmentation": segmentations[row],
        }
        if things.difficult[row]:
            record["difficult"] = 1
        if things.keypoints is not None:
            points = things.keypoints[row].double()
            record["keypoints"] = points.flatten().tolist()
            record["num_keypoints"] = int((points[:, 2] > 0).sum())
        yield record


def _segmentations(shapes: Masks | None, count: int) -> list[Any]:
    if shapes is None:
        return [[]] * count
    if isinstance(shapes, Tensor):
        shapes = list(masks.encode(shapes))
    return [
        {"size": list(shape["size"]), "counts": shape["counts"].decode()}
        if isinstance(shape, dict)
        else [polygon.flatten().tolist() for polygon in shape]
        for shape in shapes
    ]


def _write_panoptic(panoptic: Panoptic, classes: Classes, file: Path) -> list[Record]:
    """COCO's PNG, whose red, green and blue are the id's lowest three bytes, and its segments."""
    file.parent.mkdir(exist_ok=True)
    ids = panoptic.map.numpy()
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(colours).save(file)
    ids_of = [*classes.ids, *classes.stuff_ids]
    return [
        {
            "id": segment.id,
            "category_id": ids_of[segment.label],
            "area": int((ids == segment.id).sum()),
            "iscrowd": int(segment.ignore),
        }
        for segment in panoptic.segments
    ]


def _write_json(path: Path, document: Record) -> Path:
    with replacing(path) as beside:
        beside.write_text(json.dumps(document), encoding="utf-8")
    return path
