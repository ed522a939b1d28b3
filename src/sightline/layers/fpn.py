"""Feature Pyramid Networks for Object Detection. Lin, Dollar, Girshick, He, Hariharan, Belongie.
CVPR 2017, https://arxiv.org/abs/1612.03144

A deep map knows what, a shallow map knows where: each level is brought to the same number of
channels, the coarser one is enlarged and added, and a 3x3 convolution smooths the sum (Fig. 3).
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from sightline.shapes import Float

Extra = Literal["pool", "convs", "convs_c5"]


class FPN(nn.Module):
    """Maps of a backbone in, fine to coarse; as many maps of ``channels`` out, and the extra ones.

    ``extra``: "pool" adds P6, every other pixel of the last map (section 4.1); "convs" adds P6 and
    P7 by strided convolutions on the last map, "convs_c5" on the backbone's last map (RetinaNet).
    ``norm`` builds the normalisation that follows each lateral and each output convolution, which
    then have no bias. A coarser map is enlarged to the finer map's exact size, nearest neighbour:
    odd sizes and levels of one stride are no special case.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        extra: Extra | None = None,
        norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(_conv(c, channels, 1, norm) for c in in_channels)
        self.output = nn.ModuleList(_conv(channels, channels, 3, norm) for _ in in_channels)
        self.extra = extra
        if extra in ("convs", "convs_c5"):
            first = in_channels[-1] if extra == "convs_c5" else channels
            self.p6 = nn.Conv2d(first, channels, 3, stride=2, padding=1)
            self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.channels = [channels] * len(self.strides([1] * len(in_channels)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def strides(self, backbone: Sequence[int]) -> list[int]:
        """Strides of the maps that come out, given those of the maps that go in."""
        added = {None: 0, "pool": 1, "convs": 2, "convs_c5": 2}[self.extra]
        return [*backbone, *(backbone[-1] * 2**step for step in range(1, added + 1))]

    def forward(self, features: list[Float[Tensor, "B _ _ _"]]) -> list[Float[Tensor, "B C _ _"]]:
        merged = [lateral(c) for lateral, c in zip(self.lateral, features, strict=True)]
        for level in range(len(merged) - 2, -1, -1):
            size = merged[level].shape[-2:]
            merged[level] = merged[level] + F.interpolate(merged[level + 1], size=size)
        pyramid = [output(p) for output, p in zip(self.output, merged, strict=True)]
        return pyramid + self._extra_levels(pyramid[-1], features[-1])

    def _extra_levels(self, last: Tensor, c5: Tensor) -> list[Tensor]:
        if self.extra is None:
            return []
        if self.extra == "pool":
            return [F.max_pool2d(last, kernel_size=1, stride=2)]
        p6 = self.p6(c5 if self.extra == "convs_c5" else last)
        return [p6, self.p7(F.relu(p6))]


def _conv(
    in_channels: int, channels: int, size: int, norm: Callable[[int], nn.Module] | None
) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, size, padding=size // 2, bias=norm is None)
    return nn.Sequential(conv) if norm is None else nn.Sequential(conv, norm(channels))
