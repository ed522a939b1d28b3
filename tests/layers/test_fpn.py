"""The feature pyramid, beside torchvision's."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from sightline.layers.fpn import FPN

CHANNELS = [6, 8, 10]


def maps(sizes=((20, 27), (10, 14), (5, 7))):
    return [torch.randn(2, c, *size) for c, size in zip(CHANNELS, sizes, strict=True)]


def copy_weights(ours: FPN, theirs: FeaturePyramidNetwork):
    renamed = {}
    for key, value in theirs.state_dict().items():
        key = key.replace("inner_blocks", "lateral").replace("layer_blocks", "output")
        renamed[key.replace("extra_blocks.", "")] = value
    ours.load_state_dict(renamed)


@pytest.mark.parametrize(
    ("extra", "block", "count"),
    [
        (None, None, 3),
        ("pool", LastLevelMaxPool(), 4),
        ("convs", LastLevelP6P7(16, 16), 5),
        ("convs_c5", LastLevelP6P7(10, 16), 5),
    ],
)
@pytest.mark.parametrize("norm", [None, nn.BatchNorm2d])
def test_twin_of_torchvision(extra, block, count, norm):
    theirs = FeaturePyramidNetwork(CHANNELS, 16, extra_blocks=block, norm_layer=norm).eval()
    ours = FPN(CHANNELS, 16, extra, norm).eval()
    copy_weights(ours, theirs)
    features = maps()
    expected = theirs(OrderedDict((str(i), f) for i, f in enumerate(features)))
    result = ours(features)
    assert len(result) == count == len(ours.channels)
    for a, b in zip(result, expected.values(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("extra", "strides"),
    [(None, [8, 16]), ("pool", [8, 16, 32]), ("convs", [8, 16, 32, 64])],
)
def test_strides(extra, strides):
    assert FPN([4, 4], 8, extra).strides([8, 16]) == strides


def test_levels_of_one_stride_and_a_pixel():
    features = maps(sizes=((3, 3), (3, 3), (1, 1)))
    shapes = [tuple(p.shape[2:]) for p in FPN(CHANNELS, 4, "pool")(features)]
    assert shapes == [(3, 3), (3, 3), (1, 1), (1, 1)]


def test_every_parameter_gets_a_gradient():
    fpn = FPN(CHANNELS, 4, "convs_c5")
    sum(p.sum() for p in fpn(maps())).backward()
    assert all(p.grad is not None for p in fpn.parameters())
