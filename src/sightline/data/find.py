"""Finding files: splits by the words in names, pictures by the names that annotations give them."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from sightline.data.images import SUFFIXES
from sightline.errors import SightlineError

_SPLIT_WORDS = {
    "trainval": "trainval",
    "train": "train",
    "validation": "val",
    "valid": "val",
    "val": "val",
    "test": "test",
}


def split_of(name: str) -> str | None:
    """The split a file or folder name speaks of: train, val, trainval or test.

    "instances_val2017" is val, "training" and "_annotations" are none: the word must stand alone,
    save for a year behind it.
    """
    for word in re.split(r"[^a-z]+", name.lower()):
        if word in _SPLIT_WORDS:
            return _SPLIT_WORDS[word]
    return None


def subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


class Pictures:
    """The picture files in some folders, found by name; the first folder that has it wins.

    A name may carry folders of its own ("train/a.jpg", or another machine's whole path), and may
    have another case or another ending than the file.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = list(dict.fromkeys(folders))
        self._names: dict[Path, dict[str, str]] = {}

    def find(self, *names: str) -> Path | None:
        """The file for the first of the names that leads to one."""
        for name in names:
            parts = name.replace("\\", "/").split("/")
            found = self._find(parts)
            if found is not None:
                return found
        return None

    def _find(self, parts: Sequence[str]) -> Path | None:
        if len(parts) > 1:
            for folder in self.folders:
                path = folder.joinpath(*parts)
                if path.is_file():
                    return path
        wanted = parts[-1]
        for key in (wanted, wanted.lower(), Path(wanted).stem.lower()):
            for folder in self.folders:
                name = self._listing(folder).get(key)
                if name is not None:
                    return folder / name
        return None

    def _listing(self, folder: Path) -> dict[str, str]:
        """Exact names, then names in lower case, then stems in lower case, to names."""
        if folder not in self._names:
            files = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
            by_stem = {Path(name).stem.lower(): name for name in reversed(files)}
            by_lower = {name.lower(): name for name in reversed(files)}
            self._names[folder] = by_stem | by_lower | {name: name for name in files}
        return self._names[folder]


def check_folder(path: Path) -> None:
    """Raises:
    SightlineError: there is no such folder.
    """
    if not path.exists():
        raise SightlineError(f"no such folder: {path}")
    if not path.is_dir():
        raise SightlineError(f"{path} is a file, not a folder")
