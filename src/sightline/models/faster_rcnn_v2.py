"""Benchmarking Detection Transfer Learning with Vision Transformers. Li, Xie, Chen, Dollar, He,
Girshick, 2021. https://arxiv.org/abs/2111.11429

Its Faster R-CNN (section 2.2), which torchvision calls "v2": BatchNorm in the pyramid and in the
box head, two hidden convolutions in the RPN, and four convolutions with one fully connected layer
in the box head.

Original / ours. Picture: 1024 x 1024 with large-scale jitter / 800 to 1333 as torchvision does, any
size by ``short`` and ``long``. Backbone: a plain ViT with its own pyramid, or ResNet / any of timm.
Batches: BatchNorm synchronised over processes / each process its own. Mask head: left out.

Letters: R regions, F channels, S cells a side of a pooled region.
"""

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones import create_backbone
from sightline.layers.fpn import FPN
from sightline.models.fast_rcnn import BoxHead, Sampling
from sightline.models.faster_rcnn import RPN, FasterRCNN, pool_pyramid
from sightline.ops.anchors import sizes_of_levels
from sightline.preprocess import Preprocess
from sightline.shapes import Float


class ConvBody(nn.Module):
    """Four normalised convolutions and one fully connected layer on the pooled features."""

    def __init__(self, channels: int, size: int, hidden: int = 1024) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                )
                for _ in range(4)
            )
        )
        self.fc = nn.Linear(channels * size**2, hidden)

    def forward(self, pooled: Float[Tensor, "R F S S"]) -> Float[Tensor, "R hidden"]:
        return F.relu(self.fc(self.convs(pooled).flatten(1)))


def faster_rcnn_v2(
    classes: int,
    backbone: str = "resnet50",
    pretrained: bool = False,
    anchor_sizes: Sequence[Sequence[float]] | None = None,
    even_anchors: bool = False,
    channels: int = 256,
    hidden: int = 1024,
    samples: int = 512,
    short: int = 800,
    long: int = 1333,
) -> FasterRCNN:
    """``anchor_sizes`` as in ``faster_rcnn``; ``even_anchors`` lays the anchors as torchvision
    does; the pyramid has ``channels``, the box head's last layer ``hidden`` units; ``samples``
    regions a picture train the second stage."""
    body = create_backbone(backbone, pretrained=pretrained)
    fpn = FPN(body.channels, channels, extra="pool", norm=nn.BatchNorm2d)
    return FasterRCNN(
        backbone=body,
        fpn=fpn,
        rpn=RPN(
            channels,
            sizes_of_levels(len(fpn.channels), anchor_sizes),
            strides=None if even_anchors else fpn.strides(body.strides),
            rounded=even_anchors,
            convs=2,
        ),
        box_head=BoxHead(
            pool=partial(pool_pyramid, strides=body.strides, size=7),
            body=ConvBody(channels, 7, hidden),
            channels=hidden,
            classes=classes,
            sampling=Sampling(count=samples, negative=(0.0, 0.5)),
        ),
        preprocess=Preprocess(short=short, long=long),
    )
