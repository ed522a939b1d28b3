"""The pictures of a data set that is being written: under which name, copied or saved."""

import shutil
from pathlib import Path

from PIL import Image

from sightline.data.packed import Dataset


def own_name(path: str) -> str:
    """Of the file; empty where there is none."""
    return Path(path).name if path and Path(path).is_file() else ""


def free_name(name: str, spare: str, taken: set[str]) -> str:
    """The picture's own name; ``spare`` stands before it where another picture's name has the same
    stem (label files are named by it), and alone, as a PNG, where there is no name. Its stem is
    added to those that are taken, in lower case: some systems tell no difference."""
    name = name or f"{spare}.png"
    while Path(name).stem.lower() in taken:
        name = f"{spare}_{name}"
    taken.add(Path(name).stem.lower())
    return name


def write_picture(dataset: Dataset, index: int, path: str, target: Path) -> None:
    """The file at ``path`` copied, or, where there is none, the picture saved."""
    source = Path(path)
    if not path or not source.is_file():
        pixels = dataset.picture(index).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(target, compress_level=1)
    elif not target.exists() or not source.samefile(target):
        shutil.copyfile(source, target)
