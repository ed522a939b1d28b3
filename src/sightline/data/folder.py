"""A folder of labelled pictures: its format and its splits are found from what lies in it."""

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.data import coco, cvat, index_png, jsonlines, labelme, labelstudio, voc, yolo
from sightline.data.packed import Dataset, DataWarning, Packed, Splits
from sightline.errors import SightlineError

_FORMATS = (labelme, labelstudio, jsonlines, cvat, coco, voc, yolo, index_png)


def open_dataset(path: str | Path, val: float = 0.2, seed: int = 0) -> Splits:
    """What to train on and what to measure on.

    ``path`` is a folder of any format that docs/data.md lists, or one annotation file. Where
    trainval and val are listed and train is not, train is what trainval has and val has not. Where
    there is no val split, the share ``val`` of the pictures is set aside: those whose hash of
    (seed, file name) is lowest, so the same pictures wherever the folder lies. A test split is not
    touched.

    Raises:
        SightlineError: no such folder, no known layout, nothing to train on, or a flaw in a file.
    """
    module, found = find_layout(Path(path))
    if "train" in found and "val" in found:
        both = module.read(Path(path), found, ["train", "val"])
        return Splits(both["train"], both["val"])
    if {"trainval", "val"} <= set(found):
        both = with_train(module.read(Path(path), found, ["trainval", "val"]))
        return Splits(both["train"], both["val"])
    names = ("train", "trainval", "all") if set(found) == {"all"} else ("train", "trainval")
    whole = next((split for split in names if split in found), None)
    if whole is None:
        raise SightlineError(f"{path} has nothing to train on: only {', '.join(sorted(found))}")
    return _divide(module.read(Path(path), found, [whole])[whole], val, seed)


def with_train(splits: dict[str, Packed]) -> dict[str, Packed]:
    """Where there are trainval and val, and train is not, with what trainval has and val has not as
    train in the place of trainval."""
    if "train" in splits or not {"trainval", "val"} <= set(splits):
        return splits
    whole, val = splits["trainval"], splits["val"]
    taken = {val.path(index) for index in range(len(val))}
    rest = [index for index in range(len(whole)) if whole.path(index) not in taken]
    if not rest:
        raise SightlineError("trainval has nothing to train on: all of it is in val")
    others = {name: data for name, data in splits.items() if name != "trainval"}
    return {"train": whole.take(rest)} | others


def named_split(path: str | Path) -> str:
    """The split that a path means by itself: all of an annotation file, val of a folder and of a
    YAML file, which describes one."""
    path = Path(path)
    return "all" if path.is_file() and path.suffix.lower() not in yolo.YAML else "val"


def open_split(path: str | Path, split: str, val: float = 0.2, seed: int = 0) -> Dataset:
    """One split, by its name in the folder; "train" and "val" also where ``open_dataset`` makes
    them, and "all" for every picture of an annotation file, or of a folder with one split or none.

    Raises:
        SightlineError: as ``open_dataset``, or there is no such split.
    """
    path = Path(path)
    module, found = find_layout(path)
    if split in ("train", "val") and not {split, "val"} <= set(found):
        return open_dataset(path, val, seed)[split == "val"]
    if split == "all" and "all" not in found:
        split = next((own for own in found if len(found) == 1 or found[own] == path), "all")
    if split not in found:
        raise SightlineError(f"{path} has no split {split}: it has {', '.join(sorted(found))}")
    return module.read(path, found, [split])[split]


def open_splits(path: str | Path) -> dict[str, Packed]:
    """Every split, by its name, as it stands in the folder.

    Raises:
        SightlineError: as ``open_dataset``.

    Warns:
        DataWarning: there are annotation files in no split.
    """
    path = Path(path)
    module, found = find_layout(path)
    names = named_splits(found)
    if "all" in found and names != ["all"]:
        taken = {file for name in names for file in _files(found[name])}
        left = [file.name for file in _files(found["all"]) if file not in taken]
        if left:
            some = ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")
            told = f"{path}: {len(left)} annotation files are in no split and left out: {some}"
            warnings.warn(told, DataWarning, stacklevel=2)
    splits: dict[str, Packed] = module.read(path, found, names)
    return splits


def named_splits(found: Mapping[str, Any]) -> list[str]:
    """Those of a folder; "all" is one only where it is alone."""
    return [name for name in found if name != "all"] or ["all"]


def _files(found: Any) -> list[Path]:
    """The annotation files of a split; some formats give more beside each."""
    return [entry if isinstance(entry, Path) else entry[0] for entry in found]


def find_layout(path: Path) -> tuple[Any, dict[str, Any]]:
    """The module of the format, and what its ``find`` found."""
    try:
        if not path.exists():
            raise SightlineError(f"no such folder: {path}")
        if not path.is_dir() and not path.is_file():
            raise SightlineError(f"{path} is neither a folder nor a file")
    except OSError as error:
        raise SightlineError(f"cannot read {path}: {error.strerror}") from error
    for module in _FORMATS:
        found = module.find(path)
        if found:
            return module, found
    looked_for = " or ".join(module.LOOKED_FOR for module in _FORMATS)
    raise SightlineError(f"{path}: no known layout; looked for {looked_for}")


def _divide(dataset: Packed, val: float, seed: int) -> Splits:
    if not 0 < val < 1:
        raise SightlineError(f"the share set aside for val must lie between 0 and 1, not {val}")
    count = len(dataset)
    if count < 2:
        raise SightlineError(
            f"{dataset.root}: one picture cannot be both trained on and measured on: add another"
        )
    ranked = sorted(range(count), key=lambda index: _hash(seed, dataset.path(index).name))
    held = min(max(round(count * val), 1), count - 1)
    train, held_out = sorted(ranked[held:]), sorted(ranked[:held])
    return Splits(dataset.take(train), dataset.take(held_out))


def _hash(seed: int, name: str) -> bytes:
    told = f"{seed}:{name}".encode(errors="surrogatepass")  # names of files may be no text
    return hashlib.blake2b(told, digest_size=8).digest()
