"""Ours beside torchvision's Faster R-CNN, trained from scratch on the same folder by the same loop.

    python -m benchmarks.detectors DATA --passes 6 --seeds 0 1 2
    python -m benchmarks.detectors DATA --passes 18 --models ours

Both: ResNet-18 with a pyramid of 256 channels, torchvision's anchors, 240 x 320 pixels, 64 sampled
regions a picture, batch 8, SGD on a one-cycle schedule with its height at 0.02, flips. Both see the
same batches in the same order. What is measured is AP on the folder's val split, by the same
evaluator. A row is written to ``--out`` when it is done, and not made again.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

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
LR = 0.02
BATCH = 8


class Torchvision(nn.Module):
    """torchvision's model behind the four methods of ours; it gets pictures of their final size, so
    that its own transform only joins them."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        backbone = resnet_fpn_backbone(
            backbone_name="resnet18",
            weights=None,
            norm_layer=nn.BatchNorm2d,
            trainable_layers=5,
        )
        self.model = FasterRCNN(
            backbone,
            classes + 1,
            min_size=SHORT,
            max_size=LONG,
            image_mean=[0.0, 0.0, 0.0],
            image_std=[1.0, 1.0, 1.0],
            box_batch_size_per_image=SAMPLES,
        )
        self.preprocess = Preprocess(short=SHORT, long=LONG)

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


def build(name: str, classes: Classes) -> Any:
    if name == "torchvision":
        return Torchvision(len(classes))
    return sightline.models.create(
        "faster_rcnn",
        classes,
        backbone="resnet18",
        even_anchors=True,
        samples=SAMPLES,
        short=SHORT,
        long=LONG,
    )


def fit(model: Any, dataset: Dataset, passes: int, seed: int, workers: int) -> None:
    """The same loop for both: see the module's docstring."""
    augment = Augment(flip=0.5)
    steps_a_pass = len(
        train_loader(dataset, model.preprocess, batch=BATCH, seed=seed, epoch=0, augment=augment)
    )
    optimizer = sgd(model, LR)
    steps = steps_a_pass * passes
    step = 0
    for epoch in range(passes):
        model.train()
        loader = train_loader(
            dataset,
            model.preprocess,
            batch=BATCH,
            seed=seed,
            epoch=epoch,
            augment=augment,
            workers=workers,
        )
        for batch in loader:
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


def row(name: str, data: Path, passes: int, seed: int, workers: int) -> dict[str, Any]:
    splits = open_dataset(data)
    torch.manual_seed(seed)
    model = build(name, splits.train.classes)
    began = time.monotonic()
    fit(model, splits.train, passes, seed, workers)
    minutes = (time.monotonic() - began) / 60
    numbers = measure(model, splits.val, workers)
    key = {"model": name, "data": data.name, "passes": passes, "seed": seed}
    return key | {k: round(v, 4) for k, v in numbers.items()} | {"minutes": round(minutes, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--passes", type=int, default=6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", default=["ours", "torchvision"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/detectors.jsonl"))
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    done = [json.loads(line) for line in lines]
    for seed in options.seeds:
        for name in options.models:
            key = {
                "model": name,
                "data": options.data.name,
                "passes": options.passes,
                "seed": seed,
            }
            made = next((r for r in done if r.items() >= key.items()), None)
            if made is None:
                print(f"{name}, seed {seed}", flush=True)
                made = row(name, options.data, options.passes, seed, options.workers)
                with options.out.open("a") as file:
                    file.write(json.dumps(made) + "\n")
                done.append(made)
            print(json.dumps(made), flush=True)
    for name in options.models:
        mine = [r for r in done if r["model"] == name and r["passes"] == options.passes]
        mine = [r for r in mine if r["data"] == options.data.name and r["seed"] in options.seeds]
        for number in ("AP", "AP50"):
            mean = sum(r[number] for r in mine) / len(mine)
            print(f"{name}: mean {number} {mean:.4f} over {len(mine)} seeds")


if __name__ == "__main__":
    main()
