"""COCO's JSON: boxes, polygons, run-length masks, crowds and keypoints, read and written.

A crowd (``iscrowd``) becomes an ignore region. Category ids may have gaps: classes are counted from
0 in the order of their ids, and the ids are kept in ``Classes.ids``. Pictures without annotations
are kept: they are pure background.
"""

import json
import re
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from os.path import commonpath
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from sightline.data import runs
from sightline.data.categories import category_ids, read_categories, write_categories
from sightline.data.find import Pictures, picture_folders, split_of, subfolders
from sightline.data.images import image_size
from sightline.data.packed import Dataset, MakePacker, Packed, Packer
from sightline.data.records import LARGEST, field, numbers, read_json
from sightline.errors import SightlineError
from sightline.files import replacing
from sightline.ops import masks
from sightline.types import Classes, Masks, Panoptic, Scene

Record = dict[str, Any]
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
        around = None if folder == path else split_of(folder.name)
        for file in sorted(folder.glob("*.json")):
            split = split_of(file.stem) or around
            if not file.stem.lower().startswith(_OTHER_TASKS) and (split or _looks_right(file)):
                claims[split or "all"].append(file)
    if set(claims) > {"all"}:
        claims.pop("all", None)
    return {split: _preferred(path, split, files) for split, files in claims.items()}


def _looks_right(file: Path) -> bool:
    """Whether a JSON of any name may be an annotation file, by its first lines: data sets are full
    of label maps and settings."""
    with file.open("rb") as opened:
        head = opened.read(1 << 16)
    return any(key in head for key in (b'"images"', b'"annotations"', b'"categories"'))


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
        SightlineError: whatever is wrong in a file, with its record.
    """
    documents = {split: _load(found[split]) for split in wanted}
    classes = read_categories({found[split]: document for split, document in documents.items()})
    return {
        split: _pack(document, found[split], classes, _pictures(path, found[split], split), packer)
        for split, document in documents.items()
    }


def _load(path: Path) -> Record:
    document = read_json(path)
    for key in ("images", "annotations", "categories"):
        records = document.get(key) if isinstance(document, dict) else None
        if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
            raise SightlineError(f'{path} has no list of "{key}": not a COCO annotation file')
    for key in ("images", "annotations", "categories"):
        if not document[key]:
            raise SightlineError(f"{path} has no {key}")
    return document


def _pictures(path: Path, file: Path, split: str) -> Pictures:
    """Where the pictures of an annotation file may lie: beside it, or anywhere in the data set."""
    root = path
    if path.is_file():
        inside = split_of(file.parent.name) or "annotation" in file.parent.name.lower()
        root = file.parent.parent if inside else file.parent
    return Pictures(picture_folders(dict.fromkeys([file.parent, root]), split))


def _pack(
    document: Record, path: Path, classes: Classes, pictures: Pictures, make: MakePacker
) -> Packed:
    labels = {number: label for label, number in enumerate(classes.ids)}
    root = Path(commonpath(pictures.folders))
    packer = make(path, root, len(classes.keypoints))
    things = _by_image(document, path)
    for image in document["images"]:
        where = f"{path}: image {image['id']}"
        with packer.record():
            file = pictures.find(field(image, "file_name", str, where))
            if file is None:
                raise _missing(document, path, pictures)
            size = _image_size(image, file, where)
            packer.picture(file.relative_to(root), size, image["id"])
            for annotation in things[image["id"]]:
                where = f"{path}: annotation {annotation.get('id')}"
                with packer.record():
                    _thing(packer, annotation, labels, size, where)
    return packer.finish(classes)


def _by_image(document: Record, path: Path) -> dict[int | str, list[Record]]:
    """Annotations of each image, in the order of the file."""
    things: dict[int | str, list[Record]] = {}
    for image in document["images"]:
        image_id = image.get("id")
        if not isinstance(image_id, int | str):
            raise SightlineError(f"{path}: an image has no proper id: {str(image)[:80]}")
        if image_id in things:
            raise SightlineError(f"{path}: two images have the id {image_id}")
        things[image_id] = []
    for annotation in document["annotations"]:
        image_id = annotation.get("image_id")
        if not isinstance(image_id, int | str) or image_id not in things:
            where = f"{path}: annotation {annotation.get('id')}"
            raise SightlineError(f"{where} is of image {image_id}, which is not listed")
        things[image_id].append(annotation)
    return things


def _missing(document: Record, path: Path, pictures: Pictures) -> SightlineError:
    names = [str(image.get("file_name")) for image in document["images"]]
    missing = [name for name in names if pictures.find(name) is None]
    some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    folders = ", ".join(str(folder) for folder in pictures.folders[:4])
    return SightlineError(
        f"{path} lists {len(missing)} of {len(names)} pictures that are not there: {some} "
        f"(looked in {folders})"
    )


def _image_size(image: Record, file: Path, where: str) -> tuple[int, int]:
    """As annotated, or the file's where the annotation does not say."""
    if image.get("height") is None or image.get("width") is None:
        return image_size(file)
    size = field(image, "height", int, where), field(image, "width", int, where)
    if min(size) < 1:
        raise SightlineError(f"{where} has width {size[1]} and height {size[0]}")
    if max(size) > LARGEST:
        raise SightlineError(f"{where} has a width or height beyond any picture's")
    return size


def _thing(
    packer: Packer, annotation: Record, labels: dict[int, int], size: tuple[int, int], where: str
) -> None:
    category = field(annotation, "category_id", int, where)
    if category not in labels:
        raise SightlineError(f"{where} is of category {category}, which is not listed")
    polygons, counts = _mask(annotation.get("segmentation"), size, where)
    packer.thing(
        _box(annotation, polygons, counts, size, where),
        labels[category],
        ignore=_flag(annotation, "iscrowd", where) or _flag(annotation, "ignore", where),
        area=_area(annotation, where),
        polygons=polygons,
        counts=counts,
        keypoints=_keypoints(annotation.get("keypoints"), packer.keypoints, where),
    )


def _flag(annotation: Record, key: str, where: str) -> bool:
    value = annotation.get(key)
    if value not in (None, 0, 1):  # True is 1; but "0" is a word, and would count as yes
        raise SightlineError(f'{where} has an "{key}" that is neither 0 nor 1: {value!r:.40}')
    return bool(value)


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
        values = numbers(annotation["bbox"], where, "bbox")
        if len(values) != 4:
            raise SightlineError(f"{where} has a bbox of {len(values)} numbers instead of 4")
        x, y, width, height = values
        return x, y, x + width, y + height
    if polygons:
        xs = [x for polygon in polygons for x in polygon[::2]]
        ys = [y for polygon in polygons for y in polygon[1::2]]
        return min(xs), min(ys), max(xs), max(ys)
    if counts:
        return runs.box(runs.expand(counts), size[0])
    raise SightlineError(f"{where} has neither bbox nor segmentation")


def _mask(segmentation: Any, size: tuple[int, int], where: str) -> tuple[list[list[float]], bytes]:
    """Polygons (those with fewer than three points enclose nothing and are left out) or counts."""
    if not segmentation:
        return [], b""
    if isinstance(segmentation, dict):
        return [], _counts(segmentation, size, where)
    if not isinstance(segmentation, list):
        raise SightlineError(f"{where} has a segmentation that is neither polygons nor RLE")
    flat = segmentation if isinstance(segmentation[0], list) else [segmentation]
    polygons = [numbers(polygon, where, "segmentation") for polygon in flat]
    if any(len(polygon) % 2 for polygon in polygons):
        raise SightlineError(f"{where} has a polygon with an odd number of coordinates")
    return [polygon for polygon in polygons if len(polygon) >= 6], b""


def _counts(segmentation: Record, size: tuple[int, int], where: str) -> bytes:
    """An RLE's counts, compressed or as a list, that must fill the picture."""
    told, counts = segmentation.get("size"), segmentation.get("counts")
    if told != list(size):
        raise SightlineError(f"{where} has an RLE of size {told} in a picture of {list(size)}")
    try:
        if isinstance(counts, str):
            lengths = runs.expand(counts.encode())
        else:
            lengths = np.array(numbers(counts, where, "counts")).astype(np.int64)
            counts = runs.compress(lengths.tolist())
    except ValueError as error:
        raise SightlineError(f"{where} has a broken RLE: {error}") from error
    if len(lengths) == 0 or lengths.min() < 0 or lengths.sum() != size[0] * size[1]:
        raise SightlineError(f"{where} has an RLE that does not fill its size {told}")
    return counts.encode() if isinstance(counts, str) else counts


def _keypoints(values: Any, count: int, where: str) -> list[float]:
    """x, y and visibility of each; all zero (not labelled) where there are none."""
    if not values or not count:
        return [0.0] * (3 * count)
    if not isinstance(values, list) or len(values) != 3 * count:
        raise SightlineError(f'{where} has a "keypoints" that is no list of {3 * count} numbers')
    return numbers(values, where, "keypoints")


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
    taken = set[str]()
    images: list[Record] = []
    things: list[Record] = []
    panoptic: list[Record] = []
    for index in range(len(dataset)):
        scene = dataset.scene(index)
        image_id = index if scene.image_id is None else scene.image_id
        name = _write_picture(dataset, index, scene.path, pictures, taken)
        taken.add(name)
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
    if panoptic:
        categories = write_categories(dataset.classes, stuff=True)
        document = {"images": images, "annotations": panoptic, "categories": categories}
        _write_json(annotations / f"panoptic_{split}.json", document)
    categories = write_categories(dataset.classes, stuff=False)
    document = {"images": images, "annotations": things, "categories": categories}
    return _write_json(annotations / f"instances_{split}.json", document)


def _write_picture(
    dataset: Dataset, index: int, path: str, folder: Path, taken: Collection[str]
) -> str:
    """The name under which it was written, which is not one of those taken."""
    source = Path(path)
    if not path or not source.is_file():
        name = f"{index:06d}.png"
        pixels = dataset.picture(index).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / name, compress_level=1)
        return name
    name = f"{index:06d}_{source.name}" if source.name in taken else source.name
    if not (folder / name).exists() or not source.samefile(folder / name):
        shutil.copyfile(source, folder / name)
    return name


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
    ids_of = category_ids(classes)
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
