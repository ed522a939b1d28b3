"""Ours beside torchvision's four Faster R-CNN models, weights carried over by our own converter.

    SIGHTLINE_DATA=DIR python -m benchmarks.parity_torchvision [NAME ...] [--photos 20]

For each model: random weights; BatchNorm statistics from one pass over photos; the last layers
fitted so that their answers spread over photos as a trained model's do (checked: at least 20
detections a photo, scored 0.05 to 0.99, few equal scores); written to a .pth as published ones are,
read by ``sightline.weights.load``. Then on other photos of DIR/coco/val, one by one and in padded
batches of four, each library with its own preprocessing:

- RPN logits and deltas, and the box head's outputs on torchvision's proposals: the largest
  difference as a share of the largest value;
- final detections, one to one: same class, within 0.05 px and 1e-4 in score.

Where a detection has no partner, the comparisons that came out differently in the two libraries are
shown, with both values: near ties, or a bug.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d, SqueezeExcitation

from benchmarks.near_ties import final_flips, proposal_flips
from sightline import weights
from sightline.data.images import read_image
from sightline.ops.boxes import image_index
from sightline.types import Instances
from sightline.weights.releases import RELEASES

PIXELS, SCORE, RELATIVE = 0.05, 1e-4, 1e-4
Photos = Sequence[Tensor]  # [3, H, W] bytes


@dataclass
class Parity:
    """The largest differences over all photos, and the detections without a partner."""

    name: str
    ways: str
    photos: int = 0
    detections: int = 0
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
        shares = " ".join(f"{self.relative[what]:11.1e}" for what in PARTS)
        return (
            f"{self.name:38} {self.ways:8} {shares} {self.matched:5} of {self.detections:5} "
            f"{self.pixels:8.1e} {self.score:8.1e} {self.fewest:6} {self.ties:5} "
            f"{'ok' if self.passed else 'FAILED'}"
        )


PARTS = ("RPN logits", "RPN deltas", "box logits", "box deltas")
HEADER = (
    f"{'model':38} {'photos':8} {' '.join(f'{part:>11}' for part in PARTS)} {'matched':>14} "
    f"{'px':>8} {'score':>8} {'fewest':>6} {'equal':>5}"
)


def random_twin(name: str, photos: Photos, seed: int = 0, **options: Any) -> nn.Module:
    """torchvision's model of that name as it would be with trained weights of this seed."""
    torch.manual_seed(seed)
    builder = getattr(torchvision.models.detection, name)
    model: Any = builder(weights=None, weights_backbone=None, **options).eval()
    tame(model)
    gather_statistics(model, model, photos)
    if name != "fasterrcnn_resnet50_fpn_v2":  # trained with frozen BatchNorm
        freeze(model.backbone.body, eps=RELEASES[name].trained_eps)
    head, last = model.rpn.head, model.roi_heads.box_predictor
    hidden = inputs_of(head.cls_logits, model, photos)
    fit_last_layer(head.cls_logits, hidden, mean=-1.0, std=2.0)
    fit_last_layer(head.bbox_pred, hidden, mean=0.0, std=0.3)
    gather_statistics(model.roi_heads, model, photos)
    hidden = inputs_of(last.cls_score, model, photos)
    # A score moves by up to a quarter of what its logit does: with largest logits of 40 the 1e-5 of
    # float32 would be 1e-4.
    fit_last_layer(last.cls_score, hidden, mean=0.0, std=2.0)
    fit_last_layer(last.bbox_pred, hidden, mean=0.0, std=0.5)
    with torch.no_grad():
        last.cls_score.bias[0] += 3.0  # most regions are background
        gaps = [i for i, n in enumerate(categories(name)) if n == "N/A"]
        last.cls_score.weight[gaps] = 0.0  # never seen in training, so never likely
        last.cls_score.bias[gaps] = -30.0
    return model


@torch.no_grad()
def tame(model: nn.Module) -> None:
    """Random weights that behave as trained ones where default ones do not.

    Residual branches add little, else the noise of float32 doubles in every stage. MobileNet's
    curved activations work far from zero and its gates stay half open, else pale photos fade out
    and bright ones blow up block by block, a hundredfold between them.
    """
    mobile = any(isinstance(module, SqueezeExcitation) for module in model.modules())
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            gain = (2.0, 4.0) if mobile else (0.1, 0.5) if name.endswith("bn3") else (0.5, 1.0)
            nn.init.uniform_(module.weight, *gain)
            nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, SqueezeExcitation):
            module.fc2.weight *= 0.1


def categories(name: str) -> list[str]:
    names: list[str] = torchvision.models.get_weight(RELEASES[name].enum).meta["categories"]
    return names


@torch.no_grad()
def inputs_of(layer: nn.Module, model: nn.Module, photos: Photos) -> Tensor:
    """What the layer is given on the photos, a row each, at most some ten thousand at a time."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        rows = inputs[0].movedim(1, -1).flatten(0, -2)
        seen.append(rows[:: max(1, len(rows) // 10_000)].clone())

    hook = layer.register_forward_hook(keep)
    for photo in photos:
        model([photo / 255])
    hook.remove()
    return torch.cat(seen)


@torch.no_grad()
def fit_last_layer(layer: Any, inputs: Tensor, mean: float, std: float) -> None:
    """Random weights along the 16 directions in which the inputs vary most, as a trained layer has
    them, so that each output has this mean and spread over the inputs."""
    centre = inputs.mean(dim=0)
    _, spread, directions = torch.linalg.svd(torch.cov(inputs.T))
    factors = torch.randn(len(layer.bias), 16) / spread[:16].sqrt().sqrt()
    weight = factors @ directions[:16]
    weight *= (std / ((inputs - centre) @ weight.T).std(dim=0))[:, None]
    layer.weight.copy_(weight.view_as(layer.weight))
    layer.bias.copy_(mean - weight @ centre)


@torch.no_grad()
def gather_statistics(part: nn.Module, model: nn.Module, photos: Photos) -> None:
    """Statistics of every BatchNorm in that part of the model: the mean over one pass."""
    norms = [m for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
        norm.train()
    for photo in photos if norms else ():
        model([photo / 255])
    model.eval()


def freeze(module: nn.Module, eps: float) -> None:
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                frozen = FrozenBatchNorm2d(child.num_features, eps=eps)
                frozen.load_state_dict(child.state_dict())
                setattr(parent, name, frozen)


def carried_over(name: str, theirs: nn.Module) -> Any:
    """Our model, through a file and our converter."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}-random.pth"
        torch.save(theirs.state_dict(), path)
        return weights.load(path)


@contextmanager
def watching(**modules: nn.Module) -> Iterator[dict[str, Any]]:
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
    with watching(
        rpn=theirs.rpn.head, proposals=theirs.rpn, box=theirs.roi_heads.box_predictor
    ) as seen:
        expected = theirs([photo / 255 for photo in photos])
    images, placements = ours.preprocess(photos)
    outputs = ours.outputs(images)
    parity.note(
        "RPN logits", by_anchor(seen["rpn"][0], 1)[..., 0], torch.cat(outputs.objectness, 1)
    )
    parity.note("RPN deltas", by_anchor(seen["rpn"][1], 4), torch.cat(outputs.deltas, 1))
    proposals, rows = seen["proposals"][0], [*ours.card.classes.ids, 0]
    where = image_index(proposals)
    box = ours.box_head.outputs(outputs.pyramid, torch.cat(proposals), where)
    logits = torch.stack([seen["box"][0][:, rows], box.logits])
    deltas = torch.stack([seen["box"][1].unflatten(1, (-1, 4))[:, rows[:-1]], box.deltas])
    parity.note("box logits", *logits)
    parity.note("box deltas", *deltas)
    scenes = ours.describe(ours.select(outputs, images), placements)
    dense = (
        [by_anchor([level], 1)[..., 0] for level in seen["rpn"][0]],
        [by_anchor([level], 4) for level in seen["rpn"][1]],
    )
    for number, (scene, answer) in enumerate(zip(scenes, expected, strict=True)):
        photo = f"photo {parity.photos}"
        parity.photos += 1
        alone, apart, faint = match(parity, scene.things, answer, ours.card.classes.ids)
        mine = where == number
        flips = alone and [
            *last_place(scene.things, answer, faint, ours.selection.top),
            *proposal_flips(ours.rpn, outputs, images, dense, number),
            *final_flips(
                proposals[number],
                images.sizes[number],
                ours.selection,
                logits[:, mine],
                deltas[:, mine],
            ),
        ]
        parity.unexplained += [f"{photo}: {line}" for line in (apart if flips else apart + alone)]
        parity.flips += [f"{photo}: {line}" for line in (alone + flips if flips else [])]


def by_anchor(levels: list[Tensor], values: int) -> Tensor:
    """torchvision's maps [B, K * values, H, W] as [B, A, values], all levels."""
    return torch.cat(
        [m.unflatten(1, (-1, values)).permute(0, 3, 4, 1, 2).flatten(1, 3) for m in levels], dim=1
    )


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
        for start in range(0, len(photos), size):
            compare(theirs, ours, photos[start : start + size], parity)
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
        assert all(parity.fewest >= 20 for parity in results[-2:]), "too few detections to compare"
        assert all(parity.ties <= parity.detections * 0.01 for parity in results[-2:])
    if args.json:
        args.json.write_text(json.dumps([asdict(parity) for parity in results], indent=1))
    sys.exit(0 if all(parity.passed for parity in results) else 1)


if __name__ == "__main__":
    main()
