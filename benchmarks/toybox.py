"""How fast Toybox draws scenes with all their labels: ``uv run python -m benchmarks.toybox``.

Promised: at least 15 scenes a second on one core at 256 x 256; 30 is the goal. Scenes are drawn as
a loader draws them, labels first and then the picture, on one thread pinned to one core; the median
of several rounds over different scenes counts, in processor time, since other programs may use the
core too (the time on the clock is given beside). Exits with 1 where the promise is broken.
"""

import argparse
import os
import statistics
import sys
import time

import torch

from sightline.data.toybox import Toybox

PROMISED = 15.0  # scenes a second


def scenes_per_second(scenes: Toybox, first: int, last: int) -> tuple[float, float]:
    """By processor time and by the clock."""
    processor, clock = time.process_time(), time.perf_counter()
    for index in range(first, last):
        scenes.scene(index)
        scenes.picture(index)
    processor, clock = time.process_time() - processor, time.perf_counter() - clock
    return (last - first) / processor, (last - first) / clock


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=60, help="in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    scenes = Toybox(options.scenes * options.rounds, size=tuple(options.size))
    for index in range(20):  # every texture is made once, when it is first looked up
        scenes.picture(index)
    rounds = [
        scenes_per_second(scenes, first, first + options.scenes)
        for first in range(0, len(scenes), options.scenes)
    ]
    rates, by_the_clock = zip(*rounds, strict=True)
    things = [len(scenes.description(index).things) for index in range(options.scenes)]
    print(
        f"Toybox {options.size[0]} x {options.size[1]}, {statistics.mean(things):.1f} things each: "
        f"median {statistics.median(rates):.1f} scenes/s ({min(rates):.1f} to {max(rates):.1f} in "
        f"{options.rounds} rounds of {options.scenes}; by the clock, "
        f"{statistics.median(by_the_clock):.1f})"
    )
    return 0 if statistics.median(rates) >= PROMISED else 1


if __name__ == "__main__":
    sys.exit(main())
