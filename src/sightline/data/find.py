"""Finding files: splits by the words in names, pictures by the names that annotations give them."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

from sightline.data.images import SUFFIXES
from sightline.data.records import RecordError
from sightline.errors import SightlineError

_SPLIT_WORDS = {
    "train": "train",
    "trainval": "trainval",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_PICTURE_WORDS = {"jpegimages", "images", "image", "imgs", "img", "pictures", "photos", "data"}
# Of folders of label maps; in the singular they may be of a class: "with_mask" holds faces.
MAP_WORDS = ("masks", "labels", "annotations", "annot", "segmentationclass", "gt", "groundtruth")
_OTHER_WORDS = {*MAP_WORDS, "segmentationobject", "panoptic", "stuff", "depth"}
TRIED = 8  # files of a folder that are looked into before it is passed over


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", name.lower())


def split_of(name: str) -> str | None:
    """The split a file or folder name speaks of: train, val, trainval or test.

    "instances_val2017" is val, "training" is none: the word must stand alone, save for a year.
    """
    return next((_SPLIT_WORDS[word] for word in _words(name) if word in _SPLIT_WORDS), None)


def is_file(path: Path) -> bool:
    """False for whatever cannot be a path: pathlib raises for some of it."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112


def contents(folder: Path) -> list[Path]:
    """What lies in a folder, sorted: nothing where it may not be looked into, as a disk's
    lost+found."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def subfolders(folder: Path) -> list[Path]:
    return [path for path in contents(folder) if is_folder(path)]


def head(file: Path) -> bytes:
    """The first 64 KB, to see what a file of any name may be: data sets are full of label maps and
    settings. Nothing where it cannot be read."""
    try:
        with file.open("rb") as opened:
            return opened.read(1 << 16)
    except OSError:
        return b""


def of_kind(folder: Path, pattern: str, looks_right: Callable[[Path], bool]) -> Iterator[Path]:
    """The files of a folder that look right, of which one must be among the first few: what else
    lies there in thousands is not looked into."""
    files = sorted(folder.glob(pattern))
    if any(map(looks_right, files[:TRIED])):
        yield from filter(looks_right, files)


def by_folder(path: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Annotation files by the splits that their folders speak of, and "all" of them; nothing where
    there are none."""
    return _by_split(path, {file: file.parent for file in files})


def by_name(path: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Likewise by the splits that their folders or their own names speak of."""
    return _by_split(path, {file: file for file in files})


def _by_split(path: Path, files: Mapping[Path, Path]) -> dict[str, list[Path]]:
    """Files by the splits that the path told for each speaks of, and "all" of them."""
    found: dict[str, list[Path]] = {}
    for file, told in files.items():
        split = split_of("/".join(told.relative_to(path).parts))
        if split:
            found.setdefault(split, []).append(file)
    return found | {"all": list(files)} if files else {}


def by_lists(folder: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Files by the lists of their stems or their pictures' names that lie in a folder, one a split.
    What is listed and not there gets the path it would have, so that reading says what is
    missing."""
    by_stem = {file.stem: file for file in files}
    listed = {}
    for file in sorted(folder.glob("*.txt")):
        split = split_of(file.stem)
        if split is not None and file.stem.isalpha():  # not aeroplane_train.txt
            names = [re.split(r"[\\/]", line.split()[0])[-1] for _, line in read_lines(file)]
            listed[split] = [
                by_stem.get(name) or _by_stem_of(name, by_stem, files[0]) for name in names
            ]
    return listed


def _by_stem_of(name: str, by_stem: Mapping[str, Path], beside: Path) -> Path:
    """The file of the stem of a name, or the path it would have."""
    ending = Path(name).suffix
    stem = name.removesuffix(ending) if ending.lower() in {*SUFFIXES, ".xml"} else name
    return by_stem.get(stem, beside.with_name(f"{stem}{beside.suffix}"))


def read_lines(file: Path) -> list[tuple[int, str]]:
    """The lines with something on them and their numbers, of a text in UTF-8.

    Raises:
        SightlineError: it cannot be read, or has another encoding.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise SightlineError(f"{file}: not a text in UTF-8, save it as such") from error
    except OSError as error:
        raise SightlineError(f"cannot read {file}: {error.strerror}") from error
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def picture_folders(bases: Sequence[Path], split: str | None = None) -> list[Path]:
    """Where the pictures of a split may lie, the likeliest folder first: the bases, of which the
    last holds the others, the folders in them, and those in folders named after a split or after
    pictures. Folders of another split come last, and count only where the split has none of its
    own: in place of a missing picture, another of its name would be found there. Folders of masks
    and the like are left out."""
    ranks: dict[Path, tuple[int, bool]] = {}
    for base in bases:
        for folder in [base, *_below(base)]:
            words = _words("/".join(folder.relative_to(base).parts))
            if not _OTHER_WORDS.intersection(words):
                inside = _words("/".join(folder.relative_to(bases[-1]).parts))
                spoken = split_of(" ".join(reversed(inside)))
                affinity = 1 if spoken is None else 0 if _akin(spoken, split) else 2
                ranks.setdefault(folder, (affinity, not _PICTURE_WORDS.intersection(words)))
    own = any(affinity == 0 for affinity, _ in ranks.values())
    kept = [folder for folder, (affinity, _) in ranks.items() if not (own and affinity == 2)]
    return sorted(kept, key=ranks.__getitem__)


def _below(base: Path) -> list[Path]:
    children = subfolders(base)
    opened = [
        c for c in children if split_of(c.name) or _PICTURE_WORDS.intersection(_words(c.name))
    ]
    return children + [inner for child in opened for inner in subfolders(child)]


def _akin(spoken: str, split: str | None) -> bool:
    """Some keep the pictures of train and val under trainval, or the other way round."""
    return spoken == split or {spoken, split} in ({"trainval", "train"}, {"trainval", "val"})


class Pictures:
    """The picture files in some folders, by name; the first folder that has one wins.

    A name may have another case or another ending than the file, and may carry folders of its own:
    "cam2/a.jpg", or another machine's whole path. The last ones of these that are there are meant,
    and no picture elsewhere stands in for one that is missing from them. Where none is there, a
    picture counts if it alone has that name.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = list(dict.fromkeys(folders))
        self._names: dict[Path, dict[str, str]] = {}
        self._told: dict[tuple[str, ...], list[Path]] = {}

    def find(self, *names: str) -> Path | None:
        """The file for the first of the names that leads to one."""
        found = (self._candidates(name) for name in names)
        return next((files[0] for files in found if len(files) == 1), None)

    def need(self, where: str, *names: str) -> Path:
        """As ``find``.

        Raises:
            RecordError: none of the names leads to a file; the line begins with ``where``.
        """
        found = self.find(*names)
        if found is None:
            raise RecordError("missing-picture", f"{where}: no picture {self.missing(*names)}")
        return found

    def missing(self, *names: str) -> str:
        """What to say of names that lead to no file."""
        ended = dict.fromkeys(n if _stem(n) != n.lower() else f"{n}.*" for n in names)
        return f"{' or '.join(ended)} {self.why(names[0])}"

    def why(self, name: str) -> str:
        """What to say of a name that leads to no file."""
        if several := self._candidates(name):
            return f"(which of {', '.join(map(str, several[:3]))} is meant?)"
        folders = self._meant(tuple(_parts(name)[:-1])) or self.folders
        return f"(looked in {', '.join(map(str, folders[:4]))})"

    def _candidates(self, name: str) -> list[Path]:
        """The one file of a name, or several where no folder of its own tells which."""
        if not (parts := _parts(name)):
            return []
        *told, last = parts
        meant = self._meant(tuple(told))
        exact = (folder / last for folder in meant)
        alike = (self._alike(folder, last) for folder in meant or self.folders)
        found = chain(filter(is_file, exact), filter(None, alike))
        return list(found if told and not meant else islice(found, 1))

    def _meant(self, told: tuple[str, ...]) -> list[Path]:
        """The folders that a name tells of, and those in them that are searched; none where the
        name tells of none, or of none that is there."""
        if told not in self._told:
            ends = (told[first:] for first in range(len(told)))
            there = next(filter(None, map(self._ending, ends)), [])
            below = [f for f in self.folders if any(f.is_relative_to(t) for t in there)]
            self._told[told] = list(dict.fromkeys([*there, *below]))
        return self._told[told]

    def _ending(self, end: tuple[str, ...]) -> list[Path]:
        """The folders whose path ends so."""
        own = [folder for folder in self.folders if folder.parts[-len(end) :] == end]
        return own + [f for folder in self.folders if is_folder(f := folder.joinpath(*end))]

    def _alike(self, folder: Path, name: str) -> Path | None:
        names = self._listing(folder)
        keys = (name, name.lower(), _stem(name))
        return next((folder / names[key] for key in keys if key in names), None)

    def _listing(self, folder: Path) -> dict[str, str]:
        """Names by name, by name in lower case and by stem in lower case."""
        if folder not in self._names:
            files = [p.name for p in contents(folder) if p.suffix.lower() in SUFFIXES]
            by_stem = {_stem(name): name for name in reversed(files)}
            by_lower = {name.lower(): name for name in reversed(files)}
            self._names[folder] = by_stem | by_lower | {name: name for name in files}
        return self._names[folder]


def pictures_of(folder: Path, path: Path) -> Pictures:
    """Those of the annotation files in a folder: beside them, beside the folder, or anywhere in the
    data set."""
    bases = [folder]
    while bases[-1] != path:
        bases.append(bases[-1].parent)
    return Pictures(picture_folders(bases, split_of(" ".join(folder.relative_to(path).parts))))


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"[\\/]", name) if part.strip(".")]


def _stem(name: str) -> str:
    """In lower case, without the ending of a picture file; any other dot is part of the name."""
    path = Path(name.lower())
    return path.stem if path.suffix in SUFFIXES else path.name
