"""The checkpoints that torchvision publishes, and the models of ours that they fill.

Source: ``torchvision.models.detection`` and ``segmentation``, trained on COCO 2017, code under
BSD-3-Clause; whether the weights carry terms of the data set (COCO's annotations are CC BY 4.0) is
for the user to judge.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sightline.preprocess import Preprocess


class Rows(NamedTuple):
    """How the first dimension of a last layer's tensors counts in the file: anchors of a cell,
    classes, values, the last fastest. Ours have background as the last class, or no such row."""

    anchors: int = 1
    values: int = 1
    background: bool = True


@dataclass(frozen=True)
class Release:
    """One published checkpoint, and the model of ours that it fills. Names of tensors are those in
    the file, but for what ``renames`` make of them."""

    enum: str  # torchvision's name for the file
    published: float  # on COCO val2017, percent: AP, or mIoU of label maps
    model: str
    options: Mapping[str, Any]
    renames: tuple[tuple[str, str], ...]
    holds: tuple[str, ...]  # tensors that tell it from others
    last: Mapping[str, Rows]  # layers that count classes
    preprocess: Preprocess = Preprocess(short=800, long=1333, resize="torchvision", antialias=False)
    named: str = ""  # a part of the file's name, where another has the same tensors
    trained_eps: float = 1e-5  # of frozen BatchNorm in the backbone, there, with COCO's classes
    our_eps: float = 1e-5  # and here
    stuff: tuple[str, ...] = ()  # what row 0 is called where it is a class of label maps


_FPN = (
    (r"^backbone\.fpn\.inner_blocks\.(\d+)\.(weight|bias)$", r"fpn.lateral.\1.0.\2"),  # old files
    (r"^backbone\.fpn\.layer_blocks\.(\d+)\.(weight|bias)$", r"fpn.output.\1.0.\2"),
    (r"^backbone\.fpn\.inner_blocks\.", "fpn.lateral."),
    (r"^backbone\.fpn\.layer_blocks\.", "fpn.output."),
    (r"^backbone\.fpn\.extra_blocks\.", "fpn."),
)

_SCORE, _SHIFT = "roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"
_TWO_STAGES = (
    *_FPN,
    (r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.convs.0.\1"),
    (r"^rpn\.head\.conv\.(\d+)\.0\.", r"rpn.convs.\1."),
    (r"^rpn\.head\.cls_logits\.", "rpn.objectness."),
    (r"^rpn\.head\.bbox_pred\.", "rpn.box_shift."),
    (r"^roi_heads\.box_predictor\.cls_score\.", "box_head.class_score."),
    (r"^roi_heads\.box_predictor\.bbox_pred\.", "box_head.box_shift."),
)
_TWO_LAST = {_SCORE: Rows(), _SHIFT: Rows(values=4, background=False)}
_FC = (r"^roi_heads\.box_head\.(fc[67])\.", r"box_head.body.\1.")
_CONVS = (r"^roi_heads\.box_head\.([0-3])\.([01])\.", r"box_head.body.convs.\1.\2.")
_MOBILE = (r"^backbone\.body\.(\d+)\.", r"backbone.body.features.\1.")
_MOBILE_HOLDS = ("roi_heads.box_head.fc6.weight", "backbone.body.0.0.weight")
_MOBILE_OPTIONS = {
    "backbone": "tv_mobilenet_v3_large",
    "freeze_norm": True,
    "anchor_sizes": [[32, 64, 128, 256, 512]] * 3,
    "even_anchors": True,
    "rpn_score": 0.05,
}

_TOWERS = tuple(
    (rf"^head\.{there}_head\.{pattern}", rf"{here}_head.{replacement}")
    for there, here in (("classification", "class"), ("regression", "box"))
    for pattern, replacement in (
        *((rf"conv\.{2 * i}\.(weight|bias)$", rf"convs.{i}.0.\1") for i in range(4)),  # old files
        (r"conv\.", "convs."),
        (r"(cls_logits|bbox_reg)\.", "last."),
    )
)
_TOWERS_LAST = {"head.classification_head.cls_logits": Rows(anchors=9, background=False)}
_TOWERS_HOLD = ("head.classification_head.cls_logits.bias", "head.regression_head.bbox_reg.bias")

_POINT_TOWERS = (
    (r"^head\.classification_head\.conv\.", "class_head.tower."),
    (r"^head\.classification_head\.cls_logits\.", "class_head.last.0."),
    (r"^head\.regression_head\.conv\.", "box_head.tower."),
    (r"^head\.regression_head\.bbox_reg\.", "box_head.last.0."),
    (r"^head\.regression_head\.bbox_ctrness\.", "box_head.last.1."),
)
_SSD_HEADS = (
    (r"^head\.classification_head\.module_list\.", "class_head.convs."),
    (r"^head\.regression_head\.module_list\.", "box_head.convs."),
)
# conv5_1 to conv5_3 are numbers 24 to 28 of VGG16's layers; fc6 and fc7 are behind them.
_SSD_VGG = (
    (r"^backbone\.scale_weight$", "fine.weight"),
    (r"^backbone\.features\.(\d+)\.", r"backbone.body.features_\1."),
    *(
        (rf"^backbone\.extra\.0\.{i}\.(weight|bias)$", rf"backbone.body.features_{23 + i}.\1")
        for i in (1, 3, 5)
    ),
    (r"^backbone\.extra\.0\.7\.", "coarse."),
    *((rf"^backbone\.extra\.{i + 1}\.", f"extra.{i}.") for i in range(4)),
)
# Blocks 14 to 16 are behind the parts of block 13.
_SSD_MOBILE = (
    (r"^backbone\.features\.0\.", "backbone.body.features."),
    *(
        (rf"^backbone\.features\.1\.0\.{i}\.", f"backbone.body.features.{13 + i}.")
        for i in range(1, 4)
    ),
    *(
        (rf"^backbone\.features\.1\.{i}\.", f"backbone.body.features.{16 + i}.")
        for i in range(1, 4)
    ),
    (r"^backbone\.extra\.", "extra."),
)
_MAP = Release(
    enum="FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1",
    published=60.5,
    model="fcn",
    options={"backbone": "resnet50"},
    renames=(
        (r"^backbone\.", "backbone.body."),
        *(
            (rf"^{there}\.{layer}\.", f"{here}.{name}.")
            for there, here in (("classifier", "head"), ("aux_classifier", "auxiliary_head"))
            for layer, name in ((0, "conv"), (1, "norm"), (4, "score"))
        ),
    ),
    holds=("classifier.0.weight", "aux_classifier.0.weight", "backbone.conv1.weight"),
    last={"classifier.4": Rows(), "aux_classifier.4": Rows()},
    preprocess=Preprocess(short=520, long=None, multiple=1, resize="bytes_down"),
    stuff=("background",),
)

RELEASES = {
    "fcn_resnet50": _MAP,
    "fcn_resnet101": replace(
        _MAP,
        enum="FCN_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1",
        published=63.7,
        options={"backbone": "resnet101"},
        holds=(*_MAP.holds, "backbone.layer3.22.conv1.weight"),
    ),
    "fasterrcnn_resnet50_fpn": Release(
        enum="FasterRCNN_ResNet50_FPN_Weights.COCO_V1",
        published=37.0,
        model="faster_rcnn",
        options={"backbone": "resnet50", "freeze_norm": True, "even_anchors": True},
        renames=(*_TWO_STAGES, _FC),
        holds=("roi_heads.box_head.fc6.weight", "backbone.body.conv1.weight"),
        last=_TWO_LAST,
        trained_eps=0.0,
    ),
    "fasterrcnn_resnet50_fpn_v2": Release(
        enum="FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1",
        published=46.7,
        model="faster_rcnn_v2",
        options={"backbone": "resnet50", "even_anchors": True},
        renames=(*_TWO_STAGES, _CONVS, (r"^roi_heads\.box_head\.5\.", "box_head.body.fc.")),
        holds=("roi_heads.box_head.0.0.weight",),
        last=_TWO_LAST,
    ),
    "fasterrcnn_mobilenet_v3_large_fpn": Release(
        enum="FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1",
        published=32.8,
        model="faster_rcnn",
        options=_MOBILE_OPTIONS,
        renames=(*_TWO_STAGES, _FC, _MOBILE),
        holds=_MOBILE_HOLDS,
        last=_TWO_LAST,
        our_eps=1e-3,
    ),
    "fasterrcnn_mobilenet_v3_large_320_fpn": Release(
        enum="FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1",
        published=22.8,
        model="faster_rcnn",
        options={**_MOBILE_OPTIONS, "candidates": 150, "proposals": 150},
        renames=(*_TWO_STAGES, _FC, _MOBILE),
        holds=_MOBILE_HOLDS,
        named="320",
        last=_TWO_LAST,
        preprocess=Preprocess(short=320, long=640, resize="torchvision", antialias=False),
        our_eps=1e-3,
    ),
    "retinanet_resnet50_fpn": Release(
        enum="RetinaNet_ResNet50_FPN_Weights.COCO_V1",
        published=36.4,
        model="retinanet",
        options={
            "backbone": "resnet50",
            "freeze_norm": True,
            "extra": "convs",
            "even_anchors": True,
            "top": 300,
        },
        renames=(*_FPN, *_TOWERS),
        holds=_TOWERS_HOLD,
        last=_TOWERS_LAST,
        trained_eps=0.0,
    ),
    "retinanet_resnet50_fpn_v2": Release(
        enum="RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1",
        published=41.5,
        model="retinanet",
        options={
            "backbone": "resnet50",
            "even_anchors": True,
            "box_loss": "giou",
            "head_norm": True,
            "top": 300,
        },
        renames=(*_FPN, *_TOWERS),
        holds=(*_TOWERS_HOLD, "head.classification_head.conv.0.1.weight"),
        last=_TOWERS_LAST,
    ),
    "fcos_resnet50_fpn": Release(
        enum="FCOS_ResNet50_FPN_Weights.COCO_V1",
        published=39.2,
        model="fcos",
        options={
            "backbone": "resnet50",
            "freeze_norm": True,
            "even_points": True,
            "score": "root",
            "threshold": 0.2,
        },
        renames=(*_FPN, *_POINT_TOWERS),
        holds=(*_TOWERS_HOLD, "head.regression_head.bbox_ctrness.bias"),
        last={"head.classification_head.cls_logits": Rows(background=False)},
    ),
    "ssd300_vgg16": Release(
        enum="SSD300_VGG16_Weights.COCO_V1",
        published=25.1,
        model="ssd",
        options={"backbone": "vgg16"},
        renames=(*_SSD_HEADS, *_SSD_VGG),
        holds=("backbone.scale_weight", "backbone.extra.0.7.1.weight"),
        last={
            f"head.classification_head.module_list.{level}": Rows(anchors=boxes)
            for level, boxes in enumerate((4, 6, 6, 6, 4, 4))
        },
        preprocess=Preprocess(
            fixed=(300, 300),
            mean=(0.48235, 0.45882, 0.40784),
            std=(1 / 255, 1 / 255, 1 / 255),
            multiple=1,
            resize="torchvision",
            antialias=False,
        ),
    ),
    "ssdlite320_mobilenet_v3_large": Release(
        enum="SSDLite320_MobileNet_V3_Large_Weights.COCO_V1",
        published=21.3,
        model="ssdlite",
        options={"backbone": "tv_mobilenet_v3_large_ssd_reduced"},
        renames=(*_SSD_HEADS, *_SSD_MOBILE),
        holds=(
            "head.classification_head.module_list.0.1.weight",
            "backbone.features.1.0.1.0.weight",
        ),
        last={
            f"head.classification_head.module_list.{level}.1": Rows(anchors=6) for level in range(6)
        },
        preprocess=Preprocess(
            fixed=(320, 320),
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            multiple=1,
            resize="torchvision",
            antialias=False,
        ),
    ),
}
