"""A folder of pictures with label maps, and models that label them: for what is done with maps."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from sightline.types import Classes

CLASSES = Classes((), stuff=("sky", "road"))
SIZES = ((40, 56), (48, 40))  # height, width


def picture(height: int, width: int, horizon: int) -> tuple[Tensor, Tensor]:
    """Blue above the horizon, grey below it, the bottom row unlabelled."""
    pixels = torch.full((3, height, width), 90, dtype=torch.uint8)
    pixels[:, :horizon] = torch.tensor([40, 80, 240], dtype=torch.uint8)[:, None, None]
    labels = torch.ones(height, width, dtype=torch.uint8)
    labels[:horizon] = 0
    labels[-1] = 255
    return pixels, labels


def write_streets(folder: Path, train: int = 4, val: int = 2) -> Path:
    """As index PNGs, in splits, with classes.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("sky\nroad\n")
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            size = SIZES[number % 2]
            pixels, labels = picture(*size, horizon=10 + 5 * number)
            for kind, values in (("", pixels.permute(1, 2, 0)), ("annot", labels)):
                place = folder / f"{split}{kind}"
                place.mkdir(exist_ok=True)
                Image.fromarray(values.numpy()).save(place / f"{number}.png")
    return folder
