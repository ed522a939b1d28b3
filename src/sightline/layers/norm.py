"""Batch normalisation that no longer learns: what a detector fine-tuned on small batches uses."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sightline.shapes import Float


class FrozenBatchNorm(nn.Module):
    """Batch normalisation by fixed statistics and a fixed affine map, whatever ``train()`` says.

    All its numbers are buffers under the names ``nn.BatchNorm2d`` gives them, so that a model loads
    the same checkpoint frozen or not. ``act`` follows the normalisation (timm fuses the two).
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.act: nn.Module = nn.Identity()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Float[Tensor, "B C *spatial"]) -> Float[Tensor, "B C *spatial"]:
        mean, var = self.running_mean, self.running_var
        return self.act(F.batch_norm(x, mean, var, self.weight, self.bias, eps=self.eps))

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}"


def freeze_batchnorm(module: nn.Module) -> None:
    """Turns every BatchNorm in the module, itself included, into a ``FrozenBatchNorm``: statistics,
    affine map, eps and fused activation stay, so that the answers in eval mode are the same.

    The objects change in place, as PyTorch's lazy modules do: whoever else holds them, a list of
    stages for instance, holds the frozen ones.
    """
    for norm in module.modules():
        if not isinstance(norm, _BatchNorm):
            continue
        mean = norm.running_mean
        if mean is None:
            raise ValueError("a BatchNorm without running statistics cannot be frozen")
        weight = torch.ones_like(mean) if norm.weight is None else norm.weight.detach()
        bias = torch.zeros_like(mean) if norm.bias is None else norm.bias.detach()
        del norm.weight, norm.bias
        norm.register_buffer("weight", weight)
        norm.register_buffer("bias", bias)
        norm.act = getattr(norm, "act", nn.Identity())
        norm.__class__ = FrozenBatchNorm  # type: ignore[assignment]
