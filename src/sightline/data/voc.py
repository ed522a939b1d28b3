"""Pascal VOC's XML: one file a picture.

VOC counts pixels from 1 and includes the last one: ``xmin`` 1 and ``xmax`` 640 span a picture of
640 columns. In continuous coordinates that is x1 = xmin - 1 and x2 = xmax. Tools that count from 0
write ``xmin`` 0, which becomes -1 and is clipped. A box whose ``xmax`` equals ``xmin`` would be one
pixel wide; it is a slip of the mouse in every set we saw, and is dropped as having no area.

``difficult`` makes an ignore region, as in VOC's evaluation: finding it is neither counted nor
punished. Both flags are kept, in ``extra["difficult"]`` and ``extra["truncated"]``. Classes are the
names found in all files, sorted.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from sightline.data.find import Pictures, by_folder, by_lists, pictures_of, split_of, subfolders
from sightline.data.images import image_size
from sightline.data.packed import DataWarning, MakePacker, Packed, Packer
from sightline.data.records import LARGEST, load_xml
from sightline.errors import SightlineError
from sightline.types import Classes

LOOKED_FOR = "Pascal VOC XML (Annotations/*.xml, *.xml or train/*.xml)"
_YES, _NO = ("1", "true", "yes"), ("", "0", "false", "no", "unspecified")
_MAPS = ("segmentationclass", "segmentationobject")
_LISTS = ("ImageSets/Main", "ImageSets")


def find(path: Path) -> dict[str, list[Path]]:
    """The XML files of each split, and of "all". Splits are those listed in ImageSets/Main; without
    lists, the folders named after a split ("train", "valid")."""
    if not path.is_dir():
        return {}
    xmls = [xml for folder in _xml_folders(path) for xml in sorted(folder.glob("*.xml"))]
    if not xmls:
        return {}
    listed = next(filter(None, (by_lists(path / name, xmls) for name in _LISTS)), None)
    return by_folder(path, xmls) if listed is None else listed | {"all": xmls}


def _xml_folders(path: Path) -> list[Path]:
    """The folder itself, its Annotations, and the like in folders named after a split."""
    folders = [path]
    for folder in subfolders(path):
        if folder.name.lower() == "annotations":
            folders += [folder, *(inner for inner in subfolders(folder) if split_of(inner.name))]
        elif split_of(folder.name):
            inside = subfolders(folder)
            folders += [folder, *(i for i in inside if i.name.lower() == "annotations")]
    return folders


def read(
    path: Path, found: dict[str, list[Path]], wanted: Sequence[str], packer: MakePacker = Packer
) -> dict[str, Packed]:
    """The wanted splits; the classes are those of all files, so every split numbers them alike.

    Raises:
        SightlineError: whatever is wrong in a file.

    Warns:
        DataWarning: there are label maps too, which are not read.
    """
    packing = packer(path, path, 0)
    _check_lists(path, found, wanted, packing)
    trees = packing.load(found["all"], load_xml)
    labels = _labels(path, trees)
    place = _pack(path, trees, labels, packing)
    packed = packing.finish(Classes(tuple(labels)))
    _warn_of_maps(path)
    return {
        split: packed.take([place[x] for x in _once(path, split, found[split]) if x in place])
        for split in wanted
    }


def _warn_of_maps(path: Path) -> None:
    maps = [folder.name for folder in subfolders(path) if folder.name.lower() in _MAPS]
    if maps:
        told = f"{path}: its label maps are not read beside the XML: {', '.join(maps)}"
        warnings.warn(told, DataWarning, stacklevel=3)


def _check_lists(
    path: Path, found: Mapping[str, Sequence[Path]], wanted: Sequence[str], packer: Packer
) -> None:
    there = set(found["all"])
    for split in wanted:
        for xml in found[split]:
            if xml not in there:
                with packer.record(f"the list of {split}"):
                    raise SightlineError(
                        f"the list of {split} in {path} names {xml.stem}, but there is no {xml}"
                    )
        if not found[split]:
            with packer.record(f"the list of {split}"):
                raise SightlineError(f"the list of {split} in {path} is empty")


def _once(path: Path, split: str, xmls: list[Path]) -> list[Path]:
    """Warns:
    DataWarning: some are listed again, and would be trained on and counted again.
    """
    once = list(dict.fromkeys(xmls))
    if again := len(xmls) - len(once):
        told = f"{path}: the list of {split} names {again} pictures again, which count once"
        warnings.warn(told, DataWarning, stacklevel=2)
    return once


def _labels(path: Path, trees: Mapping[Path, Element]) -> dict[str, int]:
    """Of the names in all files; an object without one is told when it is read."""
    names = {_told_name(thing) for tree in trees.values() for thing in tree.iter("object")}
    if not names:
        raise SightlineError(f"{path} has no annotations: no object in {len(trees)} XML files")
    return {name: label for label, name in enumerate(sorted(names - {""}))}


def _pack(
    path: Path, trees: Mapping[Path, Element], labels: Mapping[str, int], packer: Packer
) -> dict[Path, int]:
    """Which picture came from which XML."""
    pictures = {folder: pictures_of(folder, path) for folder in {xml.parent for xml in trees}}
    place: dict[Path, int] = {}
    for xml, tree in trees.items():
        with packer.record(file=xml):
            file = _picture(tree, xml, pictures[xml.parent])
            packer.picture(file.relative_to(path), _size(tree, file, xml))
            place[xml] = len(place)
            for number, thing in enumerate(tree.iter("object"), 1):
                with packer.record(f"object {number}", xml):
                    _thing(packer, thing, labels, xml)
    return place


def _thing(packer: Packer, thing: Element, labels: Mapping[str, int], xml: Path) -> None:
    difficult = _flag(thing, "difficult", xml)
    packer.thing(
        _box(thing, xml),
        labels[_name(thing, xml)],
        ignore=difficult,
        difficult=difficult,
        truncated=_flag(thing, "truncated", xml),
    )


def _picture(tree: Element, xml: Path, pictures: Pictures) -> Path:
    """Named like the XML, or, failing that, as the XML says: <filename> is often out of date."""
    told = tree.findtext("filename") or xml.stem
    same = Path(told).stem.lower() == xml.stem.lower()
    return pictures.need(str(xml), *((told, xml.stem) if same else (xml.stem, told)))


def _name(thing: Element, xml: Path) -> str:
    name = _told_name(thing)
    if not name:
        raise SightlineError(f"{xml}: an object without a <name>")
    return name


def _told_name(thing: Element) -> str:
    return (thing.findtext("name") or "").strip()


def _flag(thing: Element, tag: str, xml: Path) -> bool:
    """Left out, empty or unspecified, it is not set."""
    word = (thing.findtext(tag) or "").strip().lower()
    if word not in (*_YES, *_NO):
        raise SightlineError(f"{xml}: a <{tag}> that is neither 0 nor 1: {word:.40}")
    return word in _YES


def _size(tree: Element, file: Path, xml: Path) -> tuple[int, int]:
    """As annotated; from the picture where the XML does not say (some tools write 0)."""
    try:
        height, width = (int(tree.findtext(f"size/{side}") or 0) for side in ("height", "width"))
    except ValueError as error:
        raise SightlineError(f"{xml}: its <size> is not in whole numbers") from error
    if max(height, width) > LARGEST:
        raise SightlineError(f"{xml}: its <size> is beyond any picture's")
    return (height, width) if height > 0 and width > 0 else image_size(file)


def _box(thing: Element, xml: Path) -> tuple[float, float, float, float]:
    """From pixels counted from 1, the last one included, to continuous coordinates."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    try:
        xmin, ymin, xmax, ymax = (float(thing.findtext(f"bndbox/{c}") or "") for c in corners)
        if not all(map(math.isfinite, (xmin, ymin, xmax, ymax))):
            raise ValueError("not finite")
    except ValueError as error:
        name = thing.findtext("name")
        raise SightlineError(
            f"{xml}: an object {name} without a <bndbox> of four numbers"
        ) from error
    return xmin - 1, ymin - 1, xmax - (xmax == xmin), ymax - (ymax == ymin)
