"""A classification network cut in two: a trunk that sees the picture, a tail that sees each region.

Before feature pyramids the last block of the network was the region head: fc6 and fc7 of VGG16 on
7x7 cells (Fast R-CNN, section 2.1), the fifth stage of ResNet on 14x14 cells (Deep Residual
Learning, section A: "conv5_x and up as in Fast R-CNN").
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.backbones.backbone import Backbone
from sightline.backbones.create import set_norm, stage_names, timm_model, wrap_timm
from sightline.errors import SightlineError
from sightline.shapes import Float


class Tail(nn.Module):
    """Pooled regions of ``size`` x ``size`` cells in, a map of ``channels`` for each region out
    (its mean over the cells, where there are any left, is what a box head classifies)."""

    def __init__(self, layers: nn.Module, channels: int, size: int) -> None:
        super().__init__()
        self.layers = layers
        self.channels = channels
        self.size = size

    def forward(self, regions: Float[Tensor, "R _ _ _"]) -> Float[Tensor, "R C _ _"]:
        return self.layers(regions)


class FullyConnected(nn.Module):
    """fc6 and fc7 of VGG, with dropout after each."""

    def __init__(self, inputs: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.fc6 = nn.Linear(inputs, channels)
        self.fc7 = nn.Linear(channels, channels)
        self.dropout = dropout

    def forward(self, regions: Float[Tensor, "R _ _ _"]) -> Float[Tensor, "R C 1 1"]:
        x = self._drop(F.relu(self.fc6(regions.flatten(1))))
        x = self._drop(F.relu(self.fc7(x)))
        return x[:, :, None, None]

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


def split(
    name: str,
    pretrained: bool = False,
    *,
    frozen_norm: bool = False,
    norm_eps: float | None = None,
    dropout: float = 0.5,
) -> tuple[Backbone, Tail]:
    """The network of that name in timm as a trunk, whose one map has stride 16, and a tail.

    VGG: the trunk ends before the last max-pooling, the tail is fc6 and fc7 on 7x7 cells with
    ``dropout`` in training. A convolutional network of stages (ResNet and its kin, ConvNeXt): the
    tail is the last stage on 14x14 cells. Other arguments as in ``create_backbone``.

    Raises:
        SightlineError: no such network or weights, or this one cannot be cut so.
    """
    if name.startswith("vgg"):
        trunk, tail = _split_vgg(timm_model(name, pretrained), dropout)
    else:
        trunk, tail = _split_stages(name, timm_model(name, pretrained, features_only=True))
    for part in (trunk, tail):
        set_norm(part, frozen_norm, norm_eps)
    return trunk, tail


def _split_vgg(network: Any, dropout: float) -> tuple[Backbone, Tail]:
    from timm.models import FeatureListNet

    last = len(network.feature_info) - 2  # the map before the last pooling
    body = FeatureListNet(network, out_indices=(last,), flatten_sequential=True)
    convolutions = network.pre_logits
    fully = FullyConnected(
        convolutions.fc1.weight[0].numel(), convolutions.fc2.out_channels, dropout
    )
    with torch.no_grad():
        for linear, conv in ((fully.fc6, convolutions.fc1), (fully.fc7, convolutions.fc2)):
            linear.weight.copy_(conv.weight.flatten(1))
            linear.bias.copy_(conv.bias)
    return wrap_timm(body, (0,)), Tail(fully, fully.fc7.out_features, size=7)


def _split_stages(name: str, body: Any) -> tuple[Backbone, Tail]:
    """The stage of stride 32 is taken off and becomes the tail."""
    from timm.models import FeatureListNet

    info = body.feature_info
    stages = isinstance(body, FeatureListNet) and body.output_fmt == "NCHW"
    if not stages or info.reduction()[-2:] != [16, 32]:
        raise SightlineError(
            f"backbone {name!r} cannot be cut into trunk and tail: take a VGG, a ResNet or a "
            "ConvNeXt, or a model with a pyramid"
        )
    tail = nn.Sequential(*(body.pop(module) for module in stage_names(body)[-1]))
    trunk = wrap_timm(body, [len(info.reduction()) - 2])
    return trunk, Tail(tail, info.channels()[-1], size=14)
