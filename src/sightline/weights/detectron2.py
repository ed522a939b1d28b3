"""Detectron2's published detectors, and those that its users trained.

Source: the model zoo of https://github.com/facebookresearch/detectron2, trained on COCO 2017, code
under Apache-2.0, the models under CC BY-SA 3.0; a file is a pickle of arrays, or what
``torch.save`` wrote.

Differences of form. Background is the last class there as here. The nine anchors of RetinaNet's
cells count sizes first and then ratios, here ratios first. Pictures are blue, green, red in bytes,
less their mean, and keep so (``Preprocess``), unless the file has means and deviations of its own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from sightline.errors import SightlineError
from sightline.models import Card
from sightline.preprocess import MSRA_PIXELS, Preprocess
from sightline.types import Classes
from sightline.weights.native import Weights
from sightline.weights.torchvision import counters

_HOST = "https://dl.fbaipublicfiles.com/detectron2/"


class Published(NamedTuple):
    """A file of the zoo."""

    file: str  # below its name
    ap: float  # published, COCO val2017, percent


ZOO = {
    f"COCO-Detection/{name}": Published(file, ap)
    for name, file, ap in (
        ("faster_rcnn_R_50_FPN_1x", "137257794/model_final_b275ba.pkl", 37.9),
        ("faster_rcnn_R_50_FPN_3x", "137849458/model_final_280758.pkl", 40.2),
        ("faster_rcnn_R_101_FPN_3x", "137851257/model_final_f6e8b1.pkl", 42.0),
        ("retinanet_R_50_FPN_1x", "190397773/model_final_bfca0b.pkl", 37.4),
        ("retinanet_R_50_FPN_3x", "190397829/model_final_5bd44e.pkl", 38.7),
        ("retinanet_R_101_FPN_3x", "190397697/model_final_971ab9.pkl", 40.4),
    )
}


@dataclass(frozen=True)
class Family:
    """What a model there is here. Names of tensors are those there."""

    model: str
    scores: str  # the layer that counts classes
    background: int  # 1 where it has a row for it
    anchors: int  # of a cell, in that layer
    renames: tuple[tuple[str, str], ...]
    by_size: tuple[str, ...] = ()  # layers with sizes x ratios anchors


_BODY = "backbone.body"
_RESNET = (
    (r"^backbone\.bottom_up\.stem\.conv1\.norm\.", f"{_BODY}.bn1."),
    (r"^backbone\.bottom_up\.stem\.conv1\.", f"{_BODY}.conv1."),
    *(
        (
            rf"^backbone\.bottom_up\.res{stage + 1}\.(\d+)\.{there}",
            rf"{_BODY}.layer{stage}.\1.{here}",
        )
        for stage in (1, 2, 3, 4)
        for there, here in (
            (r"conv(\d)\.norm\.", r"bn\2."),
            (r"conv(\d)\.", r"conv\2."),
            (r"shortcut\.norm\.", "downsample.1."),
            (r"shortcut\.", "downsample.0."),
        )
    ),
)


def _pyramid(first: int) -> list[tuple[str, str]]:
    """``first``: its finest level."""
    levels = [
        (rf"^backbone\.fpn_{part}{first + i}\.", f"fpn.{part}.{i}.0.")
        for part in ("lateral", "output")
        for i in range(4)
    ]
    return [*levels, (r"^backbone\.top_block\.", "fpn.")]


FAMILIES = {
    "roi_heads.box_predictor.cls_score": Family(
        model="faster_rcnn_detectron2",
        scores="roi_heads.box_predictor.cls_score",
        background=1,
        anchors=1,
        renames=(
            *_pyramid(first=2),
            (r"^proposal_generator\.rpn_head\.conv\.", "rpn.convs.0."),
            (r"^proposal_generator\.rpn_head\.objectness_logits\.", "rpn.objectness."),
            (r"^proposal_generator\.rpn_head\.anchor_deltas\.", "rpn.box_shift."),
            (r"^roi_heads\.box_head\.fc1\.", "box_head.body.fc6."),
            (r"^roi_heads\.box_head\.fc2\.", "box_head.body.fc7."),
            (r"^roi_heads\.box_predictor\.cls_score\.", "box_head.class_score."),
            (r"^roi_heads\.box_predictor\.bbox_pred\.", "box_head.box_shift."),
        ),
    ),
    "head.cls_score": Family(
        model="retinanet",
        scores="head.cls_score",
        background=0,
        anchors=9,
        renames=(
            *_pyramid(first=3),
            *((rf"^head\.cls_subnet\.{2 * i}\.", f"class_head.convs.{i}.0.") for i in range(4)),
            *((rf"^head\.bbox_subnet\.{2 * i}\.", f"box_head.convs.{i}.0.") for i in range(4)),
            (r"^head\.cls_score\.", "class_head.last."),
            (r"^head\.bbox_pred\.", "box_head.last."),
        ),
        by_size=("head.cls_score", "head.bbox_pred"),
    ),
}
_PIXELS = ("pixel_mean", "pixel_std")
_DROPPED = re.compile(r"^pixel_(mean|std)$|(^|\.)anchor_generator\.|\.num_batches_tracked$")


def zoo_url(name: str) -> str:
    return f"{_HOST}{name}/{ZOO[name].file}"


def is_detectron2(state: Mapping[str, Tensor]) -> bool:
    return any(key.startswith("backbone.bottom_up.") for key in state)


def from_detectron2(path: Path, state: Mapping[str, Tensor], name: str | None = None) -> Weights:
    """What a model of ours is to be filled with.

    Raises:
        SightlineError: none of the models known here.
    """
    family = _family(path, state)
    rows = state[f"{family.scores}.bias"].numel()
    count, rest = divmod(rows, family.anchors)
    if rest or count - family.background < 1:
        raise SightlineError(f"{path}: {family.scores}.bias has {rows} rows: damaged?")
    kept = {key: value for key, value in state.items() if not _DROPPED.search(key)}
    for layer in family.by_size:
        for key in (f"{layer}.weight", f"{layer}.bias"):
            if key in kept and (kept[key].ndim == 0 or len(kept[key]) % family.anchors):
                raise SightlineError(f"{path}: {key} is {list(kept[key].shape)}: damaged?")
    tensors = {_rename(key, family): _ours(key, value, family) for key, value in kept.items()}
    depth = 101 if any(key.startswith("backbone.body.layer3.6.") for key in tensors) else 50
    options: dict[str, Any] = {"backbone": f"msra_resnet{depth}", "freeze_norm": True}
    history = {"source": "detectron2", "file": path.name} | ({"weights": name} if name else {})
    return Weights(
        source=name or str(path),
        card=Card(family.model, options, _classes(count - family.background), (history,)),
        preprocess=_preprocess(path, state),
        tensors=counters(tensors) | tensors,
    )


def _family(path: Path, state: Mapping[str, Tensor]) -> Family:
    if "head.ctrness.bias" in state:  # it has RetinaNet's names otherwise
        raise SightlineError(
            f"{path}: Detectron2's FCOS is not read, its zoo has none; by name there is "
            "fcos_resnet50_fpn, torchvision's"
        )
    for layer, family in FAMILIES.items():
        if f"{layer}.bias" in state:
            return family
    some = ", ".join(list(state)[:2])
    raise SightlineError(
        f"{path}: of Detectron2's models those with a pyramid are read, Faster R-CNN and "
        f"RetinaNet; it holds {some}, ..."
    )


def _preprocess(path: Path, state: Mapping[str, Tensor]) -> Preprocess:
    """With the file's means and deviations, where it has them. The order of channels is not in it:
    of photos red has the largest mean, so it is red first where the first one is the larger."""
    stated = {key: state[key].flatten().tolist() for key in _PIXELS if key in state}
    for key, values in stated.items():
        if len(values) != 3:
            raise SightlineError(f"{path}: {key} has {len(values)} values, not three: damaged?")
    pixels = MSRA_PIXELS
    if len(stated) == len(_PIXELS):
        mean, std = (tuple(round(v, 4) / 255 for v in stated[key]) for key in _PIXELS)  # of float32
        pixels = {"mean": mean, "std": std, "channels": "rgb" if mean[0] > mean[2] else "bgr"}
    try:
        return Preprocess(short=800, long=1333, **pixels)
    except SightlineError as error:
        raise SightlineError(f"{path}: {error}: damaged?") from error


def _classes(count: int) -> Classes:
    """COCO's where there are as many; Detectron2 counts them without gaps, in the same order."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    listed: list[str] = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    ids = [i for i, name in enumerate(listed) if i and name != "N/A"]
    if count == len(ids):
        return Classes(tuple(listed[i] for i in ids), tuple(ids))
    return Classes(tuple(f"class {number}" for number in range(1, count + 1)))


def _rename(key: str, family: Family) -> str:
    for pattern, replacement in (*_RESNET, *family.renames):
        renamed, found = re.subn(pattern, replacement, key)
        if found:
            return renamed
    return key


def _ours(key: str, value: Tensor, family: Family) -> Tensor:
    """Anchors ratio by ratio."""
    if key.rpartition(".")[0] not in family.by_size:
        return value
    return value.unflatten(0, (3, 3, -1)).transpose(0, 1).flatten(0, 2)
