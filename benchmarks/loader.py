"""Photos through the loader, beside torchvision's: ``SIGHTLINE_DATA=DIR uv run python -m
benchmarks.loader [--workers 0 2] [--rounds 5]``.

Ours is the loader of ``sightline train`` on DIR/coco/train: decoded, mirrored, resized, normalised
and padded, boxes with it. Theirs is torch's DataLoader over torchvision's ``CocoDetection`` with
its v2 transforms, for the same sizes, and its resizing and padding for detection. Epochs take
turns, the ratio is of medians; the floor is the time to decode the JPEGs and nothing else, in one
process.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from sightline.data.folder import open_dataset
from sightline.data.loader import train_loader
from sightline.data.transforms import Augment
from sightline.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

Epoch = Callable[[], Iterable[Any]]


def ours(folder: Path, options: Any, workers: int) -> Epoch:
    dataset = open_dataset(folder).train
    preprocess = Preprocess(short=options.short, long=options.long)

    def epoch() -> Iterable[Any]:
        return train_loader(
            dataset,
            preprocess,
            batch=options.batch,
            seed=0,
            epoch=0,
            augment=Augment(),
            workers=workers,
        )

    return epoch


def theirs(folder: Path, options: Any, workers: int) -> Epoch:
    steps = [v2.ToImage(), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)]
    annotations = folder / "annotations/instances_train.json"
    dataset = wrap_dataset_for_transforms_v2(
        CocoDetection(folder / "train", annotations, transforms=v2.Compose(steps)),
        target_keys=("boxes", "labels"),
    )
    resize = GeneralizedRCNNTransform(
        options.short, options.long, list(IMAGENET_MEAN), list(IMAGENET_STD)
    )

    def collate(samples: list[Any]) -> Any:
        nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
        targets = [nothing | target for _, target in samples]  # its own say nothing of no things
        return resize([picture for picture, _ in samples], targets)

    def epoch() -> Iterable[Any]:
        return torch.utils.data.DataLoader(
            dataset, options.batch, shuffle=True, num_workers=workers, collate_fn=collate
        )

    return epoch


def seconds(epoch: Epoch) -> float:
    began = time.perf_counter()
    for _ in epoch():
        pass
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--short", type=int, default=480)
    parser.add_argument("--long", type=int, default=800)
    options = parser.parse_args()
    folder = Path(os.environ["SIGHTLINE_DATA"]) / "coco"
    photos = open_dataset(folder).train
    decoding = [seconds(lambda: map(photos.picture, range(len(photos)))) for _ in range(3)]
    print(f"{len(photos)} photos; decoding alone {statistics.median(decoding):.2f} s")
    for workers in options.workers:
        sides = {
            "ours": ours(folder, options, workers),
            "torchvision": theirs(folder, options, workers),
        }
        times: dict[str, list[float]] = {side: [] for side in sides}
        for number in range(options.rounds + 1):
            for side, epoch in sides.items():
                taken = seconds(epoch)
                if number:  # the first reads the photos from the disk
                    times[side].append(taken)
        medians = {side: statistics.median(row) for side, row in times.items()}
        for side, row in times.items():
            print(
                f"{workers} workers {side:11} {medians[side]:6.2f} s an epoch "
                f"({min(row):.2f} to {max(row):.2f} in {options.rounds})",
                flush=True,
            )
        print(f"{workers} workers: ratio {medians['ours'] / medians['torchvision']:.2f}")


if __name__ == "__main__":
    main()
