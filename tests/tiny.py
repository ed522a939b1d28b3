"""A model and a data set small enough to train in a test: 1,844 weights on coloured squares.

Everything that makes a resumed or divided run differ if it is done wrong is in it: BatchNorm,
dropout, random sampling by ``Scene.seed``, losses whose counts vary from picture to picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.data.packed import Splits
from sightline.data.transforms import Augment
from sightline.models import Card
from sightline.optim import one_cycle, sgd
from sightline.preprocess import Preprocess
from sightline.recipes.recipe import Recipe, Settings
from sightline.types import Classes, Images, Instances, Loss, Placement, Scene

CELL = 8  # pixels
CLASSES = Classes(("red", "blue"))


@dataclass(frozen=True)
class Squares:
    """Pictures of 32 x 32 pixels, each with up to three squares of a cell or two."""

    count: int
    seed: int = 0

    @property
    def classes(self) -> Classes:
        return CLASSES

    def __len__(self) -> int:
        return self.count

    def size(self, index: int) -> tuple[int, int]:
        return 32, 32

    def scene(self, index: int) -> Scene:
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        number = index % 4
        corner = torch.randint(0, 3, (number, 2), generator=generator) * CELL
        side = torch.randint(1, 3, (number, 1), generator=generator) * CELL
        labels = torch.randint(0, 2, (number,), generator=generator)
        boxes = torch.cat([corner, corner + side], dim=1).float()
        return Scene((32, 32), Instances(boxes, labels), path=f"{index}.png", image_id=index)

    def picture(self, index: int) -> Tensor:
        picture = torch.full((3, 32, 32), 64, dtype=torch.uint8)
        things = self.scene(index).things
        for box, label in zip(things.boxes.int().tolist(), things.labels.tolist(), strict=True):
            left, top, right, bottom = box
            picture[2 * label, top:bottom, left:right] = 250
        return picture


class Outputs(NamedTuple):
    logits: Tensor  # [B, 2, H / CELL, W / CELL]
    sides: Tensor  # the same: log of the side of a box there, in cells


class Tiny(nn.Module):
    """Says for each cell whether a square of each class begins there, and how large it is."""

    def __init__(self, norm: bool = True, dropout: float = 0.1) -> None:
        super().__init__()
        self.preprocess = Preprocess(short=None)
        self.needs: frozenset[str] = frozenset()
        self.card = Card("tiny", {"norm": norm, "dropout": dropout}, CLASSES)
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, CELL, stride=CELL, bias=not norm),
            nn.BatchNorm2d(8) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.head = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, images: Images, targets: list[Scene] | None = None) -> Any:
        outputs = self.outputs(images)
        if targets is None:
            return self.select(outputs, images)
        return self.losses(outputs, images, targets)

    def outputs(self, images: Images) -> Outputs:
        maps = self.head(self.backbone(images.pixels))
        return Outputs(maps[:, :2], maps[:, 2:])

    def losses(self, outputs: Outputs, images: Images, targets: list[Scene]) -> dict[str, Loss]:
        objects, sides = [], []
        for logits, maps, scene in zip(
            outputs.logits.float(), outputs.sides.float(), targets, strict=True
        ):
            true, side = torch.zeros_like(logits), torch.zeros_like(logits)
            things = scene.things
            column, row = (things.boxes[:, :2] / CELL).long().clamp(max=3).unbind(1)
            true[things.labels, row, column] = 1
            side[things.labels, row, column] = (
                (things.boxes[:, 2] - things.boxes[:, 0]) / CELL
            ).log()
            generator = torch.Generator().manual_seed(scene.seed or 0)
            sampled = torch.rand(true.shape, generator=generator) < 0.5
            objects.append(
                F.binary_cross_entropy_with_logits(logits, true, reduction="none")[sampled]
            )
            sides.append((maps - side)[true > 0].abs())
        return {"object": _loss(torch.cat(objects)), "side": _loss(torch.cat(sides))}

    def select(self, outputs: Outputs, images: Images) -> tuple[Tensor, Tensor, Tensor]:
        scores, place = outputs.logits.sigmoid().flatten(1).topk(8)
        return scores, place, outputs.sides.flatten(1).gather(1, place).clamp(-2, 2).exp()

    def describe(self, selected: Any, placements: Sequence[Placement]) -> list[Scene]:
        scenes = []
        for scores, place, side, placement in zip(*selected, placements, strict=True):
            label, cell = place // 16, place % 16
            corner = torch.stack([cell % 4, cell // 4], dim=1) * CELL
            boxes = placement.boxes_back(torch.cat([corner, corner + side[:, None] * CELL], dim=1))
            scenes.append(Scene(placement.original, Instances(boxes, label, scores)))
        return scenes


def _loss(values: Tensor) -> Loss:
    return Loss(values.sum(), torch.tensor(float(len(values))))


def build(classes: Classes, norm: bool = True, dropout: float = 0.1) -> Tiny:
    return Tiny(norm, dropout)


def squares(train: int = 22, val: int = 6) -> Splits:
    return Splits(Squares(train), Squares(val, seed=1))


def recipe(out: Path, model: Any = build, **settings: Any) -> Recipe:
    """Three passes of six steps over 22 pictures, a checkpoint every other step."""
    chosen: dict[str, Any] = {"passes": 3, "batch": 4, "lr": 0.05, "workers": 0, "device": "cpu"}
    chosen |= {"log_every": 2, "save_every": 2, "out": out}
    return Recipe(
        name="tiny",
        model=model,
        data=squares,
        augment=Augment(flip=0.5),
        optimizer=partial(sgd, weight_decay=1e-3),
        schedule=one_cycle,
        settings=Settings(**(chosen | settings)),
    )
