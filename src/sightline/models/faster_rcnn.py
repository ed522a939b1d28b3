"""Faster R-CNN. Ren, He, Girshick, Sun, 2015. https://arxiv.org/abs/1506.01497
With a pyramid: Feature Pyramid Networks. Lin et al., 2016. https://arxiv.org/abs/1612.03144

Fast R-CNN whose regions come from the network itself: a small head slides over the features and
says, for each of K anchors at each cell, whether it holds an object and how it is to be shifted
onto it. The best of these, after suppression, are the proposals that the second stage classifies.

Letters: B pictures, F channels, K anchors a cell, A anchors a picture, P proposals a picture, C
classes, D answers a picture.

Original / ours. Training: four alternating steps / both stages jointly, proposals detached (section
3.2, "approximate joint training"). Anchors across the border: left out of training / kept, as in
the FPN paper. Second stage: RoIPool / RoIAlign (Mask R-CNN). Objectness: 2K softmax scores / K
logistic ones, or the softmax as a choice (the difference of two softmax logits is the logit of a
sigmoid). Smooth L1: beta 1/9 in both stages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones import create_backbone, split
from sightline.errors import SightlineError
from sightline.layers.fpn import FPN
from sightline.models.fast_rcnn import (
    BoxHead,
    Heads,
    Pyramid,
    Sampling,
    Selected,
    TwoLayers,
    describe_regions,
    needs_of,
    region_losses,
    select_regions,
)
from sightline.ops import boxes as box_ops
from sightline.ops.anchors import cell_anchors, level_anchors, sizes_of_levels
from sightline.ops.boxes import image_index
from sightline.ops.losses import binary_cross_entropy_sum, smooth_l1
from sightline.ops.match import match_boxes, sample_balanced
from sightline.ops.pyramid import Cells, as_table, conv_at
from sightline.ops.roi import roi_align
from sightline.ops.suppress import EMPTY, Selection, suppress, take, top
from sightline.preprocess import Preprocess
from sightline.shapes import Float, Int
from sightline.types import Images, Loss, Placement, Scene


class Outputs(NamedTuple):
    """Per level, fine to coarse; the anchors of a level cell by cell."""

    pyramid: list[Tensor]  # [B, F, H / stride, W / stride]
    objectness: list[Tensor]  # logits [B, A of the level]
    deltas: list[Tensor]  # [B, A of the level, 4]


class FasterRCNN(nn.Module):
    by_background = True  # it can select so, see Selection

    def __init__(
        self,
        backbone: nn.Module,
        fpn: nn.Module,
        rpn: "RPN",
        box_head: BoxHead,
        heads: Mapping[str, nn.Module] | None = None,
        preprocess: Preprocess = Preprocess(short=800, long=1333),
        selection: Selection = Selection(),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.fpn = fpn  # nn.Identity for a single level
        self.rpn = rpn
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
        pyramid = self.fpn(self.backbone(images.pixels))
        return Outputs(pyramid, *self.rpn(pyramid))

    def losses(self, outputs: Outputs, images: Images, targets: list[Scene]) -> dict[str, Loss]:
        anchors = self.rpn.anchors(outputs.pyramid, images)
        found = self.rpn.propose(outputs, anchors, images, self.rpn.training_amount)
        proposals = [b[s > EMPTY] for b, s in zip(found.boxes, found.scores, strict=True)]
        first = self.rpn.losses(outputs, torch.cat(anchors), targets)
        return first | region_losses(self.box_head, self.heads, outputs.pyramid, proposals, targets)

    def select(self, outputs: Outputs, images: Images) -> Selected:
        anchors = self.rpn.anchors(outputs.pyramid, images)
        found = self.rpn.propose(outputs, anchors, images, self.rpn.amount)
        return select_regions(
            self.box_head,
            self.heads,
            outputs.pyramid,
            found.boxes,
            found.scores > EMPTY,
            images.sizes,
            self.selection,
        )

    def describe(self, selected: Selected, placements: Sequence[Placement]) -> list[Scene]:
        return describe_regions(self.heads, selected, placements)


class Proposals(NamedTuple):
    boxes: Float[Tensor, "B P 4"]
    scores: Float[Tensor, "B P"]  # -1: an empty slot


@dataclass(frozen=True)
class Amount:
    """How many proposals a picture."""

    candidates: int  # the best so many of each level enter the suppression
    proposals: int  # and so many of all levels come out


class RPN(nn.Module):
    """The region proposal network (section 3.1).

    ``sizes`` has the anchor sizes of each level in pixels; ``strides`` those of each level, or
    None: then the anchors of a level are spread evenly over the padded picture, as torchvision
    spreads them (a level of 13 cells over 800 pixels steps by 61, not 64).
    """

    objects_from, background = 0.7, (0.0, 0.3)  # IoU ranges of section 3.1.2
    samples, positive_share = 256, 0.5
    iou = 0.7  # of the suppression
    smallest = 1e-3  # pixels a side

    def __init__(
        self,
        channels: int,
        sizes: Sequence[Sequence[float]],
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        strides: Sequence[int] | None = None,
        rounded: bool = False,
        convs: int = 1,
        objectness: Literal["logistic", "softmax"] = "logistic",
        amount: Amount = Amount(1000, 1000),
        training_amount: Amount = Amount(2000, 2000),
        score: float = 0.0,
    ) -> None:
        super().__init__()
        if objectness not in ("logistic", "softmax"):
            raise SightlineError(f"objectness is logistic or softmax, not {objectness!r}")
        self.strides = strides
        self.amount = amount
        self.training_amount = training_amount
        self.score = score
        for level, level_sizes in enumerate(sizes):
            cell = cell_anchors(level_sizes, ratios, rounded)
            self.register_buffer(f"cell{level}", cell, persistent=False)
        per_cell = len(sizes[0]) * len(ratios)
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(convs)
        )
        self.objectness = nn.Conv2d(channels, per_cell * (1 if objectness == "logistic" else 2), 1)
        self.box_shift = nn.Conv2d(channels, per_cell * 4, 1)
        self.softmax = objectness == "softmax"
        for conv in (*self.convs, self.objectness, self.box_shift):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)

    def forward(self, pyramid: Pyramid) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness logits and deltas of each level, for ``propose``: no gradient passes."""
        answers = []
        for features in pyramid:
            for conv in self.convs:
                features = F.relu(conv(features))
            answers.append(self._read(features))
        return [logits.detach() for logits, _ in answers], [d.detach() for _, d in answers]

    def at(
        self, pyramid: Pyramid, image_index: Int[Tensor, " S"], anchor: Int[Tensor, " S"]
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, "S 4"]]:
        """The same for single anchors, to learn from: the few cells that were sampled are computed
        once more, so that they alone are gone through backwards."""
        per_cell = self.box_shift.out_channels // 4
        cells = Cells.of(pyramid)
        table, rows = cells.table, cells.around(image_index, anchor // per_cell, len(self.convs))
        for conv in self.convs:
            weight, bias = conv.parameters()
            hidden = F.relu(conv_at(table, rows, weight, bias))
            table, rows = as_table(hidden, rows[:, 1:-1, 1:-1] < len(table) - 1)
        logits, deltas = self._read(table[:-1, :, None, None])  # S maps of one cell
        row = torch.arange(len(anchor), device=anchor.device)
        return logits[row, anchor % per_cell], deltas[row, anchor % per_cell]

    def _read(self, hidden: Float[Tensor, "B F H W"]) -> tuple[Tensor, Tensor]:
        logits = _by_anchor(self.objectness(hidden), 2 if self.softmax else 1)
        # P(object) of a two-way softmax is the sigmoid of the difference of its logits.
        logit = logits[..., -1] - logits[..., 0] if self.softmax else logits[..., 0]
        return logit, _by_anchor(self.box_shift(hidden), 4)

    def anchors(self, pyramid: Pyramid, images: Images) -> list[Float[Tensor, "_ 4"]]:
        cells = [self.get_buffer(f"cell{level}") for level in range(len(pyramid))]
        return level_anchors(cells, pyramid, images.pixels, self.strides)

    def propose(
        self,
        outputs: Outputs,
        anchors: list[Float[Tensor, "_ 4"]],
        images: Images,
        amount: Amount,
    ) -> Proposals:
        """The best anchors of each level, shifted, clipped and suppressed level by level, and the
        best of all levels (section 3.3; no gradient passes)."""
        boxes, scores, levels = [], [], []
        for level, grid in enumerate(anchors):
            logits, index = top(outputs.objectness[level], amount.candidates, empty=float("-inf"))
            deltas = take(outputs.deltas[level], index)
            boxes.append(box_ops.decode(deltas, grid[index]))
            scores.append(torch.where(logits.isneginf(), EMPTY, logits.sigmoid()))
            levels.append(torch.full_like(index, level))
        shifted = box_ops.clip(torch.cat(boxes, dim=1), images.sizes)
        score = torch.cat(scores, dim=1)
        good = (score >= self.score) & box_ops.at_least(shifted, self.smallest)
        score = torch.where(good, score, EMPTY)
        shifted = torch.where(good[..., None], shifted, 0)  # NaN from weights that diverged, too
        left = suppress(shifted, score, torch.cat(levels, dim=1), len(anchors), self.iou)
        best, index = top(left, amount.proposals)
        return Proposals(take(shifted, index), best)

    def losses(
        self, outputs: Outputs, anchors: Float[Tensor, "A 4"], targets: list[Scene]
    ) -> dict[str, Loss]:
        """Equation 1: log loss of objectness and smooth L1 of the shift over sampled anchors, both
        divided by their number."""
        sampled, labels, goals = [], [], []
        for scene in targets:
            matches = self.match(anchors, scene)
            positive, negative = sample_balanced(
                matches, self.samples, self.positive_share, scene.seed
            )
            sampled.append(torch.cat([positive, negative]))
            labels.append(matches[sampled[-1]] >= 0)
            true = scene.things.boxes[matches[positive]]
            goals.append(box_ops.encode(true, anchors[positive]))
        label = torch.cat(labels)
        logits, deltas = self.at(outputs.pyramid, image_index(sampled), torch.cat(sampled))
        total, count = binary_cross_entropy_sum(logits, label.long())
        shift = smooth_l1(deltas[label], torch.cat(goals), beta=1 / 9).sum()
        return {"rpn_object": Loss(total, count), "rpn_box": Loss(shift, count)}

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


def _by_anchor(maps: Float[Tensor, "B KV H W"], values: int) -> Float[Tensor, "B A V"]:
    """The values of every anchor, cell by cell."""
    return maps.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, values))


def faster_rcnn(
    classes: int,
    backbone: str = "resnet50",
    pretrained: bool = False,
    freeze_norm: bool = False,
    norm_eps: float | None = None,
    class_agnostic: bool = False,
    objectness: Literal["logistic", "softmax"] = "logistic",
    anchor_sizes: Sequence[Sequence[float]] | None = None,
    even_anchors: bool = False,
    channels: int = 256,
    hidden: int = 1024,
    samples: int = 512,
    candidates: int = 1000,
    proposals: int = 1000,
    training_candidates: int = 2000,
    training_proposals: int = 2000,
    rpn_score: float = 0.0,
    short: int = 800,
    long: int = 1333,
    heads: Mapping[str, nn.Module] | None = None,
) -> FasterRCNN:
    """With a pyramid over any backbone, the last level a subsampled copy. ``anchor_sizes`` has
    those of each level, fine to coarse; left out, see ``sizes_of_levels``.

    ``freeze_norm`` keeps BatchNorm as loaded (for pretrained weights and small batches), with
    ``norm_eps`` in its denominators. ``even_anchors`` lays the anchors as torchvision does. The
    pyramid has ``channels``, the box head two layers of ``hidden`` units.
    ``samples`` regions a picture train the second stage; ``candidates`` anchors a level and
    ``proposals`` a picture are kept at test time, those scored below ``rpn_score`` dropped;
    ``training_candidates`` and ``training_proposals`` are kept in training.
    """
    body = create_backbone(
        backbone, pretrained=pretrained, frozen_norm=freeze_norm, norm_eps=norm_eps
    )
    fpn = FPN(body.channels, channels, extra="pool")
    return FasterRCNN(
        backbone=body,
        fpn=fpn,
        rpn=RPN(
            channels,
            sizes_of_levels(len(fpn.channels), anchor_sizes),
            strides=None if even_anchors else fpn.strides(body.strides),
            rounded=even_anchors,
            objectness=objectness,
            amount=Amount(candidates, proposals),
            training_amount=Amount(training_candidates, training_proposals),
            score=rpn_score,
        ),
        box_head=BoxHead(
            pool=partial(pool_pyramid, strides=body.strides, size=7),
            body=TwoLayers(channels * 7 * 7, hidden),
            channels=hidden,
            classes=classes,
            class_agnostic=class_agnostic,
            sampling=Sampling(count=samples, negative=(0.0, 0.5)),
        ),
        heads=heads,
        preprocess=Preprocess(short=short, long=long),
    )


def faster_rcnn_single(
    classes: int,
    backbone: str = "resnet50",
    pretrained: bool = False,
    freeze_norm: bool = False,
    class_agnostic: bool = False,
    objectness: Literal["logistic", "softmax"] = "softmax",
    anchor_sizes: Sequence[float] = (128, 256, 512),
    samples: int = 128,
    short: int = 600,
    long: int = 1000,
) -> FasterRCNN:
    """As first published: one level at stride 16, three ratios of each anchor size
    at every cell, 300 proposals at test time.
    VGG16 (conv5_3, then fc6 and fc7) or a ResNet (C4, then its last stage on each region)."""
    trunk, tail = split(backbone, pretrained, frozen_norm=freeze_norm)
    stride = trunk.strides[-1]
    return FasterRCNN(
        backbone=trunk,
        fpn=nn.Identity(),
        rpn=RPN(
            trunk.channels[-1],
            sizes=(anchor_sizes,),
            strides=(stride,),
            objectness=objectness,
            amount=Amount(6000, 300),
            training_amount=Amount(12000, 2000),
        ),
        box_head=BoxHead(
            pool=partial(pool_pyramid, strides=(stride,), size=tail.size),
            body=tail,
            channels=tail.channels,
            classes=classes,
            class_agnostic=class_agnostic,
            sampling=Sampling(count=samples, negative=(0.0, 0.5)),
        ),
        preprocess=Preprocess(short=short, long=long),
    )


def pool_pyramid(
    pyramid: Pyramid, boxes: Tensor, image_index: Tensor, strides: Sequence[int], size: int
) -> Tensor:
    """RoIAlign from the level that fits each box; the coarsest map is the RPN's alone."""
    return roi_align(pyramid[: len(strides)], boxes, image_index, strides, size)
