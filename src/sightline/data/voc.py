"""Pascal VOC's XML: one file a picture.

VOC counts pixels from 1 and includes the last one: ``xmin`` 1 and ``xmax`` 640 span a picture of
640 columns. In continuous coordinates that is x1 = xmin - 1 and x2 = xmax. Tools that count from 0
write ``xmin`` 0, which becomes -1 and is clipped. A box whose ``xmax`` equals ``xmin`` would be one
pixel wide; it is a slip of the mouse in every set we saw, and is dropped as having no area.

``difficult`` makes an ignore region, as in VOC's evaluation: finding it is neither counted nor
punished. Both flags are kept, in ``extra["difficult"]`` and ``extra["truncated"]``. Classes are the
names found in all files, sorted.
"""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from sightline.data.find import Pictures, split_of, subfolders
from sightline.data.images import image_size
from sightline.data.packed import Packed, Packer
from sightline.errors import SightlineError
from sightline.types import Classes

LOOKED_FOR = "Pascal VOC XML (Annotations/*.xml, *.xml or train/*.xml)"
_LISTS = ("ImageSets/Main", "ImageSets")


def find(path: Path) -> dict[str, list[Path]]:
    """The XML files of each split, and of "all"; splits are those of ImageSets/Main, or of folders
    named so ("train", "valid")."""
    if not path.is_dir():
        return {}
    found: dict[str, list[Path]] = {}
    for folder in _xml_folders(path):
        xmls = sorted(folder.glob("*.xml"))
        split = split_of(folder.name) or split_of(folder.parent.name)
        if split and folder != path and folder.parent != path.parent and xmls:
            found.setdefault(split, []).extend(xmls)
        if xmls:
            found.setdefault("all", []).extend(xmls)
    return found | _listed(path, found.get("all", []))


def _xml_folders(path: Path) -> list[Path]:
    """The folder itself, its Annotations, and the like in folders named after a split."""
    folders = [path]
    for folder in subfolders(path):
        if folder.name.lower() == "annotations":
            folders.append(folder)
        elif split_of(folder.name):
            folders += [folder, *(f for f in subfolders(folder) if f.name.lower() == "annotations")]
    return folders


def _listed(path: Path, xmls: list[Path]) -> dict[str, list[Path]]:
    """Splits by the lists of ImageSets. A picture listed without an XML gets the path it would
    have, so that reading that split says what is missing."""
    folder = next((path / name for name in _LISTS if list((path / name).glob("*.txt"))), None)
    if folder is None or not xmls:
        return {}
    by_stem = {xml.stem: xml for xml in xmls}
    listed = {}
    for file in sorted(folder.glob("*.txt")):
        split = split_of(file.stem)
        if split == file.stem.lower() or (split == "val" and file.stem == "valid"):
            stems = [line.split()[0] for line in file.read_text().splitlines() if line.strip()]
            listed[split] = [by_stem.get(stem, xmls[0].with_name(f"{stem}.xml")) for stem in stems]
    return listed


def read(path: Path, found: dict[str, list[Path]], wanted: Sequence[str]) -> dict[str, Packed]:
    """The wanted splits; the classes are those of all files, so every split numbers them alike."""
    xmls = found["all"]
    place = {xml: index for index, xml in enumerate(xmls)}
    packed = _pack(path, xmls)
    splits = {"all": packed}
    for split in set(wanted) - {"all"}:
        missing = [xml for xml in found[split] if xml not in place]
        if missing:
            raise SightlineError(
                f"{path}: the list of {split} names {missing[0].stem}, but there is no {missing[0]}"
            )
        splits[split] = packed.take([place[xml] for xml in found[split]])
    return {split: splits[split] for split in wanted}


def _pack(path: Path, xmls: Sequence[Path]) -> Packed:
    trees = {xml: _parse(xml) for xml in xmls}
    names = sorted(
        {_text(thing, "name", xml) for xml, tree in trees.items() for thing in tree.iter("object")}
    )
    if not names:
        raise SightlineError(f"{path}: no annotations: none of {len(xmls)} XML files has an object")
    labels = {name: label for label, name in enumerate(names)}
    pictures = Pictures(_picture_folders(path, xmls))
    packer = Packer(path, path)
    for xml, tree in trees.items():
        file = pictures.find(tree.findtext("filename") or xml.stem, xml.stem)
        if file is None:
            raise SightlineError(
                f"{xml}: no picture named {tree.findtext('filename')} or {xml.stem}.* "
                f"in {', '.join(map(str, pictures.folders))}"
            )
        packer.picture(file.relative_to(path), _size(tree, file, xml), xml.stem)
        for thing in tree.iter("object"):
            packer.thing(
                _box(thing, xml),
                labels[_text(thing, "name", xml)],
                ignore=_flag(thing, "difficult"),
                difficult=_flag(thing, "difficult"),
                truncated=_flag(thing, "truncated"),
            )
    return packer.finish(Classes(tuple(names)))


def _picture_folders(path: Path, xmls: Sequence[Path]) -> list[Path]:
    """JPEGImages, images and the like, then wherever the XML files lie."""
    beside = list(dict.fromkeys(xml.parent for xml in xmls))
    around = [folder for place in beside for folder in [place, *subfolders(place.parent)]]
    return [f for f in around if f == path or path in f.parents] + [path]


def _parse(xml: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(xml).getroot()
    except ElementTree.ParseError as error:
        line, column = error.position
        raise SightlineError(
            f"{xml}, line {line}, column {column + 1}: broken XML ({error})"
        ) from error
    except OSError as error:
        raise SightlineError(f"cannot read {xml}: {error.strerror}") from error


def _text(element: ElementTree.Element, name: str, xml: Path) -> str:
    text = (element.findtext(name) or "").strip()
    if not text:
        raise SightlineError(f"{xml}: an object without <{name}>")
    return text


def _flag(element: ElementTree.Element, name: str) -> bool:
    return (element.findtext(name) or "0").strip() not in ("0", "")


def _size(tree: ElementTree.Element, file: Path, xml: Path) -> tuple[int, int]:
    """As annotated; from the picture where the XML does not say (some tools write 0)."""
    try:
        height, width = (int(tree.findtext(f"size/{side}") or 0) for side in ("height", "width"))
    except ValueError as error:
        raise SightlineError(f"{xml}: <size> is no number") from error
    return (height, width) if height > 0 and width > 0 else image_size(file)


def _box(thing: ElementTree.Element, xml: Path) -> tuple[float, float, float, float]:
    """From pixel indices counted from 1, the last one included, to continuous coordinates."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    try:
        xmin, ymin, xmax, ymax = (float(thing.findtext(f"bndbox/{c}") or "") for c in corners)
    except ValueError as error:
        name = thing.findtext("name")
        raise SightlineError(f"{xml}: the object {name} has no <bndbox> of four numbers") from error
    if xmax <= xmin or ymax <= ymin:
        return 0.0, 0.0, 0.0, 0.0
    return xmin - 1, ymin - 1, xmax, ymax
