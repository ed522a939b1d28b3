"""torchvision's MobileNetV3-Large as its detectors use it: maps that timm's has not.

Searching for MobileNetV3. Howard, Sandler, Chu et al. ICCV 2019, https://arxiv.org/abs/1905.02244

timm's MobileNetV3 has no map between its last stage and the 1x1 convolution after it; torchvision's
Faster R-CNN takes the map before and the map after that convolution, both of stride 32. SSDLite
takes the last map of stride 16, which is inside block 13, behind its first convolution, and the
last of all (section 6.3, "C4" and "C5").
"""

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.backbones.backbone import Backbone
from sightline.errors import SightlineError
from sightline.shapes import Float

# The stride of each level, the block that ends it, and its channels; the same with block 13 in its
# parts, which gives SSDLite's two.
STRIDES = (2, 4, 8, 16, 32, 32)
SSD_STRIDES = (16, 32)
_ENDS = (0, 2, 4, 7, 13, 16)
_ENDS_IN_PARTS = (0, 2, 4, 7, 13, 19)
_CHANNELS = (16, 24, 40, 80, 160, 960)


class MobileNetLevels(nn.Module):
    """torchvision's ``features`` up to the last block wanted; out comes each wanted block's map."""

    def __init__(self, features: nn.Sequential, ends: Sequence[int]) -> None:
        super().__init__()
        self.features = features[: ends[-1] + 1]
        self._ends = frozenset(ends)

    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        maps, x = [], pixels
        for index, block in enumerate(self.features):
            x = block(x)
            if index in self._ends:
                maps.append(x)
        return maps


def tv_mobilenet_v3_large(pretrained: bool, levels: Sequence[int]) -> Backbone:
    """``levels`` counts the six maps of ``STRIDES``."""
    from torchvision.models import MobileNet_V3_Large_Weights, mobilenet_v3_large

    weights = MobileNet_V3_Large_Weights.IMAGENET1K_V1 if pretrained else None
    features = mobilenet_v3_large(weights=weights).features
    strides = [STRIDES[level] for level in levels]
    return _cut(features, _ENDS, levels, [_CHANNELS[level] for level in levels], strides)


def tv_mobilenet_v3_large_ssd(
    pretrained: bool, levels: Sequence[int], reduced: bool = False
) -> Backbone:
    """``levels`` counts the maps C4 and C5. ``reduced``: with half the channels from C4 on, as the
    paper has it for detection; there are no ImageNet weights of that form."""
    from torchvision.models import MobileNet_V3_Large_Weights, mobilenet_v3_large

    if pretrained and reduced:
        raise SightlineError(
            "there are no pretrained weights of the reduced MobileNet: take "
            "tv_mobilenet_v3_large_ssd, or start from random ones (pretrained=False)"
        )
    weights = MobileNet_V3_Large_Weights.IMAGENET1K_V1 if pretrained else None
    features = mobilenet_v3_large(weights=weights, reduced_tail=reduced).features
    parts = nn.Sequential(*features[:13], *features[13].block, *features[14:])
    channels = (672, 480 if reduced else 960)
    return _cut(
        parts,
        _ENDS_IN_PARTS,
        [4 + level for level in levels],
        [channels[level] for level in levels],
        [SSD_STRIDES[level] for level in levels],
    )


def _cut(
    features: nn.Sequential,
    ends: Sequence[int],
    kept: Sequence[int],
    channels: Sequence[int],
    strides: Sequence[int],
) -> Backbone:
    starts = [0, *(end + 1 for end in ends)]
    return Backbone(
        MobileNetLevels(features, [ends[level] for level in kept]),
        channels=channels,
        strides=strides,
        levels=range(len(kept)),
        stage_names=[
            [f"features.{block}" for block in range(starts[level], end + 1)]
            for level, end in enumerate(ends[: kept[-1] + 1])
        ],
    )
