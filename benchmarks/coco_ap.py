"""The AP of a public checkpoint on COCO val2017, ours beside the published one.

    python -m benchmarks.coco_ap COCO [--name fasterrcnn_resnet50_fpn ...] [--limit 500]

COCO is a folder with ``annotations/instances_val2017.json`` and ``val2017/``. Without ``--name``
all detectors are measured, 5000 pictures each: minutes on a GPU, hours on a CPU. ``--weights FILE``
measures a file in their stead.
"""

import argparse
import sys
import time

import torch

from sightline import weights
from sightline.data.folder import open_split
from sightline.data.packed import Packed
from sightline.errors import SightlineError
from sightline.evaluate import evaluate
from sightline.weights.releases import RELEASES

DETECTORS = [name for name, release in RELEASES.items() if not release.stuff]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="the folder")
    parser.add_argument("--split", default="val")
    parser.add_argument("--name", nargs="*", choices=DETECTORS, default=DETECTORS)
    parser.add_argument("--weights", help="a checkpoint file, in place of the names")
    parser.add_argument("--limit", type=int, help="only the first so many pictures")
    parser.add_argument("--batch", type=int, default=1, help="as the published numbers were made")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", help="left out, the GPU if there is one")
    args = parser.parse_args()
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    dataset = open_split(args.data, args.split)
    if args.limit is not None:
        assert isinstance(dataset, Packed)
        dataset = dataset.take(range(min(args.limit, len(dataset))))
    print(f"{len(dataset)} pictures of {args.data}")
    print(f"{'weights':40} {'published':>9} {'ours':>7} {'AP50':>7} {'seconds':>8}")
    for name in [args.weights] if args.weights else args.name:
        start = time.perf_counter()
        numbers = evaluate(
            weights.load(name).to(device),
            dataset,
            batch=args.batch,
            workers=args.workers,
        )
        published = f"{RELEASES[name].published:.1f}" if name in RELEASES else "-"
        ours, half = 100 * numbers["AP"], 100 * numbers["AP50"]
        seconds = time.perf_counter() - start
        print(f"{name:40} {published:>9} {ours:7.1f} {half:7.1f} {seconds:8.0f}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except SightlineError as error:
        sys.exit(str(error))
