"""Six small models that strain the contracts from sides that Faster R-CNN does not.

Each is at most forty lines, and each does one thing that some later family will do for real.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from sightline.models.faster_rcnn import FasterRCNN, faster_rcnn
from sightline.ops import boxes as box_ops
from sightline.ops.anchors import point_grid
from sightline.ops.boxes import slot_index
from sightline.ops.match import match_boxes
from sightline.ops.roi import roi_align
from sightline.ops.suppress import EMPTY, Detections, Selection, finish, to_scenes
from sightline.preprocess import Preprocess
from sightline.types import Images, Instances, Loss, Placement, Scene


def forward(self: Any, images: Images, targets: list[Scene] | None = None) -> Any:
    outputs = self.outputs(images)
    return (
        self.select(outputs, images) if targets is None else self.losses(outputs, images, targets)
    )


def mean_of(terms: Sequence[Tensor]) -> Loss:
    each = torch.cat([term.flatten() for term in terms])
    return Loss(each.sum(), torch.tensor(float(len(each))))


TINY: dict[str, Any] = {"backbone": "test_resnet", "samples": 64, "short": 96, "long": 128}
TINY |= {"channels": 64, "hidden": 128}


class Grid(nn.Module):
    """A fully connected grid on a fixed input size: a cell answers for the thing whose middle it
    holds."""

    needs: frozenset[str] = frozenset()
    forward = forward

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.preprocess = Preprocess(fixed=(64, 64))
        self.selection = Selection(score=0.3)
        conv, hidden = nn.Conv2d(3, 8, 8, stride=4, padding=2), nn.Linear(8 * 16 * 16, 64)
        answer = nn.Linear(64, 16 * (5 + classes))
        self.net = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), hidden, nn.ReLU(), answer)
        self.cells = point_grid((4, 4), (16, 16)).repeat(1, 2) + torch.tensor([-8.0, -8, 8, 8])

    def outputs(self, images: Images) -> Tensor:
        return self.net(images.pixels).unflatten(1, (16, -1))

    def losses(self, outputs: Tensor, images: Images, targets: list[Scene]) -> dict[str, Loss]:
        object_terms, box_terms, class_terms = [], [], []
        for cells, scene in zip(outputs, targets, strict=True):
            true = scene.things[~scene.things.ignore]
            crowds = scene.things.boxes[scene.things.ignore]
            counted = ~(box_ops.coverage(self.cells, crowds) > 0.5).any(dim=1)
            column, row = (box_ops.to_cxcywh(true.boxes)[:, :2] // 16).long().unbind(1)
            mine = row * 4 + column
            full = torch.zeros(16).index_fill(0, mine, 1.0)
            sums = F.binary_cross_entropy_with_logits(cells[:, 0], full, reduction="none")
            object_terms.append(sums[counted])
            box_terms.append((cells[mine, 1:5].sigmoid() - true.boxes / 64).abs())
            class_terms.append(F.cross_entropy(cells[mine, 5:], true.labels, reduction="none"))
        terms = {"object": object_terms, "box": box_terms, "class": class_terms}
        return {name: mean_of(values) for name, values in terms.items()}

    def select(self, outputs: Tensor, images: Images) -> Detections:
        best, labels = outputs[..., 5:].softmax(-1).max(-1)
        scores = outputs[..., 0].sigmoid() * best
        scores = torch.where(scores > self.selection.score, scores, EMPTY)
        boxes, classes = outputs[..., 1:5].sigmoid() * 64, outputs.shape[-1] - 5
        return finish(boxes, scores, labels, classes, self.selection)

    def describe(self, selected: Detections, placements: Sequence[Placement]) -> list[Scene]:
        return to_scenes(selected, placements)


class Queries(nn.Module):
    """Set prediction: queries look at every cell of the picture, and at none of the padding."""

    needs: frozenset[str] = frozenset()
    forward = forward

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.preprocess, self.classes = Preprocess(short=None, multiple=32), classes
        self.patches, self.place = nn.Conv2d(3, 32, 16, stride=16), nn.Linear(2, 32)
        self.queries = nn.Parameter(torch.randn(6, 32))
        self.decoder = nn.TransformerDecoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
        self.label, self.box = nn.Linear(32, classes + 1), nn.Linear(32, 4)

    def outputs(self, images: Images) -> tuple[Tensor, Tensor]:
        patches = self.patches(images.pixels)
        points = point_grid(tuple(patches.shape[-2:]), (16, 16), device=patches.device)
        sides = images.sizes.flip(1).to(points.dtype)
        padding = (points > sides[:, None]).any(dim=-1)
        memory = patches.flatten(2).mT + self.place(points / 64)
        queries = self.queries.expand(memory.shape[0], -1, -1)
        found = self.decoder(queries, memory, memory_key_padding_mask=padding)
        boxes = box_ops.from_cxcywh(self.box(found).sigmoid()) * sides.repeat(1, 2)[:, None]
        return self.label(found), boxes

    def losses(self, outputs: Any, images: Images, targets: list[Scene]) -> dict[str, Loss]:
        class_terms, box_terms = [], []
        for logits, boxes, scene in zip(*outputs, targets, strict=True):
            true, crowds = scene.things[~scene.things.ignore], scene.things[scene.things.ignore]
            distance = torch.cdist(boxes, true.boxes, p=1) / 100
            cost = distance - logits.softmax(-1)[:, true.labels]
            query, row = map(torch.as_tensor, linear_sum_assignment(cost.detach()))
            labels = torch.full((6,), self.classes).index_put((query,), true.labels[row])
            in_crowd = (box_ops.coverage(boxes, crowds.boxes) > 0.5).any(dim=1)
            counted = ~in_crowd | (labels < self.classes)
            class_terms.append(F.cross_entropy(logits, labels, reduction="none")[counted])
            box_terms.append((boxes[query] - true.boxes[row]).abs() / 16)
        return {"class": mean_of(class_terms), "box": mean_of(box_terms)}

    def select(self, outputs: Any, images: Images) -> Detections:
        scores, labels = outputs[0].softmax(-1)[..., :-1].max(-1)
        return Detections(outputs[1], scores, labels)

    def describe(self, selected: Detections, placements: Sequence[Placement]) -> list[Scene]:
        return to_scenes(selected, placements)


class Outside(nn.Module):
    """Names proposals brought from outside and leaves their boxes as they are."""

    needs: frozenset[str] = frozenset()
    forward = forward

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.preprocess, self.classes = Preprocess(short=None), classes
        self.selection = Selection(score=0.3, iou=0.1)
        self.features, self.score = nn.Conv2d(3, 16, 8, stride=8), nn.Linear(16 * 16, classes + 1)

    def outputs(self, images: Images) -> Tensor:
        return self.features(images.pixels)

    def names(self, features: Tensor, regions: Tensor) -> Tensor:
        boxes = regions.flatten(0, 1)
        pooled = roi_align([features], boxes, slot_index(regions), [8], 4)
        return self.score(pooled.flatten(1)).unflatten(0, regions.shape[:2])

    def losses(self, outputs: Tensor, images: Images, targets: list[Scene]) -> dict[str, Loss]:
        terms, regions = [], images.regions
        for logits, boxes, scene in zip(
            self.names(outputs, regions), regions, targets, strict=True
        ):
            things = scene.things
            matches = match_boxes(boxes, things.boxes, things.ignore, (0, 0.6), 0.9)
            counted = (matches > -2) & (box_ops.area(boxes) > 0)
            labels = torch.cat([things.labels, torch.tensor([self.classes])])[matches[counted]]
            terms.append(F.cross_entropy(logits[counted], labels, reduction="none"))
        return {"class": mean_of(terms)}

    def select(self, outputs: Tensor, images: Images) -> Detections:
        scores, labels = self.names(outputs, images.regions).softmax(-1)[..., :-1].max(-1)
        filled = (box_ops.area(images.regions) > 0) & (scores > self.selection.score)
        scores = torch.where(filled, scores, EMPTY)
        return finish(images.regions, scores, labels, self.classes, self.selection)

    def describe(self, selected: Detections, placements: Sequence[Placement]) -> list[Scene]:
        return to_scenes(selected, placements)


class LabelMap(nn.Module):
    """A label for every pixel: things, then stuff; 255 has no say."""

    needs = frozenset({"semantic"})
    forward = forward

    def __init__(self, classes: int, stuff: int) -> None:
        super().__init__()
        self.preprocess = Preprocess(short=None, multiple=8)
        self.down = nn.Conv2d(3, 16, 4, stride=4)
        self.score = nn.Conv2d(16, classes + stuff, 3, padding=1)

    def outputs(self, images: Images) -> Tensor:
        return self.score(F.relu(self.down(images.pixels)))

    def losses(self, outputs: Tensor, images: Images, targets: list[Scene]) -> dict[str, Loss]:
        true = torch.stack([scene.semantic for scene in targets]).long()
        logits = self.select(outputs, images)
        total = F.cross_entropy(logits, true, ignore_index=255, reduction="sum")
        return {"pixel": Loss(total, (true != 255).sum().float())}

    def select(self, outputs: Tensor, images: Images) -> Tensor:
        return F.interpolate(outputs, scale_factor=4.0, mode="bilinear")

    def describe(self, selected: Tensor, placements: Sequence[Placement]) -> list[Scene]:
        scenes = []
        for logits, place in zip(selected, placements, strict=True):
            inside = logits[None, :, : place.size[0], : place.size[1]]
            labels = F.interpolate(inside, size=place.original, mode="bilinear").argmax(1)[0]
            scenes.append(Scene(place.original, semantic=labels))
        return scenes


class Words(nn.Module):
    """A region head that says three words of a vocabulary of eight about each thing."""

    needs = frozenset({"words"})

    def __init__(self, channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.pool = partial(roi_align, strides=strides, size=4)
        self.say = nn.Linear(channels * 16, 3 * 8)

    def outputs(self, pyramid: list[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        pooled = self.pool(pyramid[: len(self.pool.keywords["strides"])], boxes, image_index)
        return self.say(pooled.flatten(1)).unflatten(1, (3, 8))

    def losses(self, outputs: Tensor, boxes: Tensor, objects: list[Instances]) -> dict[str, Loss]:
        true = torch.cat([part.extra["words"] for part in objects])
        return {"word": mean_of([F.cross_entropy(outputs.mT, true, reduction="none")])}

    def select(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs.argmax(-1)

    def describe(self, selected: Tensor, things: Instances, placement: Placement) -> Instances:
        things.extra["words"] = selected
        return things


class Width(nn.Module):
    """A head as a user would write it: how broad the thing is, in pixels of the original."""

    needs: frozenset[str] = frozenset()

    def __init__(self, channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.measure = nn.Linear(channels * 25, 1)
        self.stride = strides[0]

    def outputs(self, pyramid: list[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        pooled = roi_align(pyramid[:1], boxes, image_index, [self.stride], 5, reduce="max")
        return self.measure(pooled.flatten(1))

    def losses(self, outputs: Tensor, boxes: Tensor, objects: list[Instances]) -> dict[str, Loss]:
        true = torch.cat([part.boxes for part in objects])
        ratio = (true[:, 2] - true[:, 0]) / (boxes[:, 2] - boxes[:, 0])
        return {"log": mean_of([(outputs[:, 0] - ratio.log()).abs()])}

    def select(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs.exp()

    def describe(self, selected: Tensor, things: Instances, placement: Placement) -> Instances:
        things.extra["width"] = selected * (things.boxes[:, 2:3] - things.boxes[:, :1])
        return things


def with_heads(classes: int, words: bool = False, width: bool = False) -> FasterRCNN:
    strides = (4, 8, 16, 32)
    heads: dict[str, nn.Module] = {}
    if words:
        heads["words"] = Words(64, strides)
    if width:
        heads["width"] = Width(64, strides)
    return faster_rcnn(classes, heads=heads, proposals=50, **TINY)
