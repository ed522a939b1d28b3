"""FCOS: Fully Convolutional One-Stage Object Detection. Tian, Shen, Chen, He, 2019.
https://arxiv.org/abs/1904.01355

No anchors: at every cell of a pyramid, the point in its middle says what it lies in and how far the
four sides of that thing's box are. Small things are learnt on fine levels, large ones on coarse
levels, so that few points lie in two boxes of one level. A third output, centreness, turns the
scores down of points at a thing's rim, whose boxes are poor.

Letters: B pictures, F channels, P points a picture (P_l of level l), M of them positive, N things
of a picture, C classes, D answers a picture.

Original / ours. Positive points: all in a box / those within 1.5 strides of its middle, as the
authors found later (https://arxiv.org/abs/2006.09214), or all (``radius`` 0). Centreness: beside
the classes / beside the distances, as found later too. Distances: exp(s_l x) pixels, s_l learnt for
each level / relu(x) strides, as found later, or exp(s_l x) strides (``distances``). Losses of the
boxes: IoU / GIoU, or the squared error of the distances that lectures take. Score: class times
centreness, of pairs whose class scores above 0.05 / whose product does, or its root (``score``).
Points: the middle of a cell / the same, or its corner as torchvision lays them. Losses are divided
by the positive points of all pictures of all processes together.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones import create_backbone
from sightline.errors import SightlineError
from sightline.layers.fpn import FPN
from sightline.ops import boxes as box_ops
from sightline.ops.anchors import level_points
from sightline.ops.losses import sigmoid_focal
from sightline.ops.match import NEGATIVE, NEUTRAL
from sightline.ops.suppress import EMPTY, Detections, Selection, finish, take, to_scenes, top_pairs
from sightline.preprocess import Preprocess
from sightline.shapes import Bool, Float, Int
from sightline.types import Images, Loss, Placement, Scene

Distances = Literal["relu", "exp"]
Score = Literal["product", "root"]
BoxLoss = Literal["giou", "l2"]


class Outputs(NamedTuple):
    """Per level, fine to coarse; the points of a level row by row."""

    pyramid: list[Tensor]  # [B, F, H / stride, W / stride]
    logits: list[Tensor]  # [B, P_l, C]
    distances: list[Tensor]  # [B, P_l, 4], to left, top, right, bottom, in strides
    centreness: list[Tensor]  # logits [B, P_l]


class Points(NamedTuple):
    """The points of all levels, and what their level makes of each."""

    places: Float[Tensor, "P 2"]  # x, y
    strides: Float[Tensor, " P"]
    ranges: Float[Tensor, "P 2"]  # of the longest distance that it answers for


class FCOS(nn.Module):
    alpha, gamma = 0.25, 2.0  # of the focal loss (RetinaNet, section 4.1)

    def __init__(
        self,
        backbone: nn.Module,
        fpn: nn.Module,
        class_head: "Head",
        box_head: "Head",
        strides: Sequence[int],
        even_points: bool = False,
        radius: float = 1.5,
        distances: Distances = "relu",
        score: Score = "product",
        box_loss: BoxLoss = "giou",
        candidates: int = 1000,
        preprocess: Preprocess = Preprocess(short=800, long=1333),
        selection: Selection = Selection(score=0.05, iou=0.6),
    ) -> None:
        """``strides`` of the levels. With ``even_points`` the points of a level are the upper left
        corners of its cells, spread evenly over the padded picture, as torchvision spreads them.
        ``radius`` in strides."""
        super().__init__()
        for given, known in ((distances, Distances), (score, Score), (box_loss, BoxLoss)):
            if given not in get_args(known):
                raise SightlineError(f"{given!r} is none of {', '.join(get_args(known))}")
        self.backbone = backbone
        self.fpn = fpn
        self.class_head = class_head
        self.box_head = box_head
        self.strides = strides
        self.even_points = even_points
        self.radius = radius
        self.scales = nn.Parameter(torch.ones(len(strides))) if distances == "exp" else None
        self.score = score
        self.box_loss = box_loss
        self.candidates = candidates  # the best so many of each level enter the suppression
        self.preprocess = preprocess
        self.selection = selection
        self.needs: frozenset[str] = frozenset()

    def forward(self, images: Images, targets: list[Scene] | None = None) -> Any:
        outputs = self.outputs(images)
        if targets is None:
            return self.select(outputs, images)
        return self.losses(outputs, images, targets)

    def outputs(self, images: Images) -> Outputs:
        pyramid = self.fpn(self.backbone(images.pixels)[-3:])  # C3 to C5
        logits, distances, centreness = [], [], []
        for level, features in enumerate(pyramid):
            logits += self.class_head(features)
            raw, middle = self.box_head(features)
            distances.append(self.read_distances(raw, level))
            centreness.append(middle[..., 0])
        return Outputs(pyramid, logits, distances, centreness)

    def read_distances(self, raw: Float[Tensor, "B P_l 4"], level: int) -> Tensor:
        """Section 3.2, end: in strides, by the scale of the level where there are such."""
        if self.scales is None:
            return F.relu(raw)
        return torch.exp((self.scales[level] * raw).clamp(max=box_ops.MAX_LOG_SCALE))

    def level_places(self, outputs: Outputs, images: Images) -> list[Float[Tensor, "_ 2"]]:
        if self.even_points:
            return level_points(outputs.pyramid, images.pixels, None, offset=0.0)
        return level_points(outputs.pyramid, images.pixels, self.strides)

    def points(self, outputs: Outputs, images: Images) -> Points:
        places = self.level_places(outputs, images)
        each = torch.tensor([len(grid) for grid in places], device=images.pixels.device)
        strides = each.new_tensor(self.strides, dtype=torch.float32)
        ranges = each.new_tensor(level_ranges(self.strides), dtype=torch.float32)
        return Points(
            torch.cat(places), strides.repeat_interleave(each), ranges.repeat_interleave(each, 0)
        )

    def losses(self, outputs: Outputs, images: Images, targets: list[Scene]) -> dict[str, Loss]:
        """Equation 2, and the centreness of the positive points; all divided by their number."""
        points = self.points(outputs, images)
        logits, distances, centreness = (torch.cat(levels, dim=1) for levels in outputs[1:])
        matches = torch.stack([self.match(points, scene) for scene in targets])
        image, point = (matches >= 0).nonzero(as_tuple=True)
        mine = [s.things[m[m >= 0]] for s, m in zip(targets, matches, strict=True)]
        boxes = torch.cat([things.boxes for things in mine])
        labels = torch.cat([things.labels for things in mine])

        hot = torch.zeros_like(logits)
        hot[image, point, labels] = 1
        focal = sigmoid_focal(logits, hot, self.alpha, self.gamma).sum(dim=2)
        goal = distances_to(boxes, points.places[point]) / points.strides[point, None]
        middle = F.binary_cross_entropy_with_logits(
            centreness[image, point].float(), centreness_of(goal), reduction="sum"
        )
        count = logits.new_tensor(len(point), dtype=torch.float32)
        return {
            "class": Loss(focal[matches != NEUTRAL].sum(), count),
            "box": Loss(self.distance_loss(distances[image, point], goal), count),
            "centreness": Loss(middle, count),
        }

    def match(self, points: Points, scene: Scene) -> Int[Tensor, " P"]:
        things = scene.things
        matches = match_points(points, things.boxes, things.ignore, self.radius)
        size = torch.tensor(scene.size, device=matches.device)
        seen = torch.minimum(points.places, size.flip(0))  # the padding is as the picture's rim
        ignored = inside(seen, things.boxes[things.ignore])
        return torch.where((matches == NEGATIVE) & ignored, NEUTRAL, matches)

    def distance_loss(
        self, distances: Float[Tensor, "M 4"], goals: Float[Tensor, "M 4"]
    ) -> Float[Tensor, ""]:
        """Of boxes as seen from their points, in strides: an IoU has no unit."""
        if self.box_loss == "l2":
            return (distances - goals).square().sum()
        origin = goals.new_zeros(len(goals), 1, 2)
        found, true = boxes_at(origin, distances[:, None]), boxes_at(origin, goals[:, None])
        return (1 - box_ops.giou(found, true)).sum()

    def select(self, outputs: Outputs, images: Images) -> Detections:
        """Figure 2 from right to left: the best of each level above a threshold, as boxes;
        suppression over all levels together."""
        boxes, scores, labels = [], [], []
        places = self.level_places(outputs, images)
        levels = zip(places, self.strides, *outputs[1:], strict=True)
        for grid, stride, logits, distances, centreness in levels:
            likeness = self.likeness(logits, centreness)
            eligible = torch.where(likeness > self.selection.score, likeness, EMPTY)
            score, point, label = top_pairs(eligible, self.candidates)
            boxes.append(boxes_at(grid[point], take(distances, point) * stride))
            scores.append(score)
            labels.append(label)
        inside_picture = box_ops.clip(torch.cat(boxes, dim=1), images.sizes)
        score, label = torch.cat(scores, dim=1), torch.cat(labels, dim=1)
        return finish(inside_picture, score, label, likeness.shape[-1], self.selection)

    def likeness(
        self, logits: Float[Tensor, "B P_l C"], centreness: Float[Tensor, "B P_l"]
    ) -> Float[Tensor, "B P_l C"]:
        """Section 3.3: the class score times centreness, or the root of it: the same order, on the
        scale of the two."""
        product = logits.sigmoid() * centreness.sigmoid()[..., None]
        return product.sqrt() if self.score == "root" else product

    def describe(self, selected: Detections, placements: Sequence[Placement]) -> list[Scene]:
        return to_scenes(selected, placements)


class Head(nn.Module):
    """Figure 2: a tower of convolutions that all levels share, and behind it one convolution for
    each kind of output, which has so many ``values`` a point."""

    def __init__(self, channels: int, values: Sequence[int], convs: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(convs):
            conv = nn.Conv2d(channels, channels, 3, padding=1)
            layers += [conv, nn.GroupNorm(32, channels), nn.ReLU()]
        self.tower = nn.Sequential(*layers)
        self.last = nn.ModuleList(nn.Conv2d(channels, v, 3, padding=1) for v in values)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, features: Float[Tensor, "B F H W"]) -> list[Float[Tensor, "B P_l _"]]:
        features = self.tower(features)
        return [last(features).permute(0, 2, 3, 1).flatten(1, 2) for last in self.last]


def level_ranges(strides: Sequence[int]) -> list[tuple[float, float]]:
    """Section 3.2: level l answers for things whose farthest side is m_{l-1} to m_l pixels away, m
    being 0, 64, 128, 256, 512 and infinity for P3 to P7: eight strides of each level."""
    ends = [0.0, *(8.0 * stride for stride in strides[:-1]), math.inf]
    return list(pairwise(ends))


def distances_to(boxes: Float[Tensor, "*#N 4"], points: Float[Tensor, "*#N 2"]) -> Tensor:
    """Equation 1: from each point to the left, top, right and bottom of its box [*N, 4]; negative
    where it lies beyond that side."""
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)


def boxes_at(points: Float[Tensor, "*#N 2"], distances: Float[Tensor, "*#N 4"]) -> Tensor:
    """The inverse of ``distances_to``."""
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)


def centreness_of(distances: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N"]:
    """Equation 3: 1 in the middle of the box, 0 at its sides; for points within."""
    near = torch.minimum(distances[..., :2], distances[..., 2:])
    far = torch.maximum(distances[..., :2], distances[..., 2:])
    return (near / far).prod(dim=-1).sqrt()


def inside(points: Float[Tensor, "P 2"], boxes: Float[Tensor, "N 4"]) -> Bool[Tensor, " P"]:
    """Which points lie in any of the boxes, or on its sides."""
    return (distances_to(boxes[None], points[:, None]) >= 0).all(dim=2).any(dim=1)


def match_points(
    points: Points,
    objects: Float[Tensor, "N 4"],
    ignore: Bool[Tensor, " N"],
    radius: float,
) -> Int[Tensor, " P"]:
    """Section 3.2: a point answers for the box it lies in, and near whose middle (``radius``
    strides to either side; 0: anywhere in it), if its farthest side is in the level's range; of
    several for the smallest, of several that small for the first. The row of its box, or NEGATIVE;
    no point answers for an ignored one."""
    if len(objects) == 0:
        return torch.full_like(points.strides, NEGATIVE, dtype=torch.long)
    distances = distances_to(objects[None], points.places[:, None])
    longest = distances.amax(dim=2)
    low, high = points.ranges[:, None].unbind(-1)
    fits = (distances.amin(dim=2) > 0) & (longest >= low) & (longest <= high) & ~ignore
    if radius > 0:
        middle = (objects[:, :2] + objects[:, 2:]) / 2
        off = (points.places[:, None] - middle).abs().amax(dim=2)
        fits &= off < radius * points.strides[:, None]
    smallest, row = torch.where(fits, box_ops.area(objects), math.inf).min(dim=1)
    return torch.where(smallest < math.inf, row, NEGATIVE)


def fcos(
    classes: int,
    backbone: str = "resnet50",
    pretrained: bool = False,
    freeze_norm: bool = False,
    norm_eps: float | None = None,
    even_points: bool = False,
    radius: float = 1.5,
    distances: Distances = "relu",
    score: Score = "product",
    threshold: float = 0.05,
    box_loss: BoxLoss = "giou",
    channels: int = 256,
    convs: int = 4,
    candidates: int = 1000,
    top: int = 100,
    short: int = 800,
    long: int = 1333,
) -> FCOS:
    """A pyramid P3 to P7, P6 from P5, over any backbone. ``even_points`` lays the points as
    torchvision does. Positive are the points within ``radius`` strides of a box's middle; 0: all in
    the box. ``distances`` "exp" has a learnt scale for each level. ``candidates`` of each level
    that ``score`` above the ``threshold`` enter the suppression, and ``top`` answers come out.
    ``channels`` are a multiple of 32, 64 at least. ``freeze_norm`` and ``norm_eps`` as in
    ``faster_rcnn``."""
    body = create_backbone(
        backbone, pretrained, finest=8, frozen_norm=freeze_norm, norm_eps=norm_eps
    )
    fpn = FPN(body.channels[-3:], channels, extra="convs")
    class_head = Head(channels, [classes], convs)
    # RetinaNet, section 3.3: at first each class has probability 0.01 everywhere, else the loss of
    # the negatives blows training up.
    nn.init.constant_(class_head.get_parameter("last.0.bias"), -math.log(99))
    return FCOS(
        backbone=body,
        fpn=fpn,
        class_head=class_head,
        box_head=Head(channels, [4, 1], convs),
        strides=fpn.strides(body.strides[-3:]),
        even_points=even_points,
        radius=radius,
        distances=distances,
        score=score,
        box_loss=box_loss,
        candidates=candidates,
        preprocess=Preprocess(short=short, long=long),
        selection=Selection(score=threshold, iou=0.6, top=top),
    )
