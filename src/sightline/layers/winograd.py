"""Wide 3x3 convolutions of a model in Winograd's form (``ops/winograd.py``), for a CPU."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.ops.winograd import learning_conv3x3, transform_weights, winograd_conv3x3
from sightline.shapes import Float


class LearningWinogradConv(nn.Conv2d):
    """Learns: it holds the very parameters of the convolution whose place it takes."""

    # Channels and tiles of 4 x 4 from which it pays, since the weights are transformed at every
    # step, however small the maps; measured in docs/log.md.
    wide, many = 64, 200
    dilated = False

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, 3, padding=1, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        self.train(conv.training)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K H W"]:
        batch, _, height, width = x.shape
        if batch * math.ceil(height / 4) * math.ceil(width / 4) < self.many:
            return super().forward(x)
        return learning_conv3x3(x, self.weight, self.bias)


class FixedWinogradConv(nn.Module):
    """Predicts: its weights are transformed once. A dilated convolution is a plain one on every
    d-th row and column, for each of the d x d such grids: they are laid one behind another."""

    wide = 128
    dilated = True

    weights: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.detach()
        bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach()
        self.register_buffer("weights", transform_weights(weight.double()).to(weight.dtype))
        self.register_buffer("bias", bias)
        self.dilation = conv.dilation[0]

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K H W"]:
        step, (height, width) = self.dilation, x.shape[-2:]
        if step == 1:
            return winograd_conv3x3(x, self.weights, self.bias)
        x = F.pad(x, (0, -width % step, 0, -height % step)).permute(0, 2, 3, 1)
        grids = x.unflatten(1, (-1, step)).unflatten(3, (-1, step)).permute(2, 4, 0, 1, 3, 5)
        grids = winograd_conv3x3(grids.flatten(0, 2).permute(0, 3, 1, 2), self.weights, self.bias)
        grids = grids.permute(0, 2, 3, 1).unflatten(0, (step, step, -1)).permute(2, 3, 0, 4, 1, 5)
        return grids.flatten(3, 4).flatten(1, 2)[:, :height, :width].permute(0, 3, 1, 2)


def take_winograd(
    model: nn.Module, form: type[LearningWinogradConv] | type[FixedWinogradConv]
) -> None:
    """Put ``form`` in the place of every plain float32 convolution of 3x3 with stride 1 that is
    wide enough for it on either side; of a dilated one where the form knows how."""
    for conv in list(model.modules()):
        if type(conv) is nn.Conv2d and _suits(conv, form.wide, form.dilated):
            replace_module(model, conv, form(conv))


def _suits(conv: nn.Conv2d, wide: int, dilated: bool) -> bool:
    step = conv.dilation[0] if dilated else 1
    usual = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    plain = usual == ((3, 3), (1, 1), (step, step), (step, step), 1)
    plain &= conv.padding_mode == "zeros"
    enough = min(conv.in_channels, conv.out_channels) >= wide
    return plain and enough and conv.weight.dtype == torch.float32


def replace_module(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Under every name it has."""
    for parent in model.modules():
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new
