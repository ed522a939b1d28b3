"""U-Net: Convolutional Networks for Biomedical Image Segmentation. Ronneberger, Fischer, Brox,
2015. https://arxiv.org/abs/1505.04597

A network that narrows a picture down to what it shows is followed by its mirror image, which widens
that up again to where it is. At every size the map on the way down is laid beside the one on the
way up, so that outlines as fine as a pixel are still known at the end.

Letters: B pictures, C labels of a map (things, then stuff), F channels.

Original / ours. Convolutions: without padding, so that the map is smaller than the picture and
skips are cropped / with padding, so that it is as large. Way down: its own / any backbone;
"vgg13_bn" is the nearest to the paper's. Way up: a learnt 2x2 convolution / the nearest neighbour,
and BatchNorm behind every convolution. Loss: pixels between touching cells weigh more (equation 2)
/ all weigh 1; classes can be weighed. It is divided by the number of labelled pixels of all
pictures of all processes together.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones import create_backbone
from sightline.ops.maps import pixel_cross_entropy, to_maps
from sightline.preprocess import Preprocess
from sightline.shapes import Float
from sightline.types import Images, Loss, Placement, Scene

CHANNELS = (256, 128, 64, 32, 16)  # of the maps on the way up, coarse to fine


class UNet(nn.Module):
    needs = frozenset({"semantic"})

    def __init__(
        self,
        backbone: nn.Module,
        decoder: "Decoder",
        score: nn.Module,
        preprocess: Preprocess = Preprocess(short=512, long=1024),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        self.score = score
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

    def outputs(self, images: Images) -> Float[Tensor, "B C H W"]:
        """Figure 1: down, and up again."""
        return self.score(self.decoder(self.backbone(images.pixels), images.pixels))

    def losses(
        self, outputs: Float[Tensor, "B C H W"], images: Images, targets: list[Scene]
    ) -> dict[str, Loss]:
        """Section 3, equation 1: the cross entropy of the softmax of every pixel."""
        return {"pixel": pixel_cross_entropy(outputs, targets, self.class_weights)}

    def select(self, outputs: Float[Tensor, "B C H W"], images: Images) -> Float[Tensor, "B C H W"]:
        return outputs

    def describe(
        self, selected: Float[Tensor, "B C H W"], placements: Sequence[Placement]
    ) -> list[Scene]:
        return to_maps(selected, placements)


class Decoder(nn.Module):
    """Figure 1, right: each step doubles the sides, and lays the map of that size on the way down
    beside, where there is one. The last step is at the size of the picture."""

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], widths: Sequence[int]
    ) -> None:
        """``channels`` and ``strides`` of the maps on the way down, fine to coarse."""
        super().__init__()
        beside = dict(zip(strides[:-1], channels[:-1], strict=True))
        self.strides = list(strides)
        self.targets = [2**n for n in reversed(range(strides[-1].bit_length() - 1))]
        given, steps = channels[-1], []
        for number, stride in enumerate(self.targets):
            width = widths[min(number, len(widths) - 1)]
            steps.append(Step(given + beside.get(stride, 0), width))
            given = width
        self.steps = nn.ModuleList(steps)
        self.channels = given

    def forward(
        self, features: list[Tensor], pixels: Float[Tensor, "B 3 H W"]
    ) -> Float[Tensor, "B F H W"]:
        beside = dict(zip(self.strides[:-1], features[:-1], strict=True))
        x = features[-1]
        for stride, step in zip(self.targets, self.steps, strict=True):
            if stride in beside:
                skip = beside[stride]
                x = torch.cat([F.interpolate(x, size=skip.shape[-2:]), skip], dim=1)
            else:
                x = F.interpolate(x, size=[-(-side // stride) for side in pixels.shape[-2:]])
            x = step(x)
        return x


class Step(nn.Module):
    """Two convolutions of 3x3, each followed by a ReLU (section 2)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = _conv(channels, width)
        self.second = _conv(width, width)

    def forward(self, x: Float[Tensor, "B F H W"]) -> Float[Tensor, "B G H W"]:
        return self.second(self.first(x))


def _conv(channels: int, width: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())


def unet(
    classes: int,
    stuff: int = 0,
    backbone: str = "resnet34",
    pretrained: bool = False,
    freeze_norm: bool = False,
    channels: Sequence[int] = CHANNELS,
    short: int = 512,
    long: int = 1024,
) -> UNet:
    """Any backbone; a step for whose size it has no map has none beside: the last ones of most, all
    of a plain transformer's. ``channels`` of the steps up, coarse to fine, the last one for all
    further steps. ``freeze_norm`` keeps the backbone's BatchNorm as it is."""
    body = create_backbone(backbone, pretrained=pretrained, finest=1, frozen_norm=freeze_norm)
    decoder = Decoder(body.channels, body.strides, channels)
    return UNet(
        backbone=body,
        decoder=decoder,
        score=nn.Conv2d(decoder.channels, classes + stuff, 3, padding=1),
        preprocess=Preprocess(short=short, long=long),
    )
