"""The pictures of a data set that is being written: under which name, copied or saved."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from sightline.data.packed import Dataset


def picture_name(path: str, spare: str, taken: Iterable[str]) -> str:
    """The file's own name; ``spare`` stands before it where another picture's name has the same
    stem (label files are named by it), and alone, as a PNG, where there is no file."""
    source = Path(path)
    if not path or not source.is_file():
        return f"{spare}.png"
    return f"{spare}_{source.name}" if source.stem in taken else source.name


def write_picture(dataset: Dataset, index: int, path: str, target: Path) -> None:
    """The file at ``path`` copied, or, where there is none, the picture saved."""
    source = Path(path)
    if not path or not source.is_file():
        pixels = dataset.picture(index).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(target, compress_level=1)
    elif not target.exists() or not source.samefile(target):
        shutil.copyfile(source, target)
