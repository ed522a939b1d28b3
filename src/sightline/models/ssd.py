"""SSD: Single Shot MultiBox Detector. Liu, Anguelov, Erhan, Szegedy, Reed, Fu, Berg, 2015.
https://arxiv.org/abs/1512.02325

One stage, on maps of many sizes: at every cell of each, from 38 x 38 cells down to a single one, a
3x3 convolution classifies and shifts K default boxes, small ones on fine maps, large ones on coarse
maps. No proposals and no pooling of regions: it was the first detector of its accuracy in real
time. Of the easy negatives training leaves out all but the worst three for each positive.

Letters: B pictures, F channels, K default boxes a cell, A a picture (A_l of a level), C classes, D
answers a picture.

Original / ours. Backbone: VGG16 / any network with maps of stride 8 and 16. fc6 and fc7: sampled
from VGG's / trained anew, as in torchvision. Scales: from 0.2 of the picture's side / from 0.07,
as the paper has them for COCO. Best match: one object after another / of objects that want the same
box, the one that overlaps it most gets it. Class and box loss are divided by the positive boxes of
all pictures of all processes together.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones import Backbone, create_backbone, levels_of
from sightline.errors import SightlineError
from sightline.ops import boxes as box_ops
from sightline.ops.anchors import anchor_grid
from sightline.ops.losses import IGNORED, hard_negatives, smooth_l1
from sightline.ops.match import NEGATIVE, NEUTRAL, best_of_each, match_boxes
from sightline.ops.suppress import EMPTY, Detections, Selection, finish, take, to_scenes, top
from sightline.preprocess import Preprocess
from sightline.shapes import Float, Int
from sightline.types import Images, Loss, Placement, Scene

SMALLEST = 64  # pixels a side of the input

RATIOS = (2.0, 3.0)


class Outputs(NamedTuple):
    """Per level, fine to coarse; the default boxes of a level cell by cell."""

    pyramid: list[Tensor]  # [B, F, rows, columns]
    logits: list[Tensor]  # [B, A_l, C + 1]
    deltas: list[Tensor]  # [B, A_l, 4]


class SSD(nn.Module):
    objects_from = 0.5  # IoU (section 2.2, "Matching strategy")
    negatives = 3  # for each positive (section 2.2, "Hard negative mining")
    weights = (10.0, 10.0, 5.0, 5.0)  # of the deltas: one over the deviations in the authors' code

    def __init__(
        self,
        backbone: Backbone,
        fine: nn.Module,
        coarse: nn.Module,
        extra: Sequence[nn.Module],
        class_head: "Head",
        box_head: "Head",
        cells: Sequence[Float[Tensor, "_ 4"]],
        strides: Sequence[float],
        preprocess: Preprocess,
        candidates: int = 400,
        selection: Selection = Selection(score=0.01, iou=0.45, top=200),
    ) -> None:
        """``fine`` and ``coarse`` make the first two levels of the backbone's two maps, each of
        ``extra`` the next level of the one before. ``cells`` are the default boxes of a cell of
        each level, around the origin, ``strides`` the pixels from cell to cell."""
        super().__init__()
        self.backbone = backbone
        self.fine = fine
        self.coarse = coarse
        self.extra = nn.ModuleList(extra)
        self.class_head = class_head
        self.box_head = box_head
        self.strides = tuple(strides)
        self.candidates = candidates  # the best so many of each class enter the suppression
        self.preprocess = preprocess
        self.selection = selection
        self.needs: frozenset[str] = frozenset()
        for level, cell in enumerate(cells):
            self.register_buffer(f"cell{level}", cell, persistent=False)

    def forward(self, images: Images, targets: list[Scene] | None = None) -> Any:
        outputs = self.outputs(images)
        if targets is None:
            return self.select(outputs, images)
        return self.losses(outputs, images, targets)

    def outputs(self, images: Images) -> Outputs:
        fine, coarse = self.backbone(images.pixels)
        pyramid = [self.fine(fine), self.coarse(coarse)]
        for layers in self.extra:
            pyramid.append(layers(pyramid[-1]))
        return Outputs(pyramid, self.class_head(pyramid), self.box_head(pyramid))

    def default_boxes(
        self, pyramid: Sequence[Float[Tensor, "B _ _ _"]]
    ) -> list[Float[Tensor, "_ 4"]]:
        """Of each level, in pixels, around the middle of every cell (section 2.2, "Choosing
        scales")."""
        grids = []
        for level, (features, stride) in enumerate(zip(pyramid, self.strides, strict=True)):
            rows, columns = features.shape[-2:]
            cell = self.get_buffer(f"cell{level}")
            grids.append(anchor_grid(cell, (rows, columns), (stride, stride), offset=0.5))
        return grids

    def losses(self, outputs: Outputs, images: Images, targets: list[Scene]) -> dict[str, Loss]:
        """Equations 1 to 3: the log loss of the positive boxes and of the hardest negative ones,
        and smooth L1 of the shift of the positive ones, divided by the number of these."""
        boxes = torch.cat(self.default_boxes(outputs.pyramid))
        logits, deltas = torch.cat(outputs.logits, dim=1), torch.cat(outputs.deltas, dim=1)
        background = logits.shape[-1] - 1
        labels, shifts = [], []
        for delta, scene in zip(deltas, targets, strict=True):
            matches = self.match(boxes, scene)
            positive = (matches >= 0).nonzero().flatten()
            mine = scene.things[matches[positive]]
            labels.append(torch.where(matches == NEUTRAL, IGNORED, background))
            labels[-1][positive] = mine.labels
            goals = box_ops.encode(mine.boxes, boxes[positive], self.weights)
            shifts.append(smooth_l1(delta[positive], goals).sum())
        label = torch.stack(labels)
        count = ((label != IGNORED) & (label != background)).sum().float()
        return {
            "class": Loss(self.class_loss(logits, label), count),
            "box": Loss(torch.stack(shifts).sum(), count),
        }

    def match(self, boxes: Float[Tensor, "A 4"], scene: Scene) -> Int[Tensor, " A"]:
        """Each box goes to the object it overlaps most, from an IoU of 0.5; but before that each
        object takes the box that overlaps it most. A negative that an ignored thing would have
        taken is neutral."""
        things = scene.things
        matches = match_boxes(
            boxes,
            things.boxes,
            things.ignore,
            (0.0, self.objects_from),
            self.objects_from,
            visible=box_ops.clip(boxes, torch.tensor(scene.size, device=boxes.device)),
        )
        lost = best_of_each(box_ops.iou(things.boxes[things.ignore], boxes)) >= 0
        matches[lost & (matches == NEGATIVE)] = NEUTRAL
        rows = (~things.ignore).nonzero().flatten()
        best = best_of_each(box_ops.iou(things.boxes[rows], boxes))
        taken = (best >= 0).nonzero().flatten()
        matches[taken] = rows[best[taken]]
        return matches

    def class_loss(
        self, logits: Float[Tensor, "B A S"], labels: Int[Tensor, "B A"]
    ) -> Float[Tensor, ""]:
        """Equation 3, and section 2.2, "Hard negative mining": of the negative boxes of a picture
        those with the highest loss, three for each positive one."""
        background = logits.shape[-1] - 1
        each = F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
        ).view_as(labels)
        negative = labels == background
        positive = (labels != IGNORED) & ~negative
        hard = hard_negatives(each.detach(), negative, self.negatives * positive.sum(dim=1))
        return torch.where(positive | hard, each, 0).sum()

    def select(self, outputs: Outputs, images: Images) -> Detections:
        """Section 3.7: of each class the best boxes above a threshold, suppression, and the best of
        all classes."""
        logits, deltas = torch.cat(outputs.logits, dim=1), torch.cat(outputs.deltas, dim=1)
        scores = F.softmax(logits, dim=-1)[..., :-1].transpose(1, 2)
        eligible = torch.where(scores > self.selection.score, scores, EMPTY)
        batch, classes = eligible.shape[:2]
        best, row = top(eligible.flatten(0, 1), self.candidates)
        score, pair = top(best.reshape(batch, -1), self.selection.candidates)
        row, label = take(row.reshape(batch, -1), pair), pair // self.candidates
        defaults = torch.cat(self.default_boxes(outputs.pyramid))
        boxes = box_ops.decode(take(deltas, row), defaults[row], self.weights)
        return finish(box_ops.clip(boxes, images.sizes), score, label, classes, self.selection)

    def describe(self, selected: Detections, placements: Sequence[Placement]) -> list[Scene]:
        return to_scenes(selected, placements)


class L2Norm(nn.Module):
    """Section 3.1: conv4_3 has other magnitudes than what follows, so each cell's features are
    brought to a length that is learnt channel by channel."""

    def __init__(self, channels: int, scale: float = 20.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, features: Float[Tensor, "B F H W"]) -> Float[Tensor, "B F H W"]:
        return self.weight[:, None, None] * F.normalize(features)


class Head(nn.Module):
    """Section 2.1, "Convolutional predictors": on each level a convolution of its own, ``values``
    numbers for each default box."""

    def __init__(self, convs: Sequence[nn.Module], values: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)
        self.values = values

    def forward(self, pyramid: list[Float[Tensor, "B _ _ _"]]) -> list[Float[Tensor, "B _ V"]]:
        maps = [conv(features) for conv, features in zip(self.convs, pyramid, strict=True)]
        return [m.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, self.values)) for m in maps]


def cell_boxes(
    scale: float, following: float, ratios: Sequence[float], side: int
) -> Float[Tensor, "K 4"]:
    """The default boxes of a cell, around the origin, for pictures of ``side`` pixels a side
    (section 2.2, below equation 4): a square of this scale, one between it and the ``following``
    level's, and for each ratio a broad and a high one; no side is longer than the picture's."""
    sides = [(scale, scale), (math.sqrt(scale * following),) * 2]
    for stretch in map(math.sqrt, ratios):
        sides += [(scale * stretch, scale / stretch), (scale / stretch, scale * stretch)]
    half = torch.tensor(sides).clamp(max=1) * side / 2
    return torch.cat([-half, half], dim=1)


def default_cells(
    levels: int, side: int, scales: Sequence[float] | None
) -> list[Float[Tensor, "_ 4"]]:
    """Of each level. The first and the last two have the ratio 2 alone (section 3.1).

    Left out, ``scales`` are equation 4 as the authors count it, in whole percents: 7 for the first
    level, evenly from 15 to at most 90 for the others, one step beyond for the last larger square.

    Raises:
        SightlineError: not one scale for each level and one beyond.
    """
    if scales is None:
        step = (90 - 15) // (levels - 2)
        scales = [0.07, *((15 + step * level) / 100 for level in range(levels))]
    if len(scales) != levels + 1:
        raise SightlineError(
            f"at {side} pixels SSD has {levels} levels: it needs {levels + 1} scales, "
            f"not {len(scales)}"
        )
    few = (0, levels - 2, levels - 1)
    return [
        cell_boxes(scales[level], scales[level + 1], RATIOS[: 1 if level in few else 2], side)
        for level in range(levels)
    ]


def shrinking(cells: int) -> tuple[int, int, int]:
    """Kernel, stride and padding of the convolution behind a map of so many cells a side, until one
    is left: 19, 10, 5, 3, 1 in SSD300 and 32, 16, 8, 4, 2, 1 in SSD512 (figure 2)."""
    if cells == 2:
        return 4, 1, 1
    return (3, 1, 0) if cells in (3, 5) else (3, 2, 1)


class Extra(NamedTuple):
    """One of the levels behind the backbone, and the convolution that makes it."""

    kernel: int
    step: int
    padding: int
    stride: float  # pixels from cell to cell


def extra_levels(side: int) -> list[Extra]:
    """Those for pictures of ``side`` pixels a side. Where a convolution does not halve the map, the
    cells are spread evenly over the picture."""
    cells, stride, levels = math.ceil(side / 16), 16.0, []
    while cells > 1:
        kernel, step, padding = shrinking(cells)
        cells = (cells + 2 * padding - kernel) // step + 1
        stride = 2 * stride if step == 2 else side / cells
        levels.append(Extra(kernel, step, padding, stride))
    return levels


def fully_convolutional(inputs: int, channels: int) -> nn.Sequential:
    """pool5, fc6 and fc7 of VGG as convolutions that see as far as they did (section 3, "Base
    network")."""
    return nn.Sequential(
        nn.MaxPool2d(3, stride=1, padding=1),
        nn.Conv2d(inputs, channels, 3, padding=6, dilation=6),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 1),
        nn.ReLU(),
    )


def extra_layers(inputs: int, channels: int, level: Extra) -> nn.Sequential:
    """To half the channels and on to the next level (figure 2, conv8 to conv11)."""
    return nn.Sequential(
        nn.Conv2d(inputs, channels // 2, 1),
        nn.ReLU(),
        nn.Conv2d(channels // 2, channels, level.kernel, level.step, level.padding),
        nn.ReLU(),
    )


def head(inputs: Sequence[int], cells: Sequence[Float[Tensor, "_ 4"]], values: int) -> Head:
    levels = zip(inputs, cells, strict=True)
    convs = [nn.Conv2d(i, len(cell) * values, 3, padding=1) for i, cell in levels]
    return Head(convs, values)


def ssd(
    classes: int,
    backbone: str = "vgg16",
    pretrained: bool = False,
    freeze_norm: bool = False,
    side: int = 300,
    channels: int = 1024,
    scales: Sequence[float] | None = None,
) -> SSD:
    """For pictures brought to ``side`` x ``side`` pixels: 300 and 512 are the paper's. ``channels``
    is the number in fc6 and fc7; the first extra level has a half of it, the others a quarter.
    ``scales`` of the default boxes are shares of the picture's side, one for each level and one
    beyond; left out, see ``default_cells``. ``freeze_norm`` keeps BatchNorm as loaded."""
    if side < SMALLEST:
        raise SightlineError(f"SSD needs pictures of {SMALLEST} pixels a side or more, not {side}")
    body = create_backbone(
        backbone, pretrained, levels=levels_of(backbone, (8, 16)), frozen_norm=freeze_norm
    )
    for module in body.modules():
        if isinstance(module, nn.MaxPool2d | nn.AvgPool2d) and module.padding == 0:
            module.ceil_mode = True  # 75 pixels make 38 cells
    extra = extra_levels(side)
    widths = [channels, channels // 2, *[channels // 4] * (len(extra) - 1)]
    inputs = [body.channels[0], *widths]
    cells = default_cells(len(inputs), side, scales)
    model = SSD(
        backbone=body,
        fine=L2Norm(body.channels[0]),
        coarse=fully_convolutional(body.channels[1], channels),
        extra=[
            extra_layers(before, after, level)
            for before, after, level in zip(widths[:-1], widths[1:], extra, strict=True)
        ],
        class_head=head(inputs, cells, classes + 1),
        box_head=head(inputs, cells, 4),
        cells=cells,
        strides=[8.0, 16.0, *(level.stride for level in extra)],
        preprocess=Preprocess(fixed=(side, side), multiple=1),
    )
    for part in (model.coarse, model.extra, model.class_head, model.box_head):
        for conv in part.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.xavier_uniform_(conv.weight)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
    return model
