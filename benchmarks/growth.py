"""How the time of prediction and training grows: ``uv run python -m
benchmarks.growth``.

A ResNet-18 Faster R-CNN of random weights answers pictures of 1, 2, 4 and 8 times as many pixels,
batches of 1, 2, 4 and 8 pictures, 10 to 640 classes, and learns from 4 to 256 objects a picture.
Sizes take turns, the time of each is the median over rounds, and the exponent is the slope of a
straight line through the logarithms: 1 is growth in proportion. Promised: at most 1.1 in pixels and
in images. Exits with 1 where that is broken.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from sightline import create
from sightline.fuse import fuse
from sightline.types import Images, Instances, Scene

PROMISED = {"pixels": 1.1, "images": 1.1}
SIDE = 256  # pixels, of the smallest picture

Work = Callable[[], Any]


def build(classes: int = 20) -> Any:
    torch.manual_seed(0)
    return create("faster_rcnn", classes, backbone="resnet18", proposals=300)


def batch(images: int, height: int, width: int) -> Images:
    return Images(torch.rand(images, 3, height, width), torch.tensor([[height, width]] * images))


def predicting(model: Any, images: Images) -> Work:
    fast = fuse(model)

    def work() -> None:
        with torch.no_grad():
            fast(images)

    return work


def learning(model: Any, images: Images, objects: int) -> Work:
    model.train()
    corners = torch.rand(objects, 2) * SIDE
    boxes = torch.cat([corners, corners + 8 + torch.rand(objects, 2) * SIDE], dim=1)
    things = Instances(boxes=boxes, labels=torch.randint(0, 20, (objects,)))
    height, width = images.pixels.shape[-2:]
    targets = [Scene(size=(height, width), things=things) for _ in images.sizes]

    def work() -> None:
        losses = model(images, targets)
        sum(loss.mean() for loss in losses.values()).backward()

    return work


def series() -> dict[str, dict[int, Work]]:
    """What grows, and the work at each size."""
    model, one = build(), batch(1, SIDE, SIDE)
    shapes = ((SIDE, SIDE), (SIDE, 2 * SIDE), (2 * SIDE, 2 * SIDE), (2 * SIDE, 4 * SIDE))
    return {
        "pixels": {h * w: predicting(model, batch(1, h, w)) for h, w in shapes},
        "images": {n: predicting(model, batch(n, SIDE, SIDE)) for n in (1, 2, 4, 8)},
        "classes": {n: predicting(build(n), one) for n in (10, 40, 160, 640)},
        "objects": {n: learning(build(), batch(1, SIDE, SIDE), n) for n in (4, 16, 64, 256)},
    }


def exponent(sizes: list[int], seconds: list[float]) -> float:
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    kept = True
    for name, works in series().items():
        times: dict[int, list[float]] = {size: [] for size in works}
        for number in range(options.rounds + 1):
            for size, work in works.items():
                began = time.perf_counter()
                work()
                if number:  # the first is to warm up
                    times[size].append(time.perf_counter() - began)
        medians = [statistics.median(row) for row in times.values()]
        found = exponent(list(times), medians)
        shown = ", ".join(f"{size}: {m:.3f} s" for size, m in zip(times, medians, strict=True))
        print(f"{name:8} exponent {found:.2f}  ({shown})", flush=True)
        kept &= found <= PROMISED.get(name, float("inf"))
    print("all promises kept" if kept else "promises broken")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
