"""A detector whose answers can be worked out by hand: it finds the bright part of each colour."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from sightline.models import Card
from sightline.ops.suppress import EMPTY, Detections, Selection, to_scenes
from sightline.preprocess import Preprocess
from sightline.types import Classes, Images, Instances, Placement, Scene

COLOURS = Classes(("red", "green", "blue"), ids=(3, 5, 9))


class Bright(nn.Module):
    """One box for each colour channel that is lit anywhere, as large as its lit part; its score is
    the brightest value there, 0..1."""

    needs: frozenset[str] = frozenset()
    by_background = True

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.preprocess = Preprocess(short=None, mean=(0, 0, 0), std=(1, 1, 1), multiple=1)
        self.selection = Selection(score=0.05)
        self.card = Card("bright", {}, COLOURS)
        self.gain = nn.Parameter(torch.ones(()))
        self.batches: list[tuple[int, ...]] = []

    def forward(self, images: Images, targets: list[Scene] | None = None) -> Any:
        assert targets is None
        assert not self.training
        self.batches.append(tuple(images.pixels.shape))
        pixels = images.pixels * self.gain
        scores = pixels.amax((2, 3))
        boxes = torch.stack([_lit(channel) for channel in pixels.flatten(0, 1)]).view(-1, 3, 4)
        labels = torch.arange(3).expand(scores.shape)
        if self.selection.by == "background":  # the blue is what it takes for background
            scores = torch.where(labels == 2, 1 - scores, scores)
        best, order = scores.sort(descending=True)
        kept = (best > self.selection.score) & (torch.arange(3) < self.selection.top)
        boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4))
        return Detections(boxes, torch.where(kept, best, EMPTY), order)

    def describe(self, selected: Detections, placements: Sequence[Placement]) -> list[Scene]:
        return to_scenes(selected, placements)


def _lit(channel: Tensor) -> Tensor:
    rows, columns = (channel.amax(side).nonzero().flatten().tolist() for side in (1, 0))
    if not rows:
        return torch.zeros(4)
    return torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()


def picture(
    *patches: tuple[int, int, int, int, int, int], size: tuple[int, int] = (20, 30)
) -> Tensor:
    """A dark picture; each patch is x1, y1, x2, y2, channel, brightness 0..255."""
    pixels = torch.zeros(3, *size, dtype=torch.uint8)
    for x1, y1, x2, y2, channel, value in patches:
        pixels[channel, y1:y2, x1:x2] = value
    return pixels


def save_picture(path: Any, pixels: Tensor) -> None:
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)


class Patches:
    """A data set in memory; the truth of each picture is what is given with it."""

    def __init__(
        self, pictures: Sequence[Tensor], truths: Sequence[Instances], classes: Classes = COLOURS
    ) -> None:
        self.pictures, self.truths, self.classes = pictures, truths, classes

    def __len__(self) -> int:
        return len(self.pictures)

    def size(self, index: int) -> tuple[int, int]:
        height, width = self.pictures[index].shape[1:]
        return height, width

    def scene(self, index: int) -> Scene:
        name = f"{index}.png"
        return Scene(self.size(index), self.truths[index], path=name, image_id=10 + index)

    def picture(self, index: int) -> Tensor:
        return self.pictures[index]
