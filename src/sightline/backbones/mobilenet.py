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

# The block that ends each level, its channels and its stride; the same with block 13 in its parts.
_ENDS = (0, 2, 4, 7, 13, 16)
_ENDS_IN_PARTS = (0, 2, 4, 7, 13, 19)
_CHANNELS = (16, 24, 40, 80, 160, 960)
_STRIDES = (2, 4, 8, 16, 32, 32)


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


def tv_mobilenet_v3_large(pretrained: bool, levels: Sequence[int] | None) -> Backbone:
    """``levels`` counts the six maps of strides 2, 4, 8, 16, 32, 32; None: the last two."""
    from torchvision.models import MobileNet_V3_Large_Weights, mobilenet_v3_large

    kept = (4, 5) if levels is None else tuple(levels)
    if not kept or list(kept) != sorted(set(kept) & set(range(len(_ENDS)))):
        raise SightlineError(
            f"tv_mobilenet_v3_large has levels 0 to 5, in this order, not {levels}"
        )
    weights = MobileNet_V3_Large_Weights.IMAGENET1K_V1 if pretrained else None
    features = mobilenet_v3_large(weights=weights).features
    strides = [_STRIDES[level] for level in kept]
    return _cut(features, _ENDS, kept, [_CHANNELS[level] for level in kept], strides)


def tv_mobilenet_v3_large_ssd(
    pretrained: bool, levels: Sequence[int] | None, reduced: bool = False
) -> Backbone:
    """The maps C4 and C5, of strides 16 and 32. ``reduced``: with half the channels from C4 on, as
    the paper has it for detection; there are no ImageNet weights of that form."""
    from torchvision.models import MobileNet_V3_Large_Weights, mobilenet_v3_large

    if levels is not None:
        raise SightlineError("the MobileNet of SSDLite has the same two maps always: no levels")
    if pretrained and reduced:
        raise SightlineError(
            "there are no pretrained weights of the reduced MobileNet: take "
            "tv_mobilenet_v3_large_ssd, or start from random ones (pretrained=False)"
        )
    weights = MobileNet_V3_Large_Weights.IMAGENET1K_V1 if pretrained else None
    features = mobilenet_v3_large(weights=weights, reduced_tail=reduced).features
    parts = nn.Sequential(*features[:13], *features[13].block, *features[14:])
    return _cut(parts, _ENDS_IN_PARTS, (4, 5), [672, 480 if reduced else 960], [16, 32])


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
