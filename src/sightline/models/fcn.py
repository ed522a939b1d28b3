"""Fully Convolutional Networks for Semantic Segmentation. Long, Shelhamer, Darrell, 2015.
https://arxiv.org/abs/1411.4038

A classification network without its pooling and fully connected end gives, for a picture of any
size, a coarse map of scores. Scaled up to the picture it is a label for every pixel, and the whole
is trained at once on whole pictures.

Letters: B pictures, C labels of a map (things, then stuff), F channels; H, W sides of the pictures
in pixels, h, w in cells.

Original / ours, as in torchvision. Network: VGG16 with stride 32 / a ResNet whose last two stages
are dilated instead of striding, so that a cell is 8 pixels (Yu, Koltun 2016; Chen et al. 2015).
Finer maps: scores of three stages added up (section 4.2) / not needed with a stride of 8. Scaling
up: learnt, from bilinear / bilinear. A second head on the last stage but one learns the same thing
and is not asked in prediction (Zhao et al. 2017, https://arxiv.org/abs/1612.01105, section 4).
The loss is divided by the number of labelled pixels of all pictures of all processes together.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones import create_backbone
from sightline.errors import SightlineError
from sightline.ops.maps import pixel_cross_entropy, to_maps
from sightline.preprocess import Preprocess
from sightline.shapes import Float
from sightline.types import Images, Loss, Placement, Scene


class Outputs(NamedTuple):
    """Scores of every cell, and what the second head learns from."""

    logits: Float[Tensor, "B C h w"]
    fine: Float[Tensor, "B F _ _"]


class FCN(nn.Module):
    needs = frozenset({"semantic"})

    def __init__(
        self,
        backbone: nn.Module,
        head: "Head",
        auxiliary_head: "Head",
        auxiliary: float = 0.4,
        preprocess: Preprocess = Preprocess(short=520, long=1040, multiple=8),
    ) -> None:
        """``auxiliary`` is the weight of the second head's loss."""
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.auxiliary_head = auxiliary_head
        self.auxiliary = auxiliary
        self.preprocess = preprocess
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", None, persistent=False)

    def forward(self, images: Images, targets: list[Scene] | None = None) -> Any:
        outputs = self.outputs(images)
        if targets is None:
            return self.select(outputs, images)
        return self.losses(outputs, images, targets)

    def weigh(self, weights: Float[Tensor, " C"]) -> None:
        """Let a pixel of each class count so much in the loss."""
        self.class_weights = weights

    def outputs(self, images: Images) -> Outputs:
        *_, fine, coarse = self.backbone(images.pixels)
        return Outputs(self.head(coarse), fine)

    def losses(self, outputs: Outputs, images: Images, targets: list[Scene]) -> dict[str, Loss]:
        """Section 3: the loss of a map is the sum of the losses of its pixels."""
        logits = scaled_up(outputs.logits, images)
        pixel = pixel_cross_entropy(logits, targets, self.class_weights)
        logits = scaled_up(self.auxiliary_head(outputs.fine), images)
        second = pixel_cross_entropy(logits, targets, self.class_weights)
        return {"pixel": pixel, "auxiliary": Loss(self.auxiliary * second.total, second.count)}

    def select(self, outputs: Outputs, images: Images) -> Float[Tensor, "B C H W"]:
        return scaled_up(outputs.logits, images)

    def describe(
        self, selected: Float[Tensor, "B C H W"], placements: Sequence[Placement]
    ) -> list[Scene]:
        return to_maps(selected, placements)


class Head(nn.Module):
    """Section 3.1: the classifier as a convolution. A hidden layer, then the scores of each
    cell."""

    def __init__(self, channels: int, hidden: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, hidden, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(hidden)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Conv2d(hidden, labels, 1)

    def forward(self, features: Float[Tensor, "B F h w"]) -> Float[Tensor, "B C h w"]:
        return self.score(self.dropout(self.relu(self.norm(self.conv(features)))))


def scaled_up(logits: Float[Tensor, "B C h w"], images: Images) -> Float[Tensor, "B C H W"]:
    """Section 3.3: bilinear, to the size of the pictures."""
    return F.interpolate(logits, size=images.pixels.shape[-2:], mode="bilinear")


def fcn(
    classes: int,
    stuff: int = 0,
    backbone: str = "resnet50",
    pretrained: bool = False,
    freeze_norm: bool = False,
    output_stride: int = 8,
    hidden: int | None = None,
    dropout: float = 0.1,
    auxiliary: float = 0.4,
    short: int = 520,
    long: int = 1040,
) -> FCN:
    """Any backbone of stages that can be dilated to ``output_stride`` (ResNet and its kin), or 32
    for one of two maps or more that cannot. ``hidden`` channels of the heads; None: a quarter of
    those they are given. ``auxiliary`` weighs the second head's loss. ``freeze_norm`` keeps the
    backbone's BatchNorm as it is."""
    body = create_backbone(
        backbone, pretrained=pretrained, output_stride=output_stride, frozen_norm=freeze_norm
    )
    if len(body.channels) < 2:
        raise SightlineError(
            f"fcn takes the last two maps of a backbone, and {backbone!r} has one, of stride "
            f"{body.strides[0]}"
        )
    fine, coarse = (
        Head(channels, hidden or channels // 4, classes + stuff, dropout)
        for channels in body.channels[-2:]
    )
    return FCN(
        backbone=body,
        head=coarse,
        auxiliary_head=fine,
        auxiliary=auxiliary,
        preprocess=Preprocess(short=short, long=long, multiple=8),
    )
