"""Ours beside torchvision's models, weights carried over by our own converter.

    SIGHTLINE_DATA=DIR python -m benchmarks.parity_torchvision [NAME ...] [--photos 20]

For each model: random weights that answer as trained ones do (``random_twins.py``; checked: at
least 20 detections a photo, scored 0.05 to 0.99, few equal scores); written to a .pth as published
ones are, read by ``sightline.weights.load``. Then on other photos of DIR/coco/val, one by one and
in padded batches of four, each library with its own preprocessing:

- what the family predicts on the way (``families.py``: logits and deltas of a first stage, say, or
  the box head on torchvision's proposals): the largest difference as a share of the largest value;
- final detections, one to one: same class, within 0.05 px and 1e-4 in score.

Of a model of label maps: the logits, torchvision's photos brought in form by its own preset, and
the labels of all pixels.

Where a detection has no partner, the comparisons that came out differently in the two libraries are
shown, with both values: near ties, or a bug.

A further model is an entry in ``sightline.weights.releases``, and a further family one in
``benchmarks.families`` besides; tests/weights/test_torchvision.py then goes over it too.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from benchmarks.families import FAMILIES
from benchmarks.random_twins import Photos, carried_over, random_twin
from sightline.data.images import read_image
from sightline.types import Instances
from sightline.weights.releases import RELEASES

PIXELS, SCORE, RELATIVE = 0.05, 1e-4, 1e-4


@dataclass
class Parity:
    """The largest differences over all photos, and the detections without a partner."""

    name: str
    ways: str
    photos: int = 0
    detections: int = 0  # or pixels
    matched: int = 0
    fewest: int = 10**6
    ties: int = 0
    relative: dict[str, float] = field(default_factory=dict)
    pixels: float = 0.0
    score: float = 0.0
    flips: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)

    def note(self, what: str, theirs: Tensor, ours: Tensor) -> None:
        share = ((theirs - ours).abs().max() / theirs.abs().max()).item()
        self.relative[what] = max(self.relative.get(what, 0.0), share)

    def count(self, scores: Tensor, matched: int) -> None:
        """Of one photo: the detections, those neither faint nor saturated, and equal scores."""
        self.detections += len(scores)
        self.matched += matched
        self.fewest = min(self.fewest, int(((scores > 0.05) & (scores < 0.99)).sum()))
        self.ties += len(scores) - len(scores.unique())

    @property
    def passed(self) -> bool:
        return not self.unexplained and max(self.relative.values()) <= RELATIVE

    def row(self) -> str:
        shares = ", ".join(f"{what} {share:.1e}" for what, share in self.relative.items())
        return (
            f"{self.name:38} {self.ways:8} {self.matched:5} of {self.detections:5} "
            f"{self.pixels:8.1e} {self.score:8.1e} {self.fewest:6} {self.ties:5} "
            f"{'ok' if self.passed else 'FAILED'}; {shares}"
        )


HEADER = (
    f"{'model':38} {'photos':8} {'matched':>14} {'px':>8} {'score':>8} {'fewest':>6} {'equal':>5}"
)


@contextmanager
def watching(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Any]]:
    """The outputs of these modules in the next forward pass."""
    seen: dict[str, Any] = {}
    hooks = [
        module.register_forward_hook(lambda m, i, output, key=key: seen.update({key: output}))
        for key, module in modules.items()
    ]
    yield seen
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def compare(theirs: Any, ours: Any, photos: Photos, parity: Parity) -> None:
    """One batch through both."""
    family = FAMILIES[ours.card.model]
    with watching({name: theirs.get_submodule(name) for name in family.watched}) as seen:
        expected = theirs([photo / 255 for photo in photos])
    images, placements = ours.preprocess(photos)
    outputs = ours.outputs(images)
    look = family.look(ours, outputs, images, seen)
    for what, (there, here) in look.parts.items():
        parity.note(what, there, here)
    scenes = ours.describe(ours.select(outputs, images), placements)
    for number, (scene, answer) in enumerate(zip(scenes, expected, strict=True)):
        photo = f"photo {parity.photos}"
        parity.photos += 1
        alone, apart, faint = match(parity, scene.things, answer, ours.card.classes.ids)
        flips = alone and [
            *last_place(scene.things, answer, faint, ours.selection.top),
            *look.flips(number),
        ]
        parity.unexplained += [f"{photo}: {line}" for line in (apart if flips else apart + alone)]
        parity.flips += [f"{photo}: {line}" for line in (alone + flips if flips else [])]


@torch.no_grad()
def compare_maps(theirs: Any, ours: Any, photos: Photos, parity: Parity) -> None:
    """One batch through both."""
    images, _ = ours.preprocess(photos)
    prepare = torchvision.models.get_weight(RELEASES[parity.name].enum).transforms()
    pixels = torch.zeros_like(images.pixels)
    for canvas, photo in zip(pixels, photos, strict=True):
        placed = prepare(photo)
        canvas[:, : placed.shape[1], : placed.shape[2]] = placed
    there = theirs(pixels)["out"][:, [*ours.card.classes.ids, 0]]
    here = ours(images)
    parity.note("pixels", pixels, images.pixels)
    parity.note("logits", there, here)
    differ = there.argmax(1) != here.argmax(1)
    two_best = here.topk(2, dim=1).values
    margin = (two_best[:, 0] - two_best[:, 1])[differ] / here.abs().max()
    parity.photos += len(photos)
    parity.detections += differ.numel()
    parity.matched += differ.numel() - int(differ.sum())
    parity.fewest = min(parity.fewest, len(here.argmax(1).unique()))
    if len(margin):
        parity.flips.append(f"labels differ where the two best are {margin.max():.1e} apart")
    if (margin > RELATIVE).any():
        parity.unexplained.append("some of these are no near ties")


def match(
    parity: Parity, ours: Instances, theirs: dict[str, Tensor], ids: Sequence[int]
) -> tuple[list[str], list[str], float]:
    """Pair the detections off: a line for each that stays alone, and for each pair whose members
    are nearly, but not within the limits, the same; and the highest score of those alone."""
    assert ours.scores is not None
    labels, free = torch.tensor(ids)[ours.labels], set(range(len(ours)))
    alone, apart, highest = [], [], 0.0
    for box, score, label in zip(theirs["boxes"], theirs["scores"], theirs["labels"], strict=True):
        pixels = (ours.boxes - box).abs().amax(dim=1)
        difference = (ours.scores - score).abs()
        near = [i for i in free if labels[i] == label and pixels[i] < 1 and difference[i] < 1e-3]
        what = f"class {label} {score:.6f} at {rounded(box)}"
        if not near:
            alone.append(f"torchvision's {what} has no partner")
            highest = max(highest, float(score))
            continue
        best = min(near, key=lambda i: float(pixels[i]))
        free.remove(best)
        parity.pixels = max(parity.pixels, float(pixels[best]))
        parity.score = max(parity.score, float(difference[best]))
        if pixels[best] > PIXELS or difference[best] > SCORE:
            apart.append(f"{what} is {ours.scores[best]:.6f} at {rounded(ours.boxes[best])}")
    alone += [
        f"our class {labels[i]} {ours.scores[i]:.6f} at {rounded(ours.boxes[i])} has no partner"
        for i in sorted(free)
    ]
    highest = max([highest, *(float(ours.scores[i]) for i in free)])
    parity.count(theirs["scores"], matched=len(ours) - len(free) - len(apart))
    return alone, apart, highest


def last_place(ours: Instances, theirs: dict[str, Tensor], alone: float, most: int) -> list[str]:
    """Where both keep as many as they may, and what stays ``alone`` (the highest score of these) is
    no better than the last place in either: the scores that compete for it."""
    assert ours.scores is not None
    there, here = theirs["scores"].sort().values, ours.scores.sort().values
    full = min(len(there), len(here)) == most
    if not full or alone > min(there[0], here[0]) + SCORE:
        return []
    return [f"place {most}: {there[0]:.8f} there, {here[0]:.8f} here"]


def rounded(box: Tensor) -> list[float]:
    return [round(value, 2) for value in box.tolist()]


def measure(
    name: str, theirs: nn.Module, ours: Any, photos: Photos, batch: int = 4
) -> list[Parity]:
    """Both ways of batching."""
    results = []
    for ways, size in (("singly", 1), (f"by {batch}", batch)):
        parity = Parity(name, ways)
        look = compare_maps if RELEASES[name].stuff else compare
        for start in range(0, len(photos), size):
            look(theirs, ours, photos[start : start + size], parity)
        results.append(parity)
    return results


def report(results: Sequence[Parity]) -> None:
    for parity in results:
        print(parity.row(), flush=True)
        for line in parity.flips:
            print(f"    {line}")
        for line in parity.unexplained:
            print(f"    UNEXPLAINED {line}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*RELEASES, []], default=list(RELEASES))
    parser.add_argument("--data", default=os.environ.get("SIGHTLINE_DATA"))
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--calibration", type=int, default=8)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.data is None:
        parser.error("give --data or set SIGHTLINE_DATA to a folder with coco/val in it")
    paths = sorted((Path(args.data) / "coco" / "val").glob("*.jpg"))
    pictures = [read_image(path) for path in paths[: args.photos + args.calibration]]
    photos, calibration = pictures[: args.photos], pictures[args.photos :]
    print(HEADER)
    results = []
    for name in args.names:
        theirs = random_twin(name, calibration)
        results += measure(name, theirs, carried_over(name, theirs), photos)
        report(results[-2:])
        least = 10 if RELEASES[name].stuff else 20
        assert all(parity.fewest >= least for parity in results[-2:]), "too few answers to compare"
        assert all(parity.ties <= parity.detections * 0.01 for parity in results[-2:])
    if args.json:
        args.json.write_text(json.dumps([asdict(parity) for parity in results], indent=1))
    sys.exit(0 if all(parity.passed for parity in results) else 1)


if __name__ == "__main__":
    main()
