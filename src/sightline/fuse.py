"""A model made fast for prediction, its answers unchanged.

BatchNorm is folded into the convolution before it, feature maps are laid out channels last (both
change float32 scores by about 1e-5), and on a CPU wide 3x3 convolutions take Winograd's form.
bfloat16 and ``torch.compile`` are choices: the first changes answers, the second takes a minute.
"""

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from sightline.errors import SightlineError
from sightline.layers.norm import FrozenBatchNorm
from sightline.layers.winograd import FixedWinogradConv, replace_module, take_winograd
from sightline.memory import keep_freed_memory

Norm = _BatchNorm | FrozenBatchNorm


def fuse(model: Any, dtype: torch.dtype | None = None, compile: bool = False) -> Any:
    """A copy of the model in eval mode, to predict with and not to train or save.

    Args:
        dtype: torch.bfloat16 (or float16 on a GPU) computes convolutions and linear layers in that
            precision; left out, in float32 with the answers of the model.
        compile: hand the whole model to ``torch.compile`` at its first call.

    Raises:
        SightlineError: the model is fused already and something else is asked of it; else it is
            returned as it is.
    """
    if getattr(model, "fused", False):
        if dtype is None and not compile:
            return model
        raise SightlineError("this model is fused already: fuse the one it was made of")
    keep_freed_memory()
    fused = copy.deepcopy(model).eval().requires_grad_(False)
    fold_norms(fused)
    device = next(fused.parameters(), torch.empty(0)).device
    if dtype is not None:
        _lower(fused, dtype)
        fused.forward = torch.autocast(device.type, dtype)(fused.forward)
    elif device.type == "cpu":
        take_winograd(fused, FixedWinogradConv)
    fused.to(memory_format=torch.channels_last)
    if compile:
        fused.compile(fullgraph=True, dynamic=True)
    fused.fused = True
    return fused


def fold_norms(model: nn.Module) -> None:
    """Every BatchNorm that follows a convolution, and nothing else does, goes into its weights."""
    for conv, norm in list(_pairs(model)):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        replace_module(model, norm, getattr(norm, "act", nn.Identity()))


class _Tracer(fx.Tracer):
    """Sees norms and whatever has no parts as one step."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, Norm) or not any(True for _ in module.children())


def _pairs(model: nn.Module) -> Iterator[tuple[nn.Conv2d, Norm]]:
    """Convolutions with the norm that alone reads them, as the data flows."""
    parts = [(dict(part.named_modules()), graph) for part, graph in _graphs(model)]
    steps = [
        (modules, node)
        for modules, graph in parts
        for node in graph.nodes
        if node.op == "call_module"
    ]
    calls = Counter(id(modules[node.target]) for modules, node in steps)
    for modules, node in steps:
        norm, before = modules[node.target], node.args[0] if node.args else None
        if not isinstance(norm, Norm) or not isinstance(before, fx.Node):
            continue
        conv = modules.get(str(before.target)) if before.op == "call_module" else None
        once = calls[id(norm)] == calls[id(conv)] == len(before.users) == 1
        # A subclass may do something else with its weights, such as standardising them.
        if type(conv) is nn.Conv2d and once and norm.running_mean is not None:
            yield conv, norm


def _graphs(module: nn.Module) -> Iterator[tuple[nn.Module, fx.Graph]]:
    """How the data flows. What cannot be traced whole, because it decides by the data, is traced
    part by part."""
    try:
        yield module, _Tracer().trace(module)
    except Exception:  # what the module's own code raises when it is given no tensors: anything
        for child in module.children():
            yield from _graphs(child)


def _lower(model: nn.Module, dtype: torch.dtype) -> None:
    """The weights of convolutions and linear layers; the rest keeps its precision."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(dtype)
