"""Finding files: splits by the words in names, pictures by the names that annotations give them."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from sightline.data.images import SUFFIXES
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
_OTHER_WORDS = {"annotations", "labels", "masks", "panoptic", "stuff", "depth"}


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", name.lower())


def split_of(name: str) -> str | None:
    """The split a file or folder name speaks of: train, val, trainval or test.

    "instances_val2017" is val, "training" is none: the word must stand alone, save for a year.
    """
    return next((_SPLIT_WORDS[word] for word in _words(name) if word in _SPLIT_WORDS), None)


def subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def head(file: Path) -> bytes:
    """The first 64 KB, to see what a file of any name may be: data sets are full of label maps and
    settings. Nothing where it cannot be read."""
    try:
        with file.open("rb") as opened:
            return opened.read(1 << 16)
    except OSError:
        return b""


def by_folder(path: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Annotation files by the splits that their folders speak of, and "all" of them; nothing where
    there are none."""
    found: dict[str, list[Path]] = {}
    for file in files:
        split = split_of(" ".join(file.parent.relative_to(path).parts))
        if split:
            found.setdefault(split, []).append(file)
    return found | {"all": list(files)} if files else {}


def read_lines(file: Path) -> list[str]:
    """Of a text in UTF-8, whatever the machine it comes from ends lines with.

    Raises:
        SightlineError: it cannot be read, or has another encoding.
    """
    try:
        return file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise SightlineError(f"{file}: not a text in UTF-8, save it as such") from error
    except OSError as error:
        raise SightlineError(f"cannot read {file}: {error.strerror}") from error


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

    A name may carry folders of its own ("train/a.jpg", or another machine's whole path), and may
    have another case or another ending than the file.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = list(dict.fromkeys(folders))
        self._names: dict[Path, dict[str, str]] = {}

    def find(self, *names: str) -> Path | None:
        """The file for the first of the names that leads to one."""
        for name in names:
            found = self._find([part for part in re.split(r"[\\/]", name) if part.strip(".")])
            if found is not None:
                return found
        return None

    def _find(self, parts: Sequence[str]) -> Path | None:
        if len(parts) > 1:
            exact = (folder.joinpath(*parts) for folder in self.folders)
            found = next((path for path in exact if path.is_file()), None)
            if found is not None:
                return found
        for folder in self.folders if parts else ():
            names = self._listing(folder)
            for key in (parts[-1], parts[-1].lower(), _stem(parts[-1])):
                if key in names:
                    return folder / names[key]
        return None

    def _listing(self, folder: Path) -> dict[str, str]:
        """Names by name, by name in lower case and by stem in lower case."""
        if folder not in self._names:
            files = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
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


def _stem(name: str) -> str:
    """In lower case, without the ending of a picture file; any other dot is part of the name."""
    path = Path(name.lower())
    return path.stem if path.suffix in SUFFIXES else path.name
