"""SSDLite, SSD for telephones. Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2, 2018, section
6.2. https://arxiv.org/abs/1801.04381
On MobileNetV3: Howard, Sandler, Chu and others, 2019, section 6.3. https://arxiv.org/abs/1905.02244

SSD in which every convolution behind the backbone is separable: a 3x3 convolution channel by
channel, then a 1x1 convolution across them. That takes a tenth of the arithmetic, and leaves a
detector of 3.4 million weights for pictures of 320 x 320 pixels.

Original / ours. Activation in the head: ReLU6 / the same. Default boxes: as the authors' training
code has them, six levels from 0.2 to 0.95 of the picture's side, with the ratios 2 and 3 on all.
Loss: unsaid / SSD's own, as in torchvision, whose weights load.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from sightline.backbones import create_backbone, levels_of
from sightline.errors import SightlineError
from sightline.models.ssd import RATIOS, SMALLEST, SSD, Head, cell_boxes
from sightline.ops.suppress import Selection
from sightline.preprocess import Preprocess

LEVELS = 6
SCALES = (*(0.2 + 0.15 * level for level in range(LEVELS)), 1.0)  # 0.2 to 0.95, and beyond

NORM_EPS = 1e-3
HALF = (0.5, 0.5, 0.5)


def norm_conv(inputs: int, channels: int, kernel: int, step: int = 1) -> nn.Sequential:
    """A 1x1 convolution across channels, or one of every channel alone; BatchNorm and ReLU6."""
    groups = 1 if kernel == 1 else inputs
    return nn.Sequential(
        nn.Conv2d(inputs, channels, kernel, step, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU6(),
    )


def separable_layers(inputs: int, channels: int) -> nn.Sequential:
    """From a level to the next, of half its side."""
    return nn.Sequential(
        norm_conv(inputs, channels // 2, 1),
        norm_conv(channels // 2, channels // 2, 3, step=2),
        norm_conv(channels // 2, channels, 1),
    )


def separable_head(inputs: Sequence[int], per_cell: int, values: int) -> Head:
    convs = [nn.Sequential(norm_conv(i, i, 3), nn.Conv2d(i, per_cell * values, 1)) for i in inputs]
    return Head(convs, values)


def ssdlite(
    classes: int,
    backbone: str = "tv_mobilenet_v3_large_ssd_reduced",
    pretrained: bool = False,
    freeze_norm: bool = False,
    side: int = 320,
    channels: int = 512,
) -> SSD:
    """On any network with maps of stride 16 and 32, for pictures brought to ``side`` x ``side``
    pixels. The first extra level has ``channels``, the next two a half of them, the last a quarter.
    ``tv_mobilenet_v3_large_ssd`` is the default backbone with all its channels, for which there
    are weights from ImageNet. ``freeze_norm`` keeps BatchNorm as loaded."""
    if side < SMALLEST:
        raise SightlineError(f"SSD needs pictures of {SMALLEST} pixels a side or more, not {side}")
    body = create_backbone(
        backbone,
        pretrained,
        levels=levels_of(backbone, (16, 32)),
        frozen_norm=freeze_norm,
        norm_eps=NORM_EPS,
    )
    widths = [body.channels[-1], channels, channels // 2, channels // 2, channels // 4]
    inputs = [body.channels[0], *widths]
    cells = [cell_boxes(scale, following, RATIOS, side) for scale, following in pairwise(SCALES)]
    model = SSD(
        backbone=body,
        fine=nn.Identity(),
        coarse=nn.Identity(),
        extra=[separable_layers(before, after) for before, after in pairwise(widths)],
        class_head=separable_head(inputs, len(cells[0]), classes + 1),
        box_head=separable_head(inputs, len(cells[0]), 4),
        cells=cells,
        strides=[side / math.ceil(side / 2**level) for level in range(4, 4 + LEVELS)],
        preprocess=Preprocess(fixed=(side, side), mean=HALF, std=HALF, multiple=1),
        candidates=300,
        selection=Selection(score=0.001, iou=0.55, top=300),
    )
    for part in (model.extra, model.class_head, model.box_head):
        for conv in part.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.normal_(conv.weight, std=0.03)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps, norm.momentum = NORM_EPS, 0.03
    return model
