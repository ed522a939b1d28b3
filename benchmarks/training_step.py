"""Our training step beside torchvision's: ``uv run python -m benchmarks.training_step``.

Promised: at most 0.75 of the time of torchvision's Faster R-CNN in float32 (0.65 is the goal), 0.45
in bfloat16, for R18-FPN (batch 8, 240 x 320, 64 regions) and R50-FPN (batch 2, 640 x 640, 512
regions). Ours is the step of ``train.py``; theirs has the same batches, clipping and optimiser.
Steps alternate; the ratio is that of medians. The learning rate is 0 once measuring begins: weights
stay untrained, or as ``--warm`` steps leave them. Beside each time stands its arithmetic floor:
counted operations over the rate of a large matrix product. Exits with 1 where a promise is broken.
"""

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

import sightline.models
from sightline.data.loader import Batch
from sightline.data.packed import Splits
from sightline.data.toybox import Toybox
from sightline.journal import Journal
from sightline.optim import set_lr, sgd
from sightline.recipes.recipe import Recipe, Settings
from sightline.train import Progress, batches, begin, clip, gradients
from sightline.types import Classes

PROMISED = {"float32": 0.75, "bfloat16": 0.45}
BATCHES = 3


class Row(NamedTuple):
    backbone: str
    batch: int
    size: tuple[int, int]
    samples: int


ROWS = {"r18": Row("resnet18", 8, (240, 320), 64), "r50": Row("resnet50", 2, (640, 640), 512)}
TINY = Row("resnet18", 1, (64, 64), 16)

Step = Callable[[Batch, float], None]  # with a factor on the learning rate


def ours(row: Row, dtype: str, device: str, folder: Path) -> tuple[Step, list[Batch]]:
    """A step of ``sightline train``, and the batches of its loader."""

    def model(classes: Classes) -> nn.Module:
        short, long = min(row.size), max(row.size)
        options: dict[str, Any] = {"backbone": row.backbone, "samples": row.samples}
        options |= {"even_anchors": True, "short": short, "long": long}
        return sightline.models.create("faster_rcnn", classes, **options)

    scenes = partial(Toybox, size=row.size, things=(8, 24))
    settings = Settings(
        out=folder,
        passes=1,
        batch=row.batch,
        lr=0.01,
        clip=10.0,
        workers=0,
        device=device,
        bf16=dtype == "bfloat16",
    )
    recipe = Recipe(
        name="benchmark",
        model=model,
        data=lambda: Splits(scenes(row.batch * BATCHES), scenes(0)),
        augment=None,
        optimizer=sgd,
        schedule=lambda step, steps: 1.0,
        settings=settings,
    )
    run = begin(recipe, torch.device(device), Progress(), Journal(None))
    run.model.train()

    def step(batch: Batch, factor: float) -> None:
        set_lr(run.optimizer, factor)
        gradients(run, batch)
        clip(run, batch)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)

    return step, list(batches(run.recipe, run.data, run.model, epoch=0, start=0))


def theirs(row: Row, dtype: str, device: str, classes: int) -> Step:
    backbone = resnet_fpn_backbone(
        backbone_name=row.backbone, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    model = FasterRCNN(
        backbone,
        classes + 1,
        min_size=min(row.size),
        max_size=max(row.size),
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        box_batch_size_per_image=row.samples,
        _skip_resize=True,
    )
    model.to(device).train()
    optimizer = sgd(model, 0.01)

    def step(batch: Batch, factor: float) -> None:
        set_lr(optimizer, factor)
        scenes = [scene.to(device) for scene in batch.targets]
        targets = [{"boxes": s.things.boxes, "labels": s.things.labels + 1} for s in scenes]
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            losses = model(list(batch.images.pixels.to(device)), targets)
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def seconds(work: Callable[[], Any], device: str) -> float:
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def matrix_rate(dtype: str, device: str, side: int) -> float:
    """Operations a second in the best of five products of square matrices."""
    a = torch.randn(side, side, device=device, dtype=getattr(torch, dtype))
    return 2 * side**3 / min(seconds(lambda: a @ a, device) for _ in range(5))


@register_flop_formula(torch.ops.sightline.winograd_conv3x3)
def products(x: Any, weights: Any, *rest: Any, **named: Any) -> int:
    """Of Winograd's convolution: the products of its 36 matrices, without the transforms."""
    batch, channels, height, width = x
    tiles = batch * math.ceil(height / 4) * math.ceil(width / 4)
    return 2 * tiles * 36 * channels * int(weights[2])


def operations(step: Step, batch: Batch) -> int:
    with FlopCounterMode(display=False) as counter:
        step(batch, 0.0)
    return counter.get_total_flops()


def measure(name: str, row: Row, options: argparse.Namespace) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        mine, given = ours(row, options.dtype, options.device, Path(folder))
    classes = len(Toybox.classes)
    steps = {"ours": mine, "torchvision": theirs(row, options.dtype, options.device, classes)}
    for number in range(max(1, options.warm)):
        for step in steps.values():
            step(given[number % len(given)], 1.0 if options.warm else 0.0)
    if options.profile:
        with profile() as table:
            mine(given[0], 0.0)
        print(table.key_averages().table(sort_by="self_cpu_time_total", row_limit=30))
    times: dict[str, list[float]] = {side: [] for side in steps}
    for number in range(options.rounds):
        for side, step in steps.items():
            work = partial(step, given[number % len(given)], 0.0)
            times[side].append(seconds(work, options.device))
    rate = matrix_rate(options.dtype, options.device, 256 if options.tiny else 2048)
    for side, step in steps.items():
        low, high = min(times[side]), max(times[side])
        counted = operations(step, given[0])
        print(
            f"{name} {side:<11} {statistics.median(times[side]):.2f} s ({low:.2f} to {high:.2f} in "
            f"{options.rounds} steps), floor {counted / rate:.2f} s: {counted / 1e9:.0f} G "
            f"operations at {rate / 1e9:.0f} G/s"
        )
    ratio = statistics.median(times["ours"]) / statistics.median(times["torchvision"])
    print(f"{name} {options.dtype}: ratio {ratio:.2f} (promised {PROMISED[options.dtype]})")
    return ratio <= PROMISED[options.dtype]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm", type=int, default=0, help="steps of training before")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dtype", choices=PROMISED, default="float32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="one small picture: does it run?")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows = {"tiny": TINY} if options.tiny else {name: ROWS[name] for name in options.rows}
    kept = [measure(name, row, options) for name, row in rows.items()]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
