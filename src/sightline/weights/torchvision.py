"""torchvision's four Faster R-CNN checkpoints, trained on COCO 2017.

Source: ``torchvision.models.detection``, code under BSD-3-Clause; whether the weights carry terms
of the data set (COCO's annotations are CC BY 4.0) is for the user to judge. AP on val2017 as
published there: 37.0, 46.7 (v2), 32.8 and 22.8 (MobileNetV3-Large, and at 320 pixels).

Differences of form. Background is row 0 there, the last here. Rows are COCO's category ids 1..90
with eleven gaps ("N/A") there, the 80 categories here; what little probability a trained model
leaves in the gaps is shared out. BatchNorm divides by another eps in two of them (0 in the first
ResNet, 1e-5 in MobileNet): the factor is folded into its weight, so that the tensors serve any
model of ours. The file itself does not tell its eps: torchvision takes 0 for its own COCO weights
alone, so a frozen ResNet with COCO's 91 rows is read with 0 and one with other classes with 1e-5.
"""

import pickle
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.errors import SightlineError
from sightline.models import Card
from sightline.preprocess import Preprocess
from sightline.types import Classes
from sightline.weights.native import Weights


@dataclass(frozen=True)
class Release:
    """One published checkpoint, and the model of ours that it fills."""

    enum: str  # torchvision's name for the file
    ap: float  # published, COCO val2017, percent
    model: str
    options: Mapping[str, Any]
    short: int = 800
    long: int = 1333
    trained_eps: float = 1e-5  # of frozen BatchNorm in the backbone, there, with COCO's classes
    our_eps: float = 1e-5  # and here
    renames: tuple[tuple[str, str], ...] = field(default=())


_PREDICTOR, _KINDS = "roi_heads.box_predictor.", ("weight", "bias")
_ENDS = tuple(f"{layer}.{kind}" for layer in ("cls_score", "bbox_pred") for kind in _KINDS)
_COCO_ROWS = 91

# What the reading of a damaged pickle raises: its stack, its memory of values, its numbers.
_DAMAGED = (
    *(RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError),
    *(ArithmeticError, AssertionError, MemoryError, struct.error),
)

_SHARED = (
    (r"^backbone\.fpn\.inner_blocks\.(\d+)\.(weight|bias)$", r"fpn.lateral.\1.0.\2"),  # old files
    (r"^backbone\.fpn\.layer_blocks\.(\d+)\.(weight|bias)$", r"fpn.output.\1.0.\2"),
    (r"^backbone\.fpn\.inner_blocks\.", "fpn.lateral."),
    (r"^backbone\.fpn\.layer_blocks\.", "fpn.output."),
    (r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.convs.0.\1"),
    (r"^rpn\.head\.conv\.(\d+)\.0\.", r"rpn.convs.\1."),
    (r"^rpn\.head\.cls_logits\.", "rpn.objectness."),
    (r"^rpn\.head\.bbox_pred\.", "rpn.box_shift."),
    (r"^roi_heads\.box_predictor\.cls_score\.", "box_head.class_score."),
    (r"^roi_heads\.box_predictor\.bbox_pred\.", "box_head.box_shift."),
)
_FC = (r"^roi_heads\.box_head\.(fc[67])\.", r"box_head.body.\1.")
_CONVS = (r"^roi_heads\.box_head\.([0-3])\.([01])\.", r"box_head.body.convs.\1.\2.")
_MOBILE = (r"^backbone\.body\.(\d+)\.", r"backbone.body.features.\1.")
_MOBILE_OPTIONS = {
    "backbone": "tv_mobilenet_v3_large",
    "freeze_norm": True,
    "anchor_sizes": [[32, 64, 128, 256, 512]] * 3,
    "even_anchors": True,
    "rpn_score": 0.05,
}

RELEASES = {
    "fasterrcnn_resnet50_fpn": Release(
        enum="FasterRCNN_ResNet50_FPN_Weights.COCO_V1",
        ap=37.0,
        model="faster_rcnn",
        options={"backbone": "resnet50", "freeze_norm": True, "even_anchors": True},
        trained_eps=0.0,
        renames=(*_SHARED, _FC),
    ),
    "fasterrcnn_resnet50_fpn_v2": Release(
        enum="FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1",
        ap=46.7,
        model="faster_rcnn_v2",
        options={"backbone": "resnet50", "even_anchors": True},
        renames=(*_SHARED, _CONVS, (r"^roi_heads\.box_head\.5\.", "box_head.body.fc.")),
    ),
    "fasterrcnn_mobilenet_v3_large_fpn": Release(
        enum="FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1",
        ap=32.8,
        model="faster_rcnn",
        options=_MOBILE_OPTIONS,
        our_eps=1e-3,
        renames=(*_SHARED, _FC, _MOBILE),
    ),
    "fasterrcnn_mobilenet_v3_large_320_fpn": Release(
        enum="FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1",
        ap=22.8,
        model="faster_rcnn",
        options={**_MOBILE_OPTIONS, "candidates": 150, "proposals": 150},
        short=320,
        long=640,
        our_eps=1e-3,
        renames=(*_SHARED, _FC, _MOBILE),
    ),
}


def read_torchvision(path: Path, name: str | None = None) -> Weights:
    """A checkpoint of one of the four models, published or a user's own with other classes.

    Args:
        name: which of ``RELEASES``; None: by the names of its tensors (the 320-pixel variant, which
            has the same ones, if the file's name says 320).

    Raises:
        SightlineError: not such a checkpoint, cut short, or with more in it than tensors.
    """
    state = _load(path)
    release = RELEASES[name or recognise(path, state)]
    if missing := [_PREDICTOR + end for end in _ENDS if _PREDICTOR + end not in state]:
        raise SightlineError(f"{path}: {missing[0]} is missing: the weights of a whole model?")
    _check_predictor(path, state)
    frozen = not any(key.endswith("num_batches_tracked") for key in state)
    options = dict(release.options)
    if not frozen and "freeze_norm" in options:
        options["freeze_norm"] = False
    classes, rows = _classes(path, state, release)
    tensors = {_rename(key, release): value for key, value in state.items()}
    for kind in _KINDS:
        tensors |= _reorder(tensors, kind, rows)
    if frozen or release.our_eps != 1e-5:
        coco = len(state[f"{_PREDICTOR}cls_score.bias"]) == _COCO_ROWS
        had = release.trained_eps if frozen and coco else 1e-5
        tensors |= _at_eps(tensors, "backbone.", had, release.our_eps)
    for key in [key for key in tensors if key.endswith(".running_mean")]:
        counter = key.replace("running_mean", "num_batches_tracked")
        tensors.setdefault(counter, torch.tensor(0))
    history = {"source": "torchvision", "weights": release.enum, "file": path.name}
    return Weights(
        source=name or str(path),
        card=Card(release.model, options, classes, (history,)),
        preprocess=Preprocess(
            short=release.short, long=release.long, resize="torchvision", antialias=False
        ),
        tensors=tensors,
    )


def _check_predictor(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raises:
    SightlineError: the rows of its four tensors are not one and four for each class.
    """
    shapes = {end: state[f"{_PREDICTOR}{end}"].shape for end in _ENDS}
    rows = shapes["cls_score.bias"].numel()
    for end, shape in shapes.items():
        wanted = rows if end.startswith("cls_score") else 4 * rows
        if len(shape) != (1 if end.endswith("bias") else 2) or shape[0] != wanted or rows < 2:
            raise SightlineError(f"{path}: {_PREDICTOR}{end} is {list(shape)}: damaged?")


def recognise(path: Path, state: Mapping[str, Tensor]) -> str:
    """Which of the four models the tensors are of."""
    if "roi_heads.box_head.0.0.weight" in state:
        return "fasterrcnn_resnet50_fpn_v2"
    if "roi_heads.box_head.fc6.weight" in state:
        if "backbone.body.conv1.weight" in state:
            return "fasterrcnn_resnet50_fpn"
        if "backbone.body.0.0.weight" in state:
            return f"fasterrcnn_mobilenet_v3_large_{'320_' if '320' in path.name else ''}fpn"
    some = ", ".join(list(state)[:2]) or "nothing"
    raise SightlineError(
        f"{path}: none of the checkpoints known here ({', '.join(RELEASES)}); it holds {some}, ..."
    )


def published_url(name: str) -> str:
    from torchvision.models import get_weight

    url: str = get_weight(RELEASES[name].enum).url
    return url


def _load(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:  # of a path whose name tells another format it reads that
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise SightlineError(
            f"{path}: holds more than tensors, or is no PyTorch file; such files are not opened, "
            "since they can run any program"
        ) from error
    except _DAMAGED as error:
        reason = str(error).split("\n")[0]
        raise SightlineError(f"{path}: no PyTorch file, or one cut short ({reason})") from error
    state = content.get("model", content) if isinstance(content, dict) else {}
    if not isinstance(state, dict):
        raise SightlineError(f"{path}: its entry 'model' holds no tensors by name")
    named = {key: value for key, value in state.items() if isinstance(key, str)}
    return {key: value for key, value in named.items() if isinstance(value, Tensor)}


def _classes(
    path: Path, state: Mapping[str, Tensor], release: Release
) -> tuple[Classes, list[int]]:
    """The classes, and of each, and then of background, the row in the file."""
    from torchvision.models import get_weight

    count = len(state[f"{_PREDICTOR}cls_score.bias"])
    names = get_weight(release.enum).meta["categories"]
    if count != len(names):  # a user's own
        names = ["__background__", *(f"class {number}" for number in range(1, count))]
    ids = [number for number, name in enumerate(names) if number > 0 and name != "N/A"]
    classes = Classes(tuple(names[number] for number in ids), tuple(ids))
    return classes, [*ids, 0]


def _rename(key: str, release: Release) -> str:
    for pattern, replacement in release.renames:
        renamed, found = re.subn(pattern, replacement, key)
        if found:
            return renamed
    return key


def _reorder(tensors: Mapping[str, Tensor], kind: str, rows: list[int]) -> dict[str, Tensor]:
    """Rows of the two last layers: our classes, then background, which has no deltas of its own."""
    score, shift = f"box_head.class_score.{kind}", f"box_head.box_shift.{kind}"
    by_class = tensors[shift].unflatten(0, (-1, 4))
    return {score: tensors[score][rows], shift: by_class[rows[:-1]].flatten(0, 1)}


def _at_eps(
    tensors: Mapping[str, Tensor], prefix: str, had: float, has: float
) -> dict[str, Tensor]:
    """The weights that give with ``has`` in the denominator what they gave with ``had``."""
    changed = {}
    for key, var in tensors.items():
        if key.startswith(prefix) and key.endswith(".running_var"):
            weight = key.replace("running_var", "weight")
            if weight not in tensors or tensors[weight].shape != var.shape:
                continue  # whoever builds the model says so
            factor = ((var.double() + has) / (var.double() + had)).sqrt()
            changed[weight] = (tensors[weight].double() * factor).to(tensors[weight].dtype)
    return changed
