"""What each family of detectors predicts on the way, in torchvision's model and in ours.

An entry of ``FAMILIES``, by the name of the builder in ``sightline.models.MODELS``, lets the parity
benchmark and the tests go over the family's releases. For a one-stage family it is ``one_stage``
with:

- ``fields``: what our ``Outputs`` call the lists of dense predictions, [B, A_l, ...] of each level,
  and what torchvision's head calls the same, all levels together;
- ``last``: torchvision's last layers, with the mean and spread to be fitted to their outputs, so
  that at least 20 detections a photo come out, neither faint nor saturated;
- ``candidates``: scores [B, A_l, C] and boxes [B, A_l, 4] of each level from a model, its outputs
  and the images; asked twice, once with torchvision's numbers in the place of ours, to show which
  choices come out differently.

The rows of classes are put in our order (``[*ids, background]``) before that.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.near_ties import dense_flips, final_flips, proposal_flips
from sightline.models.fcos import boxes_at
from sightline.ops import boxes as box_ops
from sightline.ops.boxes import image_index
from sightline.ops.suppress import EMPTY
from sightline.types import Images

Last = Mapping[str, tuple[float, float]]
Level = tuple[Tensor, Tensor]  # scores [B, A_l, C], boxes [B, A_l, 4]
Candidates = Callable[[Any, Any, Images], Sequence[Level]]


class Look(NamedTuple):
    """What both libraries predicted on the way, on one batch."""

    parts: dict[str, tuple[Tensor, Tensor]]  # by name: torchvision's and ours
    flips: Callable[[int], list[str]]  # which choices differ, for one picture of the batch


class Family(NamedTuple):
    stages: Sequence[Last]  # the layers to be fitted, those of a stage after those before it
    watched: Sequence[str]  # modules of torchvision's whose outputs are looked at
    look: Callable[[Any, Any, Images, Mapping[str, Any]], Look]


def one_stage(fields: Mapping[str, str], last: Last, candidates: Candidates) -> Family:
    return Family(
        stages=[last],
        watched=["head"],
        look=partial(look_once, fields=fields, candidates=candidates),
    )


def look_once(
    ours: Any,
    outputs: Any,
    images: Images,
    seen: Mapping[str, Any],
    fields: Mapping[str, str],
    candidates: Candidates,
) -> Look:
    here = {field: getattr(outputs, field) for field in fields}
    there = {
        field: as_levels(seen["head"][name], here[field], [*ours.card.classes.ids, 0])
        for field, name in fields.items()
    }

    def flips(number: int) -> list[str]:
        both = [candidates(ours, o, images) for o in (outputs._replace(**there), outputs)]
        levels = [
            (torch.stack([s[0][number], s[1][number]]), torch.stack([b[0][number], b[1][number]]))
            for s, b in (zip(*level, strict=True) for level in zip(*both, strict=True))
        ]
        return dense_flips(levels, ours.selection, ours.candidates)

    return Look({f: (torch.cat(there[f], 1), torch.cat(here[f], 1)) for f in fields}, flips)


def as_levels(theirs: Tensor, like: list[Tensor], rows: list[int]) -> list[Tensor]:
    """torchvision's predictions of all levels as a list in the form of ours; where they are a
    number for each of its classes, these in our order."""
    if theirs.shape[-1] == max(rows) + 1:
        theirs = theirs[..., rows[: like[0].shape[-1]]]
    levels = theirs.split([level.shape[1] for level in like], dim=1)
    return [level.reshape_as(own) for level, own in zip(levels, like, strict=True)]


def look_twice(ours: Any, outputs: Any, images: Images, seen: Mapping[str, Any]) -> Look:
    """Two stages: the region proposal network, and the box head on torchvision's proposals."""
    objectness, deltas = seen["rpn.head"]
    dense = (
        [by_anchor(level, 1)[..., 0] for level in objectness],
        [by_anchor(level, 4) for level in deltas],
    )
    proposals, rows = seen["rpn"][0], [*ours.card.classes.ids, 0]
    where = image_index(proposals)
    box = ours.box_head.outputs(outputs.pyramid, torch.cat(proposals), where)
    scored, shifted = seen["roi_heads.box_predictor"]
    logits = torch.stack([scored[:, rows], box.logits])
    shifts = torch.stack([shifted.unflatten(1, (-1, 4))[:, rows[:-1]], box.deltas])

    def flips(number: int) -> list[str]:
        mine, size = where == number, images.sizes[number]
        return [
            *proposal_flips(ours.rpn, outputs, images, dense, number),
            *final_flips(proposals[number], size, ours.selection, logits[:, mine], shifts[:, mine]),
        ]

    parts = {
        "RPN logits": (torch.cat(dense[0], 1), torch.cat(outputs.objectness, 1)),
        "RPN deltas": (torch.cat(dense[1], 1), torch.cat(outputs.deltas, 1)),
        "box logits": (logits[0], logits[1]),
        "box deltas": (shifts[0], shifts[1]),
    }
    return Look(parts, flips)


def by_anchor(maps: Tensor, values: int) -> Tensor:
    """torchvision's map [B, K * values, H, W] as [B, A, values]."""
    return maps.unflatten(1, (-1, values)).permute(0, 3, 4, 1, 2).flatten(1, 3)


def retinanet_candidates(model: Any, outputs: Any, images: Images) -> list[Level]:
    levels = zip(model.anchors(outputs, images), outputs.logits, outputs.deltas, strict=True)
    return [
        (model.likeness(logits), box_ops.clip(box_ops.decode(deltas, grid), images.sizes))
        for grid, logits, deltas in levels
    ]


def fcos_candidates(model: Any, outputs: Any, images: Images) -> list[Level]:
    levels = zip(model.level_places(outputs, images), model.strides, *outputs[1:], strict=True)
    return [
        (
            model.likeness(logits, centreness),
            box_ops.clip(boxes_at(grid, distances * stride), images.sizes),
        )
        for grid, stride, logits, distances, centreness in levels
    ]


def ssd_candidates(model: Any, outputs: Any, images: Images) -> list[Level]:
    """The best of each class enter the suppression, of all levels: a class is a level here."""
    scores = torch.cat(outputs.logits, 1).softmax(-1)[..., :-1]
    defaults = torch.cat(model.default_boxes(outputs.pyramid))
    boxes = box_ops.decode(torch.cat(outputs.deltas, 1), defaults, model.weights)
    boxes = box_ops.clip(boxes, images.sizes)
    alone = torch.eye(scores.shape[-1], dtype=torch.bool)
    return [(torch.where(only, scores, EMPTY), boxes) for only in alone]


def ssd_family(layer: str) -> Family:
    """``layer``: where the last one of a level is in torchvision's list."""
    head, levels = "head.{}_head.module_list.{}" + layer, range(6)
    classes = {head.format("classification", level): (0.0, 2.0) for level in levels}
    return one_stage(
        fields={"logits": "cls_logits", "deltas": "bbox_regression"},
        last=classes | {head.format("regression", level): (0.0, 0.5) for level in levels},
        candidates=ssd_candidates,
    )


TWO_STAGES = Family(
    stages=[
        {"rpn.head.cls_logits": (-1.0, 2.0), "rpn.head.bbox_pred": (0.0, 0.3)},
        # A score moves by up to a quarter of what its logit does: with largest logits of 40 the
        # 1e-5 of float32 would be 1e-4.
        {
            "roi_heads.box_predictor.cls_score": (0.0, 2.0),
            "roi_heads.box_predictor.bbox_pred": (0.0, 0.5),
        },
    ],
    watched=["rpn.head", "rpn", "roi_heads.box_predictor"],
    look=look_twice,
)

FAMILIES: dict[str, Family] = {
    "faster_rcnn": TWO_STAGES,
    "faster_rcnn_v2": TWO_STAGES,
    "retinanet": one_stage(
        fields={"logits": "cls_logits", "deltas": "bbox_regression"},
        last={
            "head.classification_head.cls_logits": (-7.0, 1.1),
            "head.regression_head.bbox_reg": (0.0, 0.3),
        },
        candidates=retinanet_candidates,
    ),
    "fcos": one_stage(
        fields={
            "logits": "cls_logits",
            "distances": "bbox_regression",
            "centreness": "bbox_ctrness",
        },
        last={
            "head.classification_head.cls_logits": (-7.0, 1.8),
            "head.regression_head.bbox_reg": (2.0, 0.5),
            "head.regression_head.bbox_ctrness": (0.0, 1.0),
        },
        candidates=fcos_candidates,
    ),
    "ssd": ssd_family(""),
    "ssdlite": ssd_family(".1"),
}

# The layers whose outputs a random twin spreads as a trained model's, by the same names.
STAGES: dict[str, Sequence[Last]] = {
    **{name: family.stages for name, family in FAMILIES.items()},
    "fcn": [{"classifier.4": (0.0, 2.0), "aux_classifier.4": (0.0, 2.0)}],
}
