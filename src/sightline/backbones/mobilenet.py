"""torchvision's MobileNetV3-Large as its detectors use it: two maps of stride 32.

Searching for MobileNetV3. Howard, Sandler, Chu et al. ICCV 2019, https://arxiv.org/abs/1905.02244

timm's MobileNetV3 has no map between its last stage and the 1x1 convolution after it; torchvision's
detectors take the map before and the map after the last three blocks, both of stride 32.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.backbones.backbone import Backbone
from sightline.errors import SightlineError
from sightline.shapes import Float

# The block that ends each level, its channels and its stride.
_ENDS = (0, 2, 4, 7, 13, 16)
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
    ends = [_ENDS[level] for level in kept]
    starts = [0, *(end + 1 for end in _ENDS)]
    return Backbone(
        MobileNetLevels(mobilenet_v3_large(weights=weights).features, ends),
        channels=[_CHANNELS[level] for level in kept],
        strides=[_STRIDES[level] for level in kept],
        levels=range(len(kept)),
        stage_names=[
            [f"features.{block}" for block in range(starts[level], end + 1)]
            for level, end in enumerate(_ENDS[: kept[-1] + 1])
        ],
    )
