"""Pascal VOC's XML, written: what ``voc.py`` reads.

Pixels are counted from 1 and the last one is included, so ``xmin`` is x1 + 1 and ``xmax`` is x2;
fractions are kept. A box thinner than a pixel cannot be said so: it is widened to a little over
one, half a pixel to each side even at the edge of the picture, since ``xmax`` must be larger than
``xmin``.
"""

import filecmp
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import torch

from sightline.data.packed import Dataset
from sightline.data.pictures import free_name, own_name, write_picture
from sightline.errors import SightlineError
from sightline.files import replacing
from sightline.types import Classes, Scene

_THINNEST = 1.01  # pixels
_UNSPEAKABLE = re.compile(
    r"[\x00-\x1f\ud800-\udfff\ufffe\uffff]"
)  # no XML can hold these in a name


def write_voc(dataset: Dataset, out: str | Path, split: str = "train") -> Path:
    """A data set as ``open_dataset`` reads it: an XML for each picture in ``out/Annotations``, the
    pictures in ``out/JPEGImages``, their names in ``out/ImageSets/Main/split.txt``, whose path is
    returned. For the split "all" there is no such list, and the folder is returned.

    Picture files are copied (blanks in their names become "_"); pictures without a file are saved
    as PNG. A picture that a list of another split has already, with the same things, is written
    once. The list is written last. Ignore regions are marked as difficult.

    Raises:
        SightlineError: a class has a name that XML cannot hold, or another picture lies in the
            place of one.
    """
    out = Path(out)
    for name in dataset.classes.names:
        if name != name.strip() or not name or _UNSPEAKABLE.search(name):
            raise SightlineError(f"VOC's XML cannot hold a class called {name!r}: rename it")
    pictures, annotations = out / "JPEGImages", out / "Annotations"
    list_file = out / "ImageSets" / "Main" / f"{split}.txt"
    for folder in (pictures, annotations, list_file.parent):
        folder.mkdir(parents=True, exist_ok=True)
    elsewhere = _elsewhere(list_file, pictures)
    taken = {picture.stem.lower() for same in elsewhere.values() for picture in same}
    stems: list[str] = []
    for index in range(len(dataset)):
        scene = dataset.scene(index)
        own = re.sub(r"\s+", "_", own_name(scene.path))
        picture = _shared(scene, dataset.classes, own, elsewhere, annotations)
        if picture is None:
            picture = pictures / free_name(own, f"{split}_{index:06d}", taken)
            xml = _xml(scene, dataset.classes, picture.name)
            _check_place(scene.path, picture, xml, annotations)
            write_picture(dataset, index, scene.path, picture)
            _xml_file(annotations, picture).write_bytes(xml)
        stems.append(picture.stem)
    if split == "all":
        return out
    with replacing(list_file) as beside:
        beside.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")
    return list_file


def _elsewhere(list_file: Path, pictures: Path) -> dict[int, list[Path]]:
    """The pictures of the other splits, by the size of their files."""
    others = [file for file in list_file.parent.glob("*.txt") if file != list_file]
    stems = {stem for file in others for stem in file.read_text(encoding="utf-8").split()}
    by_size: dict[int, list[Path]] = {}
    for picture in sorted(pictures.iterdir()):
        if picture.stem in stems:
            by_size.setdefault(picture.stat().st_size, []).append(picture)
    return by_size


def _shared(
    scene: Scene,
    classes: Classes,
    own: str,
    elsewhere: Mapping[int, Sequence[Path]],
    annotations: Path,
) -> Path | None:
    """The same picture of another split, with the same things. It may have got a name before its
    own one."""
    if not own:
        return None
    for picture in elsewhere.get(Path(scene.path).stat().st_size, ()):
        if picture.name.endswith(own) and _same(scene.path, picture):
            xml_file = _xml_file(annotations, picture)
            if xml_file.read_bytes() == _xml(scene, classes, picture.name):
                return picture
    return None


def _check_place(path: str, picture: Path, xml: bytes, annotations: Path) -> None:
    """A split may be written again over itself, but no picture over another."""
    xml_file = _xml_file(annotations, picture)
    other = picture.exists() and own_name(path) and not _same(path, picture)
    if other or (xml_file.exists() and xml_file.read_bytes() != xml):
        raise SightlineError(f"{picture} is there already, or its XML: name a new folder")


def _same(path: str, there: Path) -> bool:
    return filecmp.cmp(path, there, shallow=False)


def _xml_file(annotations: Path, picture: Path) -> Path:
    return annotations / f"{picture.stem}.xml"


def _xml(scene: Scene, classes: Classes, name: str) -> bytes:
    return tostring(_annotation(scene, classes, name), encoding="utf-8") + b"\n"


def _annotation(scene: Scene, classes: Classes, name: str) -> Element:
    height, width = scene.size
    root = Element("annotation")
    _add(root, folder="JPEGImages", filename=name)
    _add(SubElement(root, "size"), width=width, height=height, depth=3)
    _add(root, segmented=0)
    things = scene.things
    truncated = things.extra.get("truncated", torch.zeros(len(things)))
    for row, corners in enumerate(_corners(scene)):
        thing = SubElement(root, "object")
        _add(thing, name=classes.names[int(things.labels[row])], pose="Unspecified")
        _add(thing, truncated=int(truncated[row]), difficult=int(things.ignore[row]))
        _add(SubElement(thing, "bndbox"), **corners)
    indent(root)
    return root


def _add(parent: Element, **values: object) -> None:
    for tag, value in values.items():
        SubElement(parent, tag).text = str(value)


def _corners(scene: Scene) -> Iterator[dict[str, str]]:
    boxes = scene.things.boxes.double()
    middles, halves = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    halves = halves.clamp(min=_THINNEST / 2)
    first, last = middles - halves + 1, middles + halves
    for row in torch.cat([first, last], dim=1).tolist():
        numbers = (f"{value:.4f}".rstrip("0").rstrip(".") for value in row)
        yield dict(zip(("xmin", "ymin", "xmax", "ymax"), numbers, strict=True))
