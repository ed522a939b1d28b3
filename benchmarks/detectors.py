"""Ours beside torchvision's own, trained from scratch on the same folder by the same loop.

    python -m benchmarks.detectors DATA faster_rcnn retinanet --passes 6 --seeds 0 1 2
    python -m benchmarks.detectors DATA faster_rcnn --passes 18 --by ours

Both: a ResNet-18 with a pyramid of 256 channels, torchvision's anchors, 240 x 320 pixels, batch 8,
SGD on a one-cycle schedule, flips (Faster R-CNN: 64 sampled regions a picture); what a family has
otherwise stands in its entry of ``FAMILIES``. Both see the same batches in the same order. What is
measured is AP on the folder's val split, by the same evaluator. A row is written to ``--out`` when
it is done, and not made again.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

import sightline.models
from sightline.data.folder import open_dataset
from sightline.data.loader import eval_loader, train_loader
from sightline.data.packed import Dataset
from sightline.data.transforms import Augment
from sightline.metrics.detection import coco_numbers
from sightline.ops.suppress import Detections, to_scenes
from sightline.optim import one_cycle, set_lr, sgd
from sightline.preprocess import Preprocess
from sightline.types import Classes, Images, Loss, Placement, Scene

SHORT, LONG = 240, 320
SAMPLES = 64
BATCH = 8
FLIPS = Augment(flip=0.5)
SAME: dict[str, Any] = {
    "min_size": SHORT,
    "max_size": LONG,
    "image_mean": [0.0, 0.0, 0.0],
    "image_std": [1.0, 1.0, 1.0],
}  # pictures come normalised and in their final size


@dataclass(frozen=True)
class Family:
    """One detector in both libraries: ours by name and options, torchvision's by a function of the
    number of its classes, background among them."""

    options: dict[str, Any]
    theirs: Callable[[int], nn.Module]
    lr: float = 0.02  # where the schedule is at its height
    preprocess: Preprocess = Preprocess(short=SHORT, long=LONG)
    augment: Augment = FLIPS


def their_backbone(**options: Any) -> nn.Module:
    return resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        norm_layer=nn.BatchNorm2d,
        trainable_layers=5,
        **options,
    )


def their_faster_rcnn(classes: int) -> nn.Module:
    return FasterRCNN(their_backbone(), classes, box_batch_size_per_image=SAMPLES, **SAME)


def their_retinanet(classes: int) -> nn.Module:
    more = LastLevelP6P7(256, 256)
    backbone = their_backbone(returned_layers=[2, 3, 4], extra_blocks=more)
    return RetinaNet(backbone, classes, **SAME)


FAMILIES = {
    "faster_rcnn": Family(
        options={"backbone": "resnet18", "even_anchors": True, "samples": SAMPLES},
        theirs=their_faster_rcnn,
    ),
    "retinanet": Family(
        options={"backbone": "resnet18", "even_anchors": True, "extra": "convs", "top": 300},
        theirs=their_retinanet,
        lr=0.01,
    ),
}


class Torchvision(nn.Module):
    """torchvision's model behind the four methods of ours; it gets pictures of their final size, so
    that its own transform only joins them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Images, targets: list[Scene] | None = None) -> Any:
        cut = [p[:, :h, :w] for p, (h, w) in zip(images.pixels, images.sizes.tolist(), strict=True)]
        self.model.train(targets is not None)
        if targets is not None:
            means = self.model(cut, [self._target(scene) for scene in targets])
            return {name: Loss(mean, torch.ones(())) for name, mean in means.items()}
        return [
            Detections(r["boxes"][None], r["scores"][None], r["labels"][None] - 1)
            for r in self.model(cut)
        ]

    def describe(self, selected: list[Detections], placements: list[Placement]) -> list[Scene]:
        return [to_scenes(d, [p])[0] for d, p in zip(selected, placements, strict=True)]

    def _target(self, scene: Scene) -> dict[str, Tensor]:
        things = scene.things[~scene.things.ignore]
        return {"boxes": things.boxes, "labels": things.labels + 1}


def build(family: str, by: str, classes: Classes) -> Any:
    entry = FAMILIES[family]
    if by == "torchvision":
        model: Any = Torchvision(entry.theirs(len(classes) + 1))
    else:
        model = sightline.models.create(family, classes, **entry.options)
    model.preprocess = entry.preprocess
    return model


def fit(model: Any, entry: Family, dataset: Dataset, passes: int, seed: int, workers: int) -> None:
    """The same loop for both: see the module's docstring."""
    loader = partial(
        train_loader, dataset, model.preprocess, batch=BATCH, seed=seed, augment=entry.augment
    )
    optimizer = sgd(model, entry.lr)
    steps = len(loader(epoch=0)) * passes
    step = 0
    for epoch in range(passes):
        model.train()
        for batch in loader(epoch=epoch, workers=workers):
            torch.manual_seed(seed * 1_000_003 + step)
            set_lr(optimizer, one_cycle(step, steps))
            losses = model(batch.images, batch.targets)
            total = sum(loss.mean() for loss in losses.values())
            optimizer.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            step += 1
        print(f"  pass {epoch + 1}/{passes}: loss {total.item():.3f}", flush=True)


@torch.no_grad()
def measure(model: Any, dataset: Dataset, workers: int) -> dict[str, float]:
    model.eval()
    truths, answers = [], []
    for batch in eval_loader(dataset, model.preprocess, batch=BATCH, workers=workers):
        answers += model.describe(model(batch.images), batch.placements)
        truths += [dataset.scene(index) for index in batch.indices]
    answers = [
        replace(a, image_id=t.image_id, path=t.path) for a, t in zip(answers, truths, strict=True)
    ]
    numbers = coco_numbers(truths, answers, dataset.classes)
    return {"AP": numbers["AP"], "AP50": numbers["AP50"]}


def row(key: dict[str, Any], data: Path, workers: int) -> dict[str, Any]:
    splits = open_dataset(data)
    torch.manual_seed(key["seed"])
    model = build(key["family"], key["by"], splits.train.classes)
    began = time.monotonic()
    fit(model, FAMILIES[key["family"]], splits.train, key["passes"], key["seed"], workers)
    minutes = (time.monotonic() - began) / 60
    numbers = measure(model, splits.val, workers)
    return key | {k: round(v, 4) for k, v in numbers.items()} | {"minutes": round(minutes, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("families", nargs="+", choices=list(FAMILIES))
    parser.add_argument("--by", nargs="+", default=["ours", "torchvision"])
    parser.add_argument("--passes", type=int, default=6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/detectors.jsonl"))
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    done = [json.loads(line) for line in lines]
    rows = []
    for seed, family, by in product(options.seeds, options.families, options.by):
        key = {"family": family, "by": by, "data": options.data.name}
        key |= {"passes": options.passes, "seed": seed}
        made = next((r for r in done if r.items() >= key.items()), None)
        if made is None:
            print(f"{family} by {by}, seed {seed}", flush=True)
            made = row(key, options.data, options.workers)
            with options.out.open("a") as file:
                file.write(json.dumps(made) + "\n")
        print(json.dumps(made), flush=True)
        rows.append(made)
    for family, by in product(options.families, options.by):
        mine = [r for r in rows if (r["family"], r["by"]) == (family, by)]
        for number in ("AP", "AP50"):
            mean = sum(r[number] for r in mine) / len(mine)
            print(f"{family} by {by}: mean {number} {mean:.4f} over {len(mine)} seeds")


if __name__ == "__main__":
    main()
