"""Fast R-CNN. Ross Girshick, 2015. https://arxiv.org/abs/1504.08083

The whole picture goes through the backbone once. Regions brought from outside (``Images.regions``:
sliding windows, selective search, a file) are pooled from its features to one size; two fully
connected layers then give, side by side, a score for each class and background, and for each class
how the region is to be shifted onto the object. Both are learnt at once.

Letters: B pictures, R regions a picture, S regions sampled from all pictures, C classes, D answers
a picture, K = C or 1 sets of deltas.

Original / ours. Loss of the shifts: smooth L1 with beta 1 on deltas normalised by their statistics
/ beta 1/9 on deltas weighted (10, 10, 5, 5) (so the same scale). First weights of scores and
shifts: Gaussian, 0.01 and 0.001 / PyTorch's, which learn faster from scratch. Bottom of the
negatives' IoU range: 0.1 / 0.1 here, 0 in Faster R-CNN. Image pyramids and truncated SVD: left out,
the paper itself finds one scale enough. True boxes join the proposals, as in its public code.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones import split
from sightline.errors import SightlineError
from sightline.ops import boxes as box_ops
from sightline.ops.boxes import image_index, slot_index
from sightline.ops.losses import cross_entropy_sum, smooth_l1
from sightline.ops.match import match_boxes, sample_balanced
from sightline.ops.roi import roi_pool
from sightline.ops.suppress import EMPTY, Detections, Selection, finish, take, to_scenes, top
from sightline.preprocess import Preprocess
from sightline.shapes import Bool, Float, Int
from sightline.types import Images, Instances, Loss, Placement, Scene

Pyramid = Sequence[Float[Tensor, "B F _ _"]]
Pool = Callable[[Pyramid, Float[Tensor, "R 4"], Int[Tensor, " R"]], Tensor]


Heads = Any  # an nn.ModuleDict of RegionHeads, which Python's types cannot say


class Outputs(NamedTuple):
    pyramid: list[Tensor]  # [B, F, H / stride, W / stride], fine to coarse


class Selected(NamedTuple):
    """``Detections``, and what each further head says about each slot."""

    boxes: Float[Tensor, "B D 4"]
    scores: Float[Tensor, "B D"]
    labels: Int[Tensor, "B D"]
    regions: dict[str, Any]  # by head: a tensor [B, D, ...] or a NamedTuple of such


class RegionHead(Protocol):
    """One more thing to say about each found thing: its mask, a sentence, whatever a user needs."""

    needs: frozenset[str]

    def outputs(self, pyramid: Pyramid, boxes: Tensor, image_index: Tensor) -> Any:
        """The dense part for boxes [R, 4] of the pictures [R]; R may be 0."""

    def losses(self, outputs: Any, boxes: Tensor, objects: list[Instances]) -> dict[str, Loss]:
        """``objects`` has, picture by picture, the true thing that each box is to describe."""

    def select(self, outputs: Any, labels: Tensor) -> Any:
        """Of the outputs what the found labels [R] ask for: a tensor or NamedTuple, rows first."""

    def describe(self, selected: Any, things: Instances, placement: Placement) -> Instances:
        """The things of one picture, in its own pixels, with this head's answer added."""


class FastRCNN(nn.Module):
    by_background = True  # it can select so, see Selection

    def __init__(
        self,
        backbone: nn.Module,
        box_head: "BoxHead",
        heads: Mapping[str, nn.Module] | None = None,
        preprocess: Preprocess = Preprocess(short=600, long=1000),
        selection: Selection = Selection(score=0.05, iou=0.3),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.box_head = box_head
        self.heads: Heads = nn.ModuleDict(heads)
        self.preprocess = preprocess
        self.selection = selection
        self.needs = needs_of(self.heads)

    def forward(self, images: Images, targets: list[Scene] | None = None) -> Any:
        outputs = self.outputs(images)
        if targets is None:
            return self.select(outputs, images)
        return self.losses(outputs, images, targets)

    def outputs(self, images: Images) -> Outputs:
        return Outputs(self.backbone(images.pixels))

    def losses(self, outputs: Outputs, images: Images, targets: list[Scene]) -> dict[str, Loss]:
        regions = given_regions(images)
        proposals = [r[f] for r, f in zip(regions, box_ops.area(regions) > 0, strict=True)]
        return region_losses(self.box_head, self.heads, outputs.pyramid, proposals, targets)

    def select(self, outputs: Outputs, images: Images) -> Selected:
        regions = F.pad(given_regions(images), (0, 0, 0, 1))  # an empty slot where there is none
        return select_regions(
            self.box_head,
            self.heads,
            outputs.pyramid,
            regions,
            box_ops.area(regions) > 0,
            images.sizes,
            self.selection,
        )

    def describe(self, selected: Selected, placements: Sequence[Placement]) -> list[Scene]:
        return describe_regions(self.heads, selected, placements)


def given_regions(images: Images) -> Float[Tensor, "B R 4"]:
    """The proposals from outside.

    Raises:
        SightlineError: there are none.
    """
    if images.regions is None:
        raise SightlineError(
            "Fast R-CNN finds no regions by itself: give it proposals in Images.regions, "
            "or take faster_rcnn"
        )
    return images.regions


@dataclass(frozen=True)
class Sampling:
    """Which regions of a picture a step learns from (section 2.3, mini-batch sampling).

    Raises:
        SightlineError: none at all.
    """

    count: int = 64
    positive_share: float = 0.25
    positive_from: float = 0.5  # IoU with an object
    negative: tuple[float, float] = (0.1, 0.5)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise SightlineError(f"samples must be at least 1, not {self.count}")


class Sampled(NamedTuple):
    """S regions, picture by picture, those on an object first within each."""

    boxes: Float[Tensor, "S 4"]
    image_index: Int[Tensor, " S"]
    labels: Int[Tensor, " S"]  # C for background
    objects: list[Instances]  # a picture each: the object of each of its positive regions

    @property
    def matched(self) -> Float[Tensor, "P 4"]:
        """The boxes of the objects of all positive regions."""
        return torch.cat([objects.boxes for objects in self.objects])


class BoxOutputs(NamedTuple):
    logits: Float[Tensor, "R C+1"]  # background last
    deltas: Float[Tensor, "R K 4"]


class BoxHead(nn.Module):
    """Pools each region, and says what it is and how to shift it (section 2.1, figure 1)."""

    weights = (10.0, 10.0, 5.0, 5.0)

    def __init__(
        self,
        pool: Pool,
        body: nn.Module,
        channels: int,
        classes: int,
        class_agnostic: bool = False,
        sampling: Sampling = Sampling(),
    ) -> None:
        super().__init__()
        self.pool = pool
        self.body = body
        self.sampling = sampling
        self.classes = classes
        self.register_buffer("class_weights", None, persistent=False)
        self.class_score = nn.Linear(channels, classes + 1)
        self.box_shift = nn.Linear(channels, 4 if class_agnostic else 4 * classes)

    def weigh(self, weights: Float[Tensor, " C"]) -> None:
        """How much each class counts in the loss, where background counts 1. A choice of the run:
        what the model answers and what is saved of it do not depend on it."""
        self.class_weights = F.pad(weights, (0, 1), value=1.0)

    def outputs(
        self, pyramid: Pyramid, boxes: Float[Tensor, "R 4"], image_index: Int[Tensor, " R"]
    ) -> BoxOutputs:
        features = self.body(self.pool(pyramid, boxes, image_index))
        if features.dim() == 4:  # a convolutional tail: the mean over what cells are left
            features = features.mean(dim=(2, 3))
        return BoxOutputs(
            self.class_score(features), self.box_shift(features).unflatten(1, (-1, 4))
        )

    def sample(self, proposals: Sequence[Float[Tensor, "_ 4"]], targets: list[Scene]) -> Sampled:
        """Regions to learn from, out of each picture's proposals and true boxes."""
        boxes, labels, objects = [], [], []
        rule = self.sampling
        for found, scene in zip(proposals, targets, strict=True):
            things = scene.things
            candidates = torch.cat([found, things.boxes[~things.ignore]])
            matches = match_boxes(
                candidates, things.boxes, things.ignore, rule.negative, rule.positive_from
            )
            positive, negative = sample_balanced(
                matches, rule.count, rule.positive_share, scene.seed
            )
            mine = things[matches[positive]]
            background = mine.labels.new_full((len(negative),), self.classes)
            boxes.append(candidates[torch.cat([positive, negative])])
            labels.append(torch.cat([mine.labels, background]))
            objects.append(mine)
        return Sampled(torch.cat(boxes), image_index(boxes), torch.cat(labels), objects)

    def losses(self, outputs: BoxOutputs, sampled: Sampled) -> dict[str, Loss]:
        """Equation 1: log loss of the true class, plus smooth L1 of its shift where it is an
        object; both divided by the number of sampled regions, weighted or not."""
        labels = sampled.labels
        total, count = cross_entropy_sum(outputs.logits, labels, self.class_weights)
        positive = (labels < self.classes).nonzero().flatten()
        deltas = outputs.deltas[positive]
        if deltas.shape[1] == 1:
            deltas = deltas[:, 0]
        else:
            deltas = deltas[torch.arange(len(positive), device=labels.device), labels[positive]]
        goal = box_ops.encode(sampled.matched, sampled.boxes[positive], self.weights)
        return {
            "class": Loss(total, count),
            "box": Loss(smooth_l1(deltas, goal, beta=1 / 9).sum(), count),
        }

    def select(
        self,
        outputs: BoxOutputs,
        proposals: Float[Tensor, "B R 4"],
        filled: Bool[Tensor, "B R"],
        sizes: Int[Tensor, "B 2"],
        selection: Selection,
    ) -> Detections:
        batch, regions = proposals.shape[:2]
        scores = F.softmax(outputs.logits, dim=-1).unflatten(0, (batch, regions))
        if selection.by == "background":
            likeness = (1 - scores[..., -1])[..., None]
            best = scores[..., :-1].argmax(dim=-1, keepdim=True)
        else:
            likeness = scores[..., :-1]
            best = torch.arange(self.classes, device=scores.device).expand(likeness.shape)
        columns = likeness.shape[-1]
        eligible = filled[..., None] & (likeness > selection.score)
        candidates = torch.where(eligible, likeness, EMPTY).flatten(1)
        kept, index = top(candidates, min(selection.candidates, regions * columns))
        labels, region = take(best.flatten(1), index), index // columns
        deltas = outputs.deltas.unflatten(0, (batch, regions))
        row = region * deltas.shape[2] + (labels if deltas.shape[2] > 1 else 0)
        shifted = box_ops.decode(
            take(deltas.flatten(1, 2), row), take(proposals, region), self.weights
        )
        boxes = box_ops.clip(shifted, sizes)
        kept = torch.where(box_ops.at_least(boxes, 0.01), kept, EMPTY)
        return finish(boxes, kept, labels, self.classes, selection)


class TwoLayers(nn.Module):
    """fc6 and fc7 on the flattened pooled features."""

    def __init__(self, channels: int, hidden: int = 1024) -> None:
        super().__init__()
        self.fc6 = nn.Linear(channels, hidden)
        self.fc7 = nn.Linear(hidden, hidden)

    def forward(self, pooled: Float[Tensor, "R F S S"]) -> Float[Tensor, "R hidden"]:
        return F.relu(self.fc7(F.relu(self.fc6(pooled.flatten(1)))))


def needs_of(heads: Heads) -> frozenset[str]:
    """The target fields that the further heads train on."""
    return frozenset().union(*(head.needs for head in heads.values()))


def region_losses(
    box_head: BoxHead,
    heads: Heads,
    pyramid: Pyramid,
    proposals: Sequence[Float[Tensor, "_ 4"]],
    targets: list[Scene],
) -> dict[str, Loss]:
    """The losses of the box head on sampled regions, and of every further head on the positive
    ones."""
    sampled = box_head.sample(proposals, targets)
    outputs = box_head.outputs(pyramid, sampled.boxes, sampled.image_index)
    losses = box_head.losses(outputs, sampled)
    positive = sampled.labels < box_head.classes
    boxes, where = sampled.boxes[positive], sampled.image_index[positive]
    for name, head in heads.items():
        said = head.losses(head.outputs(pyramid, boxes, where), boxes, sampled.objects)
        losses |= {f"{name}.{term}": loss for term, loss in said.items()}
    return losses


def select_regions(
    box_head: BoxHead,
    heads: Heads,
    pyramid: Pyramid,
    proposals: Float[Tensor, "B R 4"],
    filled: Bool[Tensor, "B R"],
    sizes: Int[Tensor, "B 2"],
    selection: Selection,
) -> Selected:
    """The box head's answers on the proposals; the further heads' on those final boxes."""
    outputs = box_head.outputs(pyramid, proposals.flatten(0, 1), slot_index(proposals))
    found = box_head.select(outputs, proposals, filled, sizes, selection)
    boxes, labels = found.boxes.flatten(0, 1), found.labels.flatten()
    regions = {
        name: _map(
            head.select(head.outputs(pyramid, boxes, slot_index(found.boxes)), labels),
            lambda rows: rows.unflatten(0, found.labels.shape),
        )
        for name, head in heads.items()
    }
    return Selected(*found, regions)


def describe_regions(
    heads: Heads, selected: Selected, placements: Sequence[Placement]
) -> list[Scene]:
    scenes = to_scenes(Detections(*selected[:3]), placements)
    for number, (scene, place) in enumerate(zip(scenes, placements, strict=True)):
        filled = (selected.scores[number] > EMPTY).nonzero().flatten()
        for name, head in heads.items():
            said = _map(selected.regions[name], itemgetter((number, filled)))
            scene.things = head.describe(said, scene.things, place)
    return scenes


def _map(answer: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A tensor, or every tensor of a NamedTuple, changed."""
    return change(answer) if isinstance(answer, Tensor) else type(answer)(*map(change, answer))


def pool_one_level(
    pyramid: Pyramid, boxes: Tensor, image_index: Tensor, stride: int, size: int
) -> Tensor:
    """RoIPool of the last level."""
    return roi_pool(pyramid[-1], boxes, image_index, stride, size)


def fast_rcnn(
    classes: int,
    backbone: str = "vgg16",
    pretrained: bool = False,
    freeze_norm: bool = False,
    class_agnostic: bool = False,
    samples: int = 64,
    short: int = 600,
    long: int = 1000,
) -> FastRCNN:
    """VGG16 (to conv5_3, then fc6 and fc7 on 7 x 7) or a ResNet (to C4, then its last stage on
    14 x 14); ``freeze_norm`` keeps BatchNorm as loaded."""
    trunk, tail = split(backbone, pretrained, frozen_norm=freeze_norm)
    return FastRCNN(
        backbone=trunk,
        box_head=BoxHead(
            pool=partial(pool_one_level, stride=trunk.strides[-1], size=tail.size),
            body=tail,
            channels=tail.channels,
            classes=classes,
            class_agnostic=class_agnostic,
            sampling=Sampling(count=samples),
        ),
        preprocess=Preprocess(short=short, long=long),
    )
