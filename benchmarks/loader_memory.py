"""Memory of the loader over a fifth of each of ten epochs: ``uv run python -m
benchmarks.loader_memory [--images 100000] [--epochs 10] [--workers 4] [--part 0.2]``.

The annotations of 100,000 pictures are made, seven things with polygons each; all pictures are one
tiny file, so that the annotations are nearly all that is held. An epoch is the given part of its
batches, in an order of its own, so that ten epochs touch nearly all. Ten times an epoch the memory
of this process and its workers is read, each page divided by the number of processes that share it
(Pss_Anon and Pss_Shmem in /proc/PID/smaps_rollup: without mapped files, which are libraries that
any other program may share and let go of). Promised: the median of every epoch lies within 2 % of
the first, and no worker has a tenth of the annotations for itself beyond what one has with a
hundredth of the pictures. Exits with 1 where a promise is broken.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sightline.data.loader import train_loader
from sightline.data.packed import Packed, PackedMasks, Packer
from sightline.data.strings import Strings
from sightline.preprocess import Preprocess
from sightline.types import Classes

GROWTH, OWN = 0.02, 0.1
THINGS, CORNERS = 7, 8
SIDE = 16  # of the picture


class Memory(NamedTuple):
    """In MB: all processes together, and the most that a worker has for itself."""

    together: float
    own: float


def generated(root: Path, count: int) -> Packed:
    Image.new("RGB", (SIDE, SIDE), "grey").save(root / "tiny.png")
    draws = np.random.default_rng(0).uniform(0, SIDE, (256, THINGS, CORNERS, 2))
    packer = Packer("generated", root)
    for number in range(count):
        packer.picture("tiny.png", (SIDE, SIDE), number)
        for corners in draws[number % len(draws)]:
            low, high = corners.min(0), corners.max(0)
            packer.thing((*low, *high), number % 80, polygons=[corners.flatten().tolist()])
    return packer.finish(Classes(tuple(f"class {number}" for number in range(80))))


def size(part: object) -> float:
    """MB in the tensors of a data set."""
    values = vars(part).values()
    own = sum(value.nbytes for value in values if isinstance(value, Tensor))
    return own / 1e6 + sum(size(v) for v in values if isinstance(v, Strings | PackedMasks))


def rollup(process: int | str) -> dict[str, float]:
    """MB by name."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    parts = [line.split() for line in lines]
    return {name.rstrip(":"): int(number) / 1e3 for name, number, *_ in parts}


def memory() -> Memory:
    workers = [
        child
        for task in Path("/proc/self/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    found = [rollup(worker) for worker in workers]
    together = sum(each["Pss_Anon"] + each["Pss_Shmem"] for each in [rollup("self"), *found])
    return Memory(together, max(each["Private_Clean"] + each["Private_Dirty"] for each in found))


def epoch(dataset: Packed, number: int, batch: int, workers: int, part: float) -> list[Memory]:
    """A part of one pass; the memory at ten moments, all workers at work."""
    loader = train_loader(
        dataset,
        Preprocess(short=None, multiple=1),
        batch=batch,
        seed=0,
        epoch=number,
        start=int(len(dataset) / batch * (1 - part)),
        workers=workers,
    )
    often, seen = max(1, len(loader) // 12), []
    for step, _ in enumerate(loader):
        if step % often == often // 2 and often <= step < len(loader) - often:
            seen.append(memory())
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--part", type=float, default=0.2, help="of an epoch that is gone through")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        few = generated(Path(folder), max(options.images // 100, 24 * options.batch))
        small = max(seen.own for seen in epoch(few, 0, options.batch, options.workers, 1.0))
        dataset = generated(Path(folder), options.images)
        annotations = size(dataset)
        print(f"{options.images} pictures: {annotations:.0f} MB of annotations", flush=True)
        together, own = [], 0.0
        for number in range(options.epochs):
            seen = epoch(dataset, number, options.batch, options.workers, options.part)
            together.append(statistics.median(each.together for each in seen))
            own = max(own, *(each.own for each in seen))
            print(
                f"epoch {number + 1:3}: {together[-1]:8.1f} MB in all processes "
                f"({together[-1] / together[0] - 1:+.2%}), a worker's own at most {own:.1f} MB",
                flush=True,
            )
    growth = max(abs(value / together[0] - 1) for value in together)
    share = (own - small) / annotations
    print(f"within {growth:.2%} of the first epoch (promised: {GROWTH:.0%})")
    print(f"a worker has {share:.1%} of the annotations for itself (promised: below {OWN:.0%})")
    return 0 if growth <= GROWTH and share < OWN else 1


if __name__ == "__main__":
    sys.exit(main())
