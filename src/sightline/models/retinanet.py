"""Focal Loss for Dense Object Detection. Lin, Goyal, Girshick, He, Dollar, 2017.
https://arxiv.org/abs/1708.02002

One stage: at every cell of a pyramid, K anchors are classified and shifted at once. A hundred
thousand easy negatives drown the few objects in the usual loss; the focal loss turns their weight
down by how right they already are, so that no sampling and no proposals are needed.

Letters: B pictures, F channels, K anchors a cell, A anchors a picture (A_l of level l), C classes,
D answers a picture, S = C scores an anchor, or C + 1 with background.

Original / ours. Pyramid: P6 from C5 / from C5, or from P5 as in torchvision's first release
(``extra``). Anchor sizes: exact powers / the same, or whole pixels as torchvision lays them.
Anchors: positive from IoU 0.5 / also the best of each object, however little it overlaps, as in
Detectron. Shifts: smooth L1 / its limit, L1; or GIoU. Classes: C sigmoids / these, or the C + 1
softmax that lectures draw (``scores``). Losses are divided by the positive anchors of all pictures
of all processes together, not picture by picture.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones import create_backbone, levels_of
from sightline.errors import SightlineError
from sightline.layers.fpn import FPN
from sightline.ops import boxes as box_ops
from sightline.ops.anchors import cell_anchors, level_anchors
from sightline.ops.losses import sigmoid_focal, smooth_l1, softmax_focal
from sightline.ops.match import NEUTRAL, match_boxes
from sightline.ops.suppress import EMPTY, Detections, Selection, finish, take, to_scenes, top_pairs
from sightline.preprocess import Preprocess
from sightline.shapes import Float, Int
from sightline.types import Images, Loss, Placement, Scene

SIZES = (32, 64, 128, 256, 512)  # of the anchors of P3 to P7, in pixels
OCTAVE = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))  # three sizes a level (section 4, "Anchors")
RATIOS = (0.5, 1.0, 2.0)

Scores = Literal["sigmoid", "softmax"]


class Outputs(NamedTuple):
    """Per level, fine to coarse; the anchors of a level cell by cell."""

    pyramid: list[Tensor]  # [B, F, H / stride, W / stride]
    logits: list[Tensor]  # [B, A_l, S]
    deltas: list[Tensor]  # [B, A_l, 4] or [B, A_l, C * 4]


class RetinaNet(nn.Module):
    objects_from, background = 0.5, (0.0, 0.4)  # IoU ranges (section 4, "Anchors")
    alpha, gamma = 0.25, 2.0  # of the focal loss (section 4.1)

    def __init__(
        self,
        backbone: nn.Module,
        fpn: nn.Module,
        class_head: "Head",
        box_head: "Head",
        strides: Sequence[int] | None,
        rounded: bool = False,
        scores: Scores = "sigmoid",
        box_loss: Literal["l1", "giou"] = "l1",
        candidates: int = 1000,
        preprocess: Preprocess = Preprocess(short=800, long=1333),
        selection: Selection = Selection(score=0.05, iou=0.5),
    ) -> None:
        """``strides`` of the levels, or None: the anchors of a level are spread evenly over the
        padded picture, as torchvision spreads them; with ``rounded`` on whole pixels."""
        super().__init__()
        if box_loss not in ("l1", "giou") or scores not in ("sigmoid", "softmax"):
            raise SightlineError(
                f"box_loss is l1 or giou, scores are sigmoid or softmax: not {box_loss}, {scores}"
            )
        self.backbone = backbone
        self.fpn = fpn
        expect_background(class_head, scores)
        self.class_head = class_head
        self.box_head = box_head
        self.strides = strides
        self.scores = scores
        self.box_loss = box_loss
        self.candidates = candidates  # the best so many of each level enter the suppression
        self.preprocess = preprocess
        self.selection = selection
        self.needs: frozenset[str] = frozenset()
        for level, size in enumerate(SIZES):
            sizes = [int(size * step) if rounded else size * step for step in OCTAVE]
            self.register_buffer(
                f"cell{level}", cell_anchors(sizes, RATIOS, rounded), persistent=False
            )

    def forward(self, images: Images, targets: list[Scene] | None = None) -> Any:
        outputs = self.outputs(images)
        if targets is None:
            return self.select(outputs, images)
        return self.losses(outputs, images, targets)

    def outputs(self, images: Images) -> Outputs:
        pyramid = self.fpn(self.backbone(images.pixels))  # of C3 to C5
        return Outputs(
            pyramid,
            [self.class_head(features) for features in pyramid],
            [self.box_head(features) for features in pyramid],
        )

    def anchors(self, outputs: Outputs, images: Images) -> list[Float[Tensor, "_ 4"]]:
        """Of each level, cell by cell."""
        cells = [self.get_buffer(f"cell{level}") for level in range(len(SIZES))]
        return level_anchors(cells, outputs.pyramid, images.pixels, self.strides)

    def losses(self, outputs: Outputs, images: Images, targets: list[Scene]) -> dict[str, Loss]:
        """Section 4.1, "Focal Loss" and "Optimization": the focal loss of all anchors and the shift
        of the positive ones, both divided by the number of positive anchors."""
        anchors = torch.cat(self.anchors(outputs, images))
        logits, deltas = torch.cat(outputs.logits, dim=1), torch.cat(outputs.deltas, dim=1)
        class_terms, box_terms, count = [], [], 0
        for logit, delta, scene in zip(logits, deltas, targets, strict=True):
            matches = self.match(anchors, scene)
            positive = (matches >= 0).nonzero().flatten()
            labels = scene.things.labels[matches[positive]]
            boxes = scene.things.boxes[matches[positive]]
            class_terms.append(self.class_loss(logit, matches, positive, labels))
            shift = of_class(delta[positive], labels)
            box_terms.append(self.shift_loss(shift, anchors[positive], boxes))
            count += len(positive)
        number = logits.new_tensor(count, dtype=torch.float32)
        return {
            "class": Loss(torch.stack(class_terms).sum(), number),
            "box": Loss(torch.stack(box_terms).sum(), number),
        }

    def match(self, anchors: Float[Tensor, "A 4"], scene: Scene) -> Int[Tensor, " A"]:
        things = scene.things
        return match_boxes(
            anchors,
            things.boxes,
            things.ignore,
            self.background,
            self.objects_from,
            force_best=True,
            visible=box_ops.clip(anchors, torch.tensor(scene.size, device=anchors.device)),
        )

    def class_loss(
        self,
        logits: Float[Tensor, "A S"],
        matches: Int[Tensor, " A"],
        positive: Int[Tensor, " P"],
        labels: Int[Tensor, " P"],
    ) -> Float[Tensor, ""]:
        """Equation 5, summed over the anchors that are not neutral."""
        counted = matches != NEUTRAL
        if self.scores == "softmax":
            goal = torch.full_like(matches, logits.shape[1] - 1)
            goal[positive] = labels
            return softmax_focal(logits, goal, self.gamma)[counted].sum()
        hot = torch.zeros_like(logits)
        hot[positive, labels] = 1
        return sigmoid_focal(logits, hot, self.alpha, self.gamma).sum(dim=1)[counted].sum()

    def shift_loss(
        self,
        deltas: Float[Tensor, "P 4"],
        anchors: Float[Tensor, "P 4"],
        boxes: Float[Tensor, "P 4"],
    ) -> Float[Tensor, ""]:
        if self.box_loss == "l1":
            return smooth_l1(deltas, box_ops.encode(boxes, anchors), beta=0).sum()
        shifted = box_ops.decode(deltas, anchors)
        return (1 - box_ops.giou(shifted[:, None], boxes[:, None])).sum()

    def select(self, outputs: Outputs, images: Images) -> Detections:
        """Section 4.1, "Inference": the best of each level above a threshold, shifted; suppression
        over all levels together."""
        boxes, scores, labels = [], [], []
        levels = zip(self.anchors(outputs, images), outputs.logits, outputs.deltas, strict=True)
        for grid, logits, deltas in levels:
            likeness = self.likeness(logits)
            eligible = torch.where(likeness > self.selection.score, likeness, EMPTY)
            score, anchor, label = top_pairs(eligible, self.candidates)
            shift = of_class(take(deltas, anchor), label)
            boxes.append(box_ops.decode(shift, grid[anchor]))
            scores.append(score)
            labels.append(label)
        shifted = box_ops.clip(torch.cat(boxes, dim=1), images.sizes)
        classes = likeness.shape[-1]
        return finish(
            shifted, torch.cat(scores, dim=1), torch.cat(labels, dim=1), classes, self.selection
        )

    def likeness(self, logits: Float[Tensor, "*A S"]) -> Float[Tensor, "*A C"]:
        """How likely each class is, without background."""
        if self.scores == "softmax":
            return F.softmax(logits, dim=-1)[..., :-1]
        return logits.sigmoid()

    def describe(self, selected: Detections, placements: Sequence[Placement]) -> list[Scene]:
        return to_scenes(selected, placements)


class Head(nn.Module):
    """Section 4, "Classification / Box Regression Subnet": convolutions that all levels share, and
    ``values`` numbers for each anchor of a cell."""

    def __init__(
        self, channels: int, per_cell: int, values: int, convs: int = 4, norm: bool = False
    ) -> None:
        super().__init__()
        self.values = values
        self.convs = nn.ModuleList(_conv(channels, norm) for _ in range(convs))
        self.last = nn.Conv2d(channels, per_cell * values, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Float[Tensor, "B F H W"]) -> Float[Tensor, "B A_l V"]:
        for conv in self.convs:
            features = conv(features)
        maps = self.last(features).permute(0, 2, 3, 1)
        return maps.flatten(1).unflatten(1, (-1, self.values))


def _conv(channels: int, norm: bool) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=not norm)
    return nn.Sequential(conv, *([nn.GroupNorm(32, channels)] if norm else []), nn.ReLU())


def expect_background(head: Head, scores: Scores, prior: float = 0.01) -> None:
    """Sections 3.3 and 4.1, "Initialization": at first every anchor holds an object with
    probability ``prior`` only, else the loss of the negatives blows training up. (Of C sigmoids
    each; of a softmax all C together.)"""
    assert head.last.bias is not None
    odds = math.log((1 - prior) / prior)
    with torch.no_grad():
        if scores == "sigmoid":
            head.last.bias.fill_(-odds)
        else:
            classes = head.values - 1
            head.last.bias.unflatten(0, (-1, head.values))[:, -1] = odds + math.log(classes)


def of_class(deltas: Float[Tensor, "*N V"], labels: Int[Tensor, "*N"]) -> Float[Tensor, "*N 4"]:
    """The four shifts for its class, of one set for all classes or of a set for each."""
    if deltas.shape[-1] == 4:
        return deltas
    sets = deltas.unflatten(-1, (-1, 4))
    index = labels[..., None, None].expand(*labels.shape, 1, 4)
    return sets.gather(-2, index).squeeze(-2)


def retinanet(
    classes: int,
    backbone: str = "resnet50",
    pretrained: bool = False,
    freeze_norm: bool = False,
    norm_eps: float | None = None,
    extra: Literal["convs", "convs_c5"] = "convs_c5",
    even_anchors: bool = False,
    scores: Scores = "sigmoid",
    class_agnostic: bool = True,
    box_loss: Literal["l1", "giou"] = "l1",
    head_norm: bool = False,
    channels: int = 256,
    convs: int = 4,
    candidates: int = 1000,
    top: int = 100,
    short: int = 800,
    long: int = 1333,
) -> RetinaNet:
    """A pyramid P3 to P7 over any backbone with maps of stride 8, 16 and 32. ``extra``: P6 comes
    from C5 as in the paper, or from P5 ("convs"). ``even_anchors`` lays the anchors as torchvision
    does. ``head_norm`` puts GroupNorm behind the ``convs`` convolutions of both heads. Without
    ``class_agnostic`` each class has shifts of its own. ``candidates`` of each level enter the
    suppression and ``top`` answers come out. ``freeze_norm`` and ``norm_eps`` as in
    ``faster_rcnn``."""
    body = create_backbone(
        backbone,
        pretrained,
        levels=levels_of(backbone, (8, 16, 32)),
        frozen_norm=freeze_norm,
        norm_eps=norm_eps,
    )
    fpn = FPN(body.channels, channels, extra=extra)
    per_cell = len(OCTAVE) * len(RATIOS)
    return RetinaNet(
        backbone=body,
        fpn=fpn,
        class_head=Head(channels, per_cell, classes + (scores == "softmax"), convs, head_norm),
        box_head=Head(channels, per_cell, 4 if class_agnostic else 4 * classes, convs, head_norm),
        strides=None if even_anchors else fpn.strides(body.strides),
        rounded=even_anchors,
        scores=scores,
        box_loss=box_loss,
        candidates=candidates,
        preprocess=Preprocess(short=short, long=long),
        selection=Selection(score=0.05, iou=0.5, top=top),
    )
