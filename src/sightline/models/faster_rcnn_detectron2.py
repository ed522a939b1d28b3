"""Detectron2. Wu, Kirillov, Massa, Lo, Girshick, 2019. https://github.com/facebookresearch/detectron2

Its Faster R-CNN with a pyramid, which most later papers compare with: RoIAlign samples at the
middle of cells, as many points a bin as it has cells ("v2": the boxes are shifted by half a cell),
and the backbone is the ResNet of MSRA on blue, green, red in bytes.

Original / ours. Losses, sampling and the rest: those of ``faster_rcnn`` with a pyramid.
"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from sightline.backbones import create_backbone
from sightline.layers.fpn import FPN
from sightline.models.fast_rcnn import BoxHead, Sampling, TwoLayers
from sightline.models.faster_rcnn import RPN, FasterRCNN
from sightline.ops.anchors import PYRAMID_SIZES
from sightline.ops.pyramid import Pyramid
from sightline.ops.roi import roi_align
from sightline.preprocess import MSRA_PIXELS, Preprocess


def faster_rcnn_detectron2(
    classes: int,
    backbone: str = "msra_resnet50",
    freeze_norm: bool = True,
    channels: int = 256,
    hidden: int = 1024,
    samples: int = 512,
    short: int = 800,
    long: int = 1333,
) -> FasterRCNN:
    """For Detectron2's checkpoints, as they are or to train on. The options are those of
    ``faster_rcnn``."""
    body = create_backbone(backbone, frozen_norm=freeze_norm)
    fpn = FPN(body.channels, channels, extra="pool")
    return FasterRCNN(
        backbone=body,
        fpn=fpn,
        rpn=RPN(channels, PYRAMID_SIZES, strides=fpn.strides(body.strides)),
        box_head=BoxHead(
            pool=partial(pool_middles, strides=body.strides, size=7),
            body=TwoLayers(channels * 7 * 7, hidden),
            channels=hidden,
            classes=classes,
            sampling=Sampling(count=samples, negative=(0.0, 0.5)),
        ),
        preprocess=Preprocess(short=short, long=long, **MSRA_PIXELS),
    )


def pool_middles(
    pyramid: Pyramid, boxes: Tensor, image_index: Tensor, strides: Sequence[int], size: int
) -> Tensor:
    """As ``faster_rcnn.pool_pyramid``, but for where and how often RoIAlign samples."""
    levels = pyramid[: len(strides)]
    return roi_align(levels, boxes, image_index, strides, size, sampling_ratio=0, aligned=True)
