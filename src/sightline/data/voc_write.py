"""Pascal VOC's XML, written: what ``voc.py`` reads.

Pixels are counted from 1 and the last one is included, so ``xmin`` is x1 + 1 and ``xmax`` is x2;
fractions are kept. A box thinner than a pixel cannot be said so: it is widened to a little over
one, half a pixel to each side even at the edge of the picture, since ``xmax`` must be larger than
``xmin``.
"""

import filecmp
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import torch

from sightline.data.packed import Dataset
from sightline.data.pictures import picture_name, write_picture
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
    as PNG. A picture that a list of another split has already is written once. The list is written
    last. Ignore regions are marked as difficult.

    Raises:
        SightlineError: a class has a name that XML cannot hold.
    """
    out = Path(out)
    for name in dataset.classes.names:
        if name != name.strip() or not name or _UNSPEAKABLE.search(name):
            raise SightlineError(f"VOC's XML cannot hold a class called {name!r}: rename it")
    pictures, annotations = out / "JPEGImages", out / "Annotations"
    list_file = out / "ImageSets" / "Main" / f"{split}.txt"
    for folder in (pictures, annotations, list_file.parent):
        folder.mkdir(parents=True, exist_ok=True)
    elsewhere = _listed(list_file)
    stems: list[str] = []
    for index in range(len(dataset)):
        scene = dataset.scene(index)
        name = Path(scene.path).name
        if Path(name).stem not in elsewhere or not _same(scene.path, pictures / name):
            name = picture_name(scene.path, f"{split}_{index:06d}", elsewhere.union(stems))
            name = "_".join(name.split())
            write_picture(dataset, index, scene.path, pictures / name)
        stems.append(Path(name).stem)
        xml = tostring(_annotation(scene, dataset.classes, name), encoding="utf-8")
        (annotations / f"{stems[-1]}.xml").write_bytes(xml + b"\n")
    if split == "all":
        return out
    with replacing(list_file) as beside:
        beside.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")
    return list_file


def _listed(list_file: Path) -> set[str]:
    """The pictures of the other splits."""
    others = [file for file in list_file.parent.glob("*.txt") if file != list_file]
    return {stem for file in others for stem in file.read_text(encoding="utf-8").split()}


def _same(path: str, there: Path) -> bool:
    return Path(path).is_file() and there.is_file() and filecmp.cmp(path, there, shallow=False)


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
