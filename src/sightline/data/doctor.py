"""What is wrong with a labelled data set, told flaw by flaw, and a mended copy of it.

Every split is read as for training, but by a packer that notes what is wrong in a record and goes
on (``examiner.py``); every picture is decoded (``lookalikes.py``). What that packer packs is mended
already; pictures that are of no use are then left out.
"""

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sightline.data.coco import write_coco
from sightline.data.convert import check_out, numbered
from sightline.data.examiner import Examiner, relative
from sightline.data.flaws import KINDS, Flaw, Severity
from sightline.data.folder import find_layout, named_splits, with_train
from sightline.data.images import SUFFIXES
from sightline.data.lookalikes import Look, look_at, nearly_same, same
from sightline.data.packed import DataWarning, Packed
from sightline.data.summary import Summary, summarise
from sightline.errors import SightlineError
from sightline.files import filling
from sightline.types import UNLABELLED

_KEPT_FIRST = ("test", "val")  # of a picture in two splits, the one to measure on stays
_FEW = 4  # times fewer things than in the usual picture
_USUAL = 8  # things in the usual picture, or more, for "few" to mean something
_RARE = 10  # times rarer than the commonest class


class Examination(NamedTuple):
    path: str
    layout: str  # the format that was found
    flaws: list[Flaw]
    splits: dict[str, Summary]

    def counts(self) -> dict[str, int]:
        """How many flaws of each kind, the worst kinds first."""
        counted = Counter(flaw.kind for flaw in self.flaws)
        return {kind: counted[kind] for kind in KINDS if counted[kind]}

    def worst(self) -> Severity | None:
        severities: tuple[Severity, ...] = ("unusable", "error", "warning", "note")
        found = {flaw.severity for flaw in self.flaws}
        return next((severity for severity in severities if severity in found), None)

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "layout": self.layout,
            "counts": self.counts(),
            "flaws": [flaw.to_json() for flaw in self.flaws],
            "splits": {split: summary._asdict() for split, summary in self.splits.items()},
        }


def doctor(path: str | Path, fix: str | Path | None = None) -> Examination:
    """Examine a labelled data set, in any known layout.

    Args:
        path: a folder, or one annotation file.
        fix: a new or empty folder for a mended copy in COCO's format, with what was changed in
            ``changes.json``. The original is never touched.

    Raises:
        SightlineError: no known layout, or ``fix`` is no place for a copy. A data set that cannot
            be read at all is a flaw ("unusable"), unless it is to be mended.
    """
    path, out = Path(path), None if fix is None else Path(fix)
    if out is not None:
        check_out(out, path)
    module, found = find_layout(path)
    layout = module.LOOKED_FOR.partition(" (")[0]
    flaws: list[Flaw] = []
    try:
        splits = _read(module, path, found, flaws)
    except SightlineError as error:
        if out is not None:
            raise
        return Examination(str(path), layout, [Flaw("unusable", "", "", "", str(error))], {})
    if out is not None:
        _check_holdable(path, splits)
    examined = _Examined(path, splits, flaws)
    examined.look()
    examined.read_maps()
    summaries = {
        split: summarise(data, examined.unlabelled(split), examined.pixels[split])
        for split, data in splits.items()
    }
    numbers = _numbers_of_classes(summaries.values())
    _check_splits(examined, numbers)
    order = list(KINDS)
    flaws.sort(key=lambda flaw: order.index(flaw.kind))
    if out is not None:
        _write(examined, _alike(numbers), out)
    return Examination(str(path), layout, flaws, summaries)


def _read(module: Any, path: Path, found: dict[str, Any], flaws: list[Flaw]) -> dict[str, Packed]:
    """The splits that training and measuring would use."""
    wanted = named_splits(found)
    if "train" in wanted and "trainval" in wanted:
        wanted.remove("trainval")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        splits: dict[str, Packed] = module.read(path, found, wanted, partial(Examiner, flaws, path))
    told = [str(warning.message) for warning in caught if warning.category is DataWarning]
    flaws.extend(Flaw("not-read", "", "", "", message) for message in told)
    return with_train(splits)


def _check_holdable(path: Path, splits: Mapping[str, Packed]) -> None:
    """Before all pictures are looked at."""
    if any(data.semantic is not None for data in splits.values()):
        raise SightlineError(
            f"{path} has label maps, which COCO's format cannot hold: mend them by hand"
        )


@dataclass
class _Examined:
    """The splits under examination, and which of their pictures a mended copy leaves out."""

    path: Path
    splits: dict[str, Packed]
    flaws: list[Flaw]

    def __post_init__(self) -> None:
        self.looks: dict[Path, Look] = {}
        self.left_out: set[tuple[str, int]] = set()
        self.sizes: dict[tuple[str, int], tuple[int, int]] = {}
        self.mapped: set[tuple[str, int]] = set()  # pictures whose maps say something
        self.pixels: dict[str, Counter[int]] = {split: Counter() for split in self.splits}

    def pictures(self) -> Iterator[tuple[str, int, Path]]:
        for split, data in self.splits.items():
            for index in range(len(data)):
                yield split, index, data.path(index)

    def note(self, kind: str, file: Path | None, message: str) -> None:
        told = "" if file is None else relative(file, self.path)
        self.flaws.append(Flaw(kind, told, "", told, message))

    def look(self) -> None:
        """Decode every picture, and see what is wrong with each and with any two."""
        self.looks = look_at(path for _, _, path in self.pictures())
        whole = []
        for split, index, path in self.pictures():
            look, data = self.looks[path], self.splits[split]
            kind, message = _check_look(look, data, index)
            if kind:
                self.note(kind, path, message)
            if kind == "wrong-size":
                self.sizes[split, index] = look.size
            elif kind:
                self.left_out.add((split, index))
            if kind in ("", "wrong-size"):
                whole.append((split, index, path))
        self._compare(whole)

    def read_maps(self) -> None:
        """Label maps and panoptic maps: whether they can be read, and what they say."""
        for split, index, path in self.pictures():
            data = self.splits[split]
            if data.semantic is None and data.panoptic is None:
                continue
            try:
                scene = data.scene(index)
            except SightlineError as error:
                self.note("unreadable-map", path, str(error))
                self.left_out.add((split, index))
                continue
            segments = [] if scene.panoptic is None else scene.panoptic.segments
            pixels = torch.zeros(0) if scene.semantic is None else scene.semantic
            known = pixels[pixels != UNLABELLED].long().bincount().tolist()
            self.pixels[split].update(dict(enumerate(known)))
            if known or segments:
                self.mapped.add((split, index))

    def unlabelled(self, split: str) -> list[int]:
        """The pictures of a split without things, captions, and a map that says something."""
        spans, captions = self.splits[split].spans, self.splits[split].captions
        without = (spans[:, 0] == spans[:, 1]).nonzero().flatten().tolist()
        said = {index for index in without if captions is not None and captions.of(index)}
        return [i for i in without if i not in said and (split, i) not in self.mapped]

    def _compare(self, whole: Sequence[tuple[str, int, Path]]) -> None:
        rank = {split: place for place, split in enumerate(_KEPT_FIRST)}
        whole = sorted(whole, key=lambda picture: rank.get(picture[0], len(rank)))
        looks = [self.looks[path] for _, _, path in whole]
        for first, *others in same(looks):
            kept, _, original = whole[first]
            for split, index, path in (whole[place] for place in others):
                kind = "same-in-one-split" if split == kept else "same-in-two-splits"
                told = f"of {split}, is {relative(original, self.path)} of {kept}"
                self.note(kind, path, told)
                self.left_out.add((split, index))
        for first, second in nearly_same(looks):
            (one, _, original), (other, _, path) = whole[first], whole[second]
            told = f"of {other}, is nearly {relative(original, self.path)} of {one}"
            self.note("nearly-same", path, told)


def _check_look(look: Look, data: Packed, index: int) -> tuple[str, str]:
    """The kind of flaw, empty where there is none, and what is wrong."""
    if look.error:
        return "unreadable-picture", look.error
    if look.lost:
        return "truncated-picture", f"its lower {look.lost} of {look.size[0]} rows are lost"
    size = data.size(index)
    if look.size == size:
        return "", ""
    (height, width), (told_height, told_width) = look.size, size
    told = f"is {width}x{height}, annotated as {told_width}x{told_height}"
    if look.size == size[::-1]:
        return "turned-picture", f"{told}, without its EXIF orientation"
    resized = abs(width * told_height - height * told_width) <= max(*look.size, *size)
    return (
        "wrong-size" if not resized and _fits(data, index, look.size) else "resized-picture"
    ), told


def _fits(data: Packed, index: int, size: tuple[int, int]) -> bool:
    """Whether all that is in a picture can be in one of this size; an RLE is of its own size."""
    things = data.scene(index).things
    right, bottom = things.boxes[:, 2], things.boxes[:, 3]
    if any(isinstance(mask, dict) for mask in things.masks or ()):
        return False
    return bool((right <= size[1]).all() and (bottom <= size[0]).all())


def _check_splits(examined: _Examined, numbers: Mapping[str, int]) -> None:
    """What only all labels together tell."""
    for split, data in examined.splits.items():
        _check_numbers(examined, split, data)
    _check_folders(examined)
    _check_classes(examined, numbers)


def _check_numbers(examined: _Examined, split: str, data: Packed) -> None:
    """Of the things in each picture."""
    numbers = data.spans[:, 1] - data.spans[:, 0]
    usual = int(numbers.median()) if len(numbers) else 0
    for index in examined.unlabelled(split):
        examined.note("unlabelled-picture", data.path(index), "has no labels")
    for index, number in enumerate(numbers.tolist()):
        if number and usual >= _USUAL and number * _FEW <= usual:
            told = f"has {number} label{'s' * (number > 1)}, where {usual} are usual"
            examined.note("sparse-labels", data.path(index), told)


def _check_folders(examined: _Examined) -> None:
    """The pictures that lie beside those that are named, and how all their names end."""
    named = {path for _, _, path in examined.pictures()}
    folders = sorted({path.parent for path in named})
    beside = [p for folder in folders for p in sorted(folder.iterdir()) if p not in named]
    for path in beside:
        if path.suffix.lower() in SUFFIXES:
            examined.note(
                "unnamed-picture", path, "is in no split: no record that could be read names it"
            )
    suffixes = Counter(path.suffix for path in named)
    for suffix in suffixes:
        if suffix.lower() != suffix and suffix.lower() in suffixes:
            told = (
                f"{suffixes[suffix.lower()]} pictures end in {suffix.lower()}, "
                f"{suffixes[suffix]} in {suffix}"
            )
            examined.note("mixed-suffixes", None, told)


def _check_classes(examined: _Examined, numbers: Mapping[str, int]) -> None:
    for name, other in _alike(numbers).items():
        told = f'"{name}", {numbers[name]} times, and "{other}", {numbers[other]} times'
        examined.note("alike-classes", None, told)
    for name in (name for name, number in numbers.items() if number == 0):
        examined.note("unused-class", None, f'"{name}" has no label')
    commonest = max(numbers, key=numbers.__getitem__, default="")
    rare = [name for name, number in numbers.items() if 0 < number * _RARE <= numbers[commonest]]
    if rare:
        rarest = min(rare, key=numbers.__getitem__)
        told = (
            f'"{commonest}" has {numbers[commonest]} of {sum(numbers.values())} labels, '
            f'"{rarest}" {numbers[rarest]}; {len(rare)} of {len(numbers)} classes '
            f"{'is' if len(rare) == 1 else 'are'} {_RARE} times rarer or more"
        )
        examined.note("unbalanced-classes", None, told)


def _numbers_of_classes(summaries: Iterable[Summary]) -> dict[str, int]:
    """Labels of each class, in all splits."""
    numbers: Counter[str] = Counter()
    for summary in summaries:
        numbers.update(summary.classes)  # those without a label stay, with 0
    return dict(numbers)


def _alike(numbers: Mapping[str, int]) -> dict[str, str]:
    """Class names that differ from a more frequent one in case or spaces alone, and that one."""
    first: dict[str, str] = {}
    alike = {}
    for name in sorted(numbers, key=lambda name: -numbers[name]):
        other = first.setdefault("".join(name.split()).casefold(), name)
        if other != name:
            alike[name] = other
    return alike


def _write(examined: _Examined, alike: Mapping[str, str], out: Path) -> None:
    """The mended copy, and last of all what was changed."""
    copies = {split: _mended(examined, split, alike) for split in examined.splits}
    labelled = {split: copy for split, copy in copies.items() if _says_something(copy)}
    if not labelled:
        raise SightlineError(f"{examined.path}: no label is left to copy to {out}")
    for split in copies.keys() - labelled.keys():
        told = f"{out} is without {split}: no label of it is left"
        warnings.warn(told, DataWarning, stacklevel=2)
    changed = [flaw for flaw in examined.flaws if flaw.mended]
    document = {
        "counts": Counter(flaw.kind for flaw in changed),
        "changes": [flaw.to_json() for flaw in changed],
    }
    with filling(out) as beside:
        for split, copy in numbered(labelled).items():
            write_coco(copy, beside, split)
        changes = json.dumps(document, indent=1)
        (beside / "changes.json").write_text(changes, encoding="utf-8")


def _says_something(data: Packed) -> bool:
    """About at least one of its pictures: a thing, a map or a sentence."""
    others = [each.spans for each in (data.panoptic, data.captions) if each is not None]
    return any(bool((spans[:, 1] > spans[:, 0]).any()) for spans in (data.spans, *others))


def _mended(examined: _Examined, split: str, alike: Mapping[str, str]) -> Packed:
    data = examined.splits[split]
    sizes = data.sizes.clone()
    for (own, index), size in examined.sizes.items():
        if own == split:
            sizes[index] = torch.tensor(size)
    kept = [index for index in range(len(data)) if (split, index) not in examined.left_out]
    return _joined(replace(data, sizes=sizes), alike).take(kept)


def _joined(data: Packed, alike: Mapping[str, str]) -> Packed:
    """With one class for those that are alike."""
    classes = data.classes
    kept = [label for label, name in enumerate(classes.names) if name not in alike]
    names = [classes.names[label] for label in kept]
    places = [names.index(alike.get(name, name)) for name in classes.names]
    to = torch.tensor(places, dtype=torch.int64)
    joined = replace(classes, names=tuple(names), ids=tuple(classes.ids[label] for label in kept))
    panoptic = data.panoptic
    if panoptic is not None:  # whose labels go on with the stuff
        of_all = torch.cat([to, len(names) + torch.arange(len(classes.stuff))])
        segments = panoptic.segments.clone()
        segments[:, 1] = of_all[segments[:, 1]]
        panoptic = replace(panoptic, segments=segments)
    return replace(data, classes=joined, labels=to[data.labels], panoptic=panoptic)
