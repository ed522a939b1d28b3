"""COCO's numbers of half a million boxes, ours beside pycocotools':
``uv run python -m benchmarks.evaluation`` (about five minutes).

Promised for 500,000 answers on 5,000 pictures: at most 1/40 of pycocotools' time and 1/5 of its
memory, all numbers identical. Pictures are made up, as many things in each, as large and of as many
classes as in COCO's val2017, with crowds; half of the answers are true boxes put out of place, so
that precision falls step by step. Every run has a process of its own, ours and theirs in turn; the
ratio is that of the medians.

Counted, on our side: ``sightline.evaluate.measure`` from the scenes that a model gives to the
twelve numbers, overall and of each class. On theirs: the data set indexed, ``loadRes``,
``evaluate``, ``accumulate``, ``summarize``; annotations and results lie there in COCO's own form
(dictionaries, as read from JSON), and the AP of each class is taken outside the clock. Memory is
the largest resident set from the start of the clock on, less the resident set at its start: the
packages, and the scenes or dictionaries handed over, are not counted.

``--grow`` measures ours alone at 1/8, 1/4, 1/2 and all of the size and fits the exponent with which
time grows, promised to be at most 1.1. Exits with 1 where a promise is broken.
"""

import argparse
import contextlib
import ctypes
import gc
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.evaluate import Answered, measure
from sightline.types import Classes, Instances, Scene

BOXES, EACH = 500_000, 100  # answers in all and in each picture
TIMES, MEMORY, EXPONENT = 40, 5, 1.1  # promised: pycocotools over ours; growth
SIDES = ("ours", "pycocotools")
CLASSES, KINDS = 80, 4  # in all and in each picture
TRUTHS = 7.3  # in each picture

Floats = NDArray[np.float64]


class Numbers(NamedTuple):
    """-1 where there is nothing to measure, as pycocotools has it."""

    overall: list[float]  # the twelve
    per_class: list[float]  # AP


class Cost(NamedTuple):
    seconds: float
    processor: float  # seconds, of all threads
    mebibytes: float


class Run(NamedTuple):
    cost: Cost
    numbers: Numbers


def made(images: int, seed: int = 0) -> Answered:
    """Truths and answers as a model on COCO would give them, in single precision."""
    random = np.random.default_rng(seed)
    sizes = np.array([(480, 640), (640, 480)])[random.integers(0, 2, images)]
    kinds = random.choice(CLASSES, (images, KINDS), p=_shares())
    counts = random.geometric(1 / TRUTHS, images).clip(max=90)
    counts[random.random(images) < 0.01] = 0
    of = np.repeat(np.arange(images), counts)
    boxes = _anywhere(random, sizes[of])
    labels = kinds[of, random.integers(0, KINDS, len(of))]
    true = {
        "boxes": _float(boxes),
        "labels": torch.from_numpy(labels),
        "ignore": torch.from_numpy(random.random(len(of)) < 0.012),
        "area": _float((boxes[:, 2:] - boxes[:, :2]).prod(1) * random.uniform(0.4, 1, len(of))),
    }
    found = _answers(random, sizes, kinds, counts, boxes, labels)
    names = Classes(tuple(f"class {label}" for label in range(CLASSES)))
    each = np.full(images, EACH)
    return Answered(_scenes(sizes, counts, true), _scenes(sizes, each, found), names, 0.0)


def _answers(
    random: np.random.Generator,
    sizes: NDArray[Any],
    kinds: NDArray[Any],
    counts: NDArray[Any],
    boxes: Floats,
    labels: NDArray[Any],
) -> dict[str, torch.Tensor]:
    """Half of them near a truth, the better placed the surer; best first in each picture."""
    of = np.repeat(np.arange(len(counts)), EACH)
    count = len(of)
    near = (random.random(count) < 0.5) & (counts[of] > 0)
    chosen = (np.cumsum(counts) - counts)[of] + (random.random(count) * counts[of]).astype(int)
    chosen[~near] = 0
    spread = random.exponential(0.12, count)
    placed = np.where(
        near[:, None], _aside(random, boxes[chosen], spread), _anywhere(random, sizes[of])
    )
    guess = np.where(
        random.random(count) < 0.4,
        kinds[of, random.integers(0, KINDS, count)],
        random.choice(CLASSES, count, p=_shares()),
    )
    scores = np.where(near, random.beta(1.5, 1 + 12 * spread), random.beta(0.7, 8, count))
    order = np.lexsort((-scores, of))
    return {
        "boxes": _float(placed[order]),
        "labels": torch.from_numpy(np.where(near, labels[chosen], guess)[order]),
        "scores": _float(scores[order]),
    }


def _shares() -> Floats:
    """How common each class is."""
    weights = np.arange(1, CLASSES + 1) ** -0.8
    return weights / weights.sum()


def _anywhere(random: np.random.Generator, sizes: NDArray[Any]) -> Floats:
    """A box in each picture; of COCO's, 4 in 10 are small and 1 in 4 is large."""
    side, ratio = random.lognormal(3.95, 1.1, len(sizes)), random.lognormal(0, 0.4, len(sizes))
    extent = np.stack([side * ratio, side / ratio], axis=1).clip(2, sizes[:, ::-1])
    corner = random.random((len(sizes), 2)) * (sizes[:, ::-1] - extent)
    return np.concatenate([corner, corner + extent], axis=1)


def _aside(random: np.random.Generator, boxes: Floats, spread: Floats) -> Floats:
    """Shifted and stretched by about this share of their size."""
    shift, stretch = random.normal(0, spread[None, :, None], (2, len(boxes), 2))
    extent = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + extent * (0.5 + shift)
    extent = extent * np.exp(stretch)
    return np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)


def _float(values: Floats) -> torch.Tensor:
    return torch.from_numpy(values).float()


def _scenes(
    sizes: NDArray[Any], counts: NDArray[Any], columns: dict[str, torch.Tensor]
) -> list[Scene]:
    parts = [column.split(counts.tolist()) for column in columns.values()]
    return [
        Scene((size[0], size[1]), Instances(**dict(zip(columns, row, strict=True))), image_id=index)
        for index, (size, *row) in enumerate(zip(sizes.tolist(), *parts, strict=True), start=1)
    ]


def coco_form(answered: Answered) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The data set and the results, as they would be read from their files."""
    rows = [row for scene in answered.truths for row in _rows(scene)]
    dataset = {
        "info": {},
        "images": [
            {"id": scene.image_id, "height": scene.size[0], "width": scene.size[1]}
            for scene in answered.truths
        ],
        "categories": [{"id": c + 1, "name": n} for c, n in enumerate(answered.classes.names)],
        "annotations": [{"id": index, **row} for index, row in enumerate(rows, start=1)],
    }
    return dataset, [row for scene in answered.answers for row in _rows(scene)]


def _rows(scene: Scene) -> list[dict[str, Any]]:
    things = scene.things
    boxes = things.boxes.double()
    columns = {
        "category_id": (things.labels + 1).tolist(),
        "bbox": torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist(),
    }
    if things.scores is not None:
        columns["score"] = things.scores.tolist()
    if things.area is not None:
        columns |= {"area": things.area.tolist(), "iscrowd": things.ignore.int().tolist()}
    return [
        {"image_id": scene.image_id, **dict(zip(columns, row, strict=True))}
        for row in zip(*columns.values(), strict=True)
    ]


def ours(answered: Answered) -> Numbers:
    evaluation = measure(answered)
    rows = evaluation.per_class.values()
    return Numbers(
        overall=[-1 if np.isnan(value) else value for value in evaluation.overall.values()],
        per_class=[-1 if np.isnan(row["AP"]) else row["AP"] for row in rows],
    )


def theirs(dataset: dict[str, Any], results: list[dict[str, Any]]) -> Any:
    """pycocotools' evaluator, with all done."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truths = COCO()
        truths.dataset = dataset
        truths.createIndex()
        evaluator = COCOeval(truths, truths.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def their_numbers(evaluator: Any) -> Numbers:
    by_class = np.moveaxis(evaluator.eval["precision"][..., 0, -1], -1, 0)
    known = [curves[curves > -1] for curves in by_class]
    return Numbers(evaluator.stats.tolist(), [float(k.mean()) if k.size else -1 for k in known])


def measured(side: str, images: int, seed: int) -> Run:
    """One run, in a process that does nothing else."""
    answered = made(images, seed)
    if side == "ours":
        import hotcoco  # noqa: F401  # the import is not counted

        numbers, cost = clocked(lambda: ours(answered))
    else:
        import pycocotools.cocoeval  # noqa: F401

        dataset, results = coco_form(answered)
        del answered
        evaluator, cost = clocked(lambda: theirs(dataset, results))
        numbers = their_numbers(evaluator)
    return Run(cost, numbers)


def clocked(work: Callable[[], Any]) -> tuple[Any, Cost]:
    """What it gives, and what it cost."""
    gc.collect()
    c = ctypes.CDLL(None)
    if hasattr(c, "malloc_trim"):  # what was freed before must not serve the work unseen
        c.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    before = _resident("VmRSS")
    clock, processor = time.perf_counter(), time.process_time()
    result = work()
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    return result, Cost(clock, processor, _resident("VmHWM") - before)


def _resident(name: str) -> float:
    """MiB; Linux tells it, and alone lets the peak be set back."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith(name))


def run(side: str, boxes: int, seed: int) -> Run:
    command = [sys.executable, "-m", "benchmarks.evaluation", "--child", side]
    command += ["--boxes", str(boxes), "--seed", str(seed)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    cost, numbers = json.loads(output)
    return Run(Cost(*cost), Numbers(*numbers))


def median(runs: Sequence[Run]) -> Cost:
    return Cost(*map(statistics.median, zip(*(run.cost for run in runs), strict=True)))


def compare(boxes: int, rounds: int, seed: int) -> int:
    runs: dict[str, list[Run]] = {side: [] for side in SIDES}
    print(f"{'':12} {'seconds':>9} {'processor':>10} {'MiB':>8} {'AP':>8}   {os.cpu_count()} cores")
    for _ in range(rounds):
        for side in SIDES:
            runs[side].append(run(side, boxes, seed))
            cost, numbers = runs[side][-1]
            row = "{:12} {:9.2f} {:10.2f} {:8.0f} {:8.4f}".format(side, *cost, numbers.overall[0])
            print(row, flush=True)
    mine, other = (median(runs[side]) for side in SIDES)
    times, processor, memory = (b / a for a, b in zip(mine, other, strict=True))
    identical = all(
        a.numbers == b.numbers for a, b in zip(runs["ours"], runs["pycocotools"], strict=True)
    )
    print(
        f"{boxes} boxes, pycocotools over ours, medians of {rounds}: time {times:.1f} (promised "
        f"{TIMES}; by the processor {processor:.1f}), memory {memory:.1f} (promised {MEMORY}); the "
        f"twelve numbers and the AP of {CLASSES} classes are "
        f"{'identical' if identical else 'NOT identical'}"
    )
    if boxes < BOXES:
        print(f"time and memory are promised for {BOXES} boxes: only the numbers are judged")
        return 0 if identical else 1
    return 0 if identical and times >= TIMES and memory >= MEMORY else 1


def grow(boxes: int, rounds: int, seed: int) -> int:
    sizes = [boxes // 8, boxes // 4, boxes // 2, boxes]
    runs = [[run("ours", size, seed) for size in sizes] for _ in range(rounds)]  # in turn
    costs = [median(same) for same in zip(*runs, strict=True)]
    for size, cost in zip(sizes, costs, strict=True):
        print("{:8} boxes {:7.3f} s ({:.3f} by the processor) {:6.0f} MiB".format(size, *cost))
    exponent = np.polyfit(np.log(sizes), np.log([cost.seconds for cost in costs]), 1)[0]
    print(f"time grows with exponent {exponent:.2f} (promised {EXPONENT}; medians of {rounds})")
    return 0 if exponent <= EXPONENT else 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--boxes", type=int, default=BOXES, help=f"answers, {EACH} a picture")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--grow", action="store_true", help="ours alone, at four sizes")
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.child, options.boxes // EACH, options.seed)))
        return 0
    return (grow if options.grow else compare)(options.boxes, options.rounds, options.seed)


if __name__ == "__main__":
    sys.exit(main())
