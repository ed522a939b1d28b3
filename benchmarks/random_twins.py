"""torchvision's models with random weights that answer as trained ones do, to compare ours with.

BatchNorm statistics come from one pass over photos; the last layers are fitted so that their
answers spread over the photos as a trained model's do.
"""

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d, SqueezeExcitation
from torchvision.transforms._presets import SemanticSegmentation

from benchmarks.families import STAGES
from sightline import weights
from sightline.weights.releases import RELEASES, Rows

Photos = Sequence[Tensor]  # [3, H, W] bytes


def ask(model: Any, photos: Photos) -> Any:
    """A detector takes photos in their values of 0 to 1; what makes label maps, photos as its
    preset brings them, of which one after the other is asked here."""
    if hasattr(model, "transform"):
        return model([photo / 255 for photo in photos])
    prepare = SemanticSegmentation(resize_size=520)
    return [model(prepare(photo)[None]) for photo in photos]


def empty_twin(name: str, **options: Any) -> Any:
    """torchvision's model of that name with the parts that its published file fills."""
    builder = torchvision.models.get_model_builder(name)
    second = {"aux_loss": True} if RELEASES[name].stuff else {}
    return builder(weights=None, weights_backbone=None, **second, **options).eval()


def random_twin(name: str, photos: Photos, seed: int = 0, **options: Any) -> nn.Module:
    """torchvision's model of that name as it would be with trained weights of this seed."""
    torch.manual_seed(seed)
    release = RELEASES[name]
    model = empty_twin(name, **options)
    tame(model)
    gather_statistics(model, photos)
    if release.options.get("freeze_norm"):
        freeze(model.backbone.body, eps=release.trained_eps)
    for stage in STAGES[release.model]:
        layers = {layer: model.get_submodule(layer) for layer in stage}
        inputs = inputs_of(layers, model, photos)
        for layer, (mean, std) in stage.items():
            fit_last_layer(layers[layer], inputs[layer], mean, std)
        gather_statistics(model, photos)  # what comes after it is given something else now
    for layer, rows in release.last.items():
        if rows.values == 1 and not release.stuff:
            leave_gaps(model.get_submodule(layer), rows, categories(name))
    return model


@torch.no_grad()
def leave_gaps(layer: Any, rows: Rows, names: list[str]) -> None:
    """Most regions are background where that is a class; what is none of COCO's categories was
    never seen in training, so it is never likely."""
    gaps = [row for row, name in enumerate(names) if name == "N/A"]
    weight, bias = (t.unflatten(0, (rows.anchors, -1)) for t in (layer.weight, layer.bias))
    if rows.background:
        bias[:, 0] += 3.0
    else:
        gaps.append(0)
    weight[:, gaps] = 0.0
    bias[:, gaps] = -30.0


@torch.no_grad()
def tame(model: nn.Module) -> None:
    """Random weights that behave as trained ones where default ones do not.

    Residual branches add little, else the noise of float32 doubles in every stage. MobileNet's
    curved activations work far from zero and its gates stay half open, else pale photos fade out
    and bright ones blow up block by block, a hundredfold between them.
    """
    mobile = any(isinstance(module, SqueezeExcitation) for module in model.modules())
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            gain = (2.0, 4.0) if mobile else (0.1, 0.5) if name.endswith("bn3") else (0.5, 1.0)
            nn.init.uniform_(module.weight, *gain)
            nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, SqueezeExcitation):
            module.fc2.weight *= 0.1


def categories(name: str) -> list[str]:
    names: list[str] = torchvision.models.get_weight(RELEASES[name].enum).meta["categories"]
    return names


@torch.no_grad()
def inputs_of(
    layers: Mapping[str, nn.Module], model: nn.Module, photos: Photos
) -> dict[str, Tensor]:
    """What each layer is given on the photos, a row each, at most some ten thousand at a time."""
    seen: dict[str, list[Tensor]] = {layer: [] for layer in layers}

    def keep(module: nn.Module, inputs: tuple[Tensor], output: Tensor, layer: str) -> None:
        rows = through_window(module, inputs[0]).movedim(1, -1).flatten(0, -2)
        seen[layer].append(rows[:: max(1, len(rows) // 10_000)].clone())

    hooks = [
        module.register_forward_hook(partial(keep, layer=layer)) for layer, module in layers.items()
    ]
    for photo in photos:
        ask(model, [photo])
    for hook in hooks:
        hook.remove()
    return {layer: torch.cat(rows) for layer, rows in seen.items()}


def window(layer: Any) -> Tensor:
    """How much each cell of a convolution's window counts, no two alike; 1 where there is none."""
    shape = layer.weight.shape[2:]
    return ((torch.arange(shape.numel()) + 1) / shape.numel()).view(shape)


def through_window(layer: Any, inputs: Tensor) -> Tensor:
    if inputs.ndim == 2:
        return inputs
    weight = window(layer).expand(inputs.shape[1], 1, -1, -1)
    return F.conv2d(inputs, weight, None, layer.stride, layer.padding, groups=inputs.shape[1])


@torch.no_grad()
def fit_last_layer(layer: Any, inputs: Tensor, mean: float, std: float) -> None:
    """Random weights along the directions in which the inputs vary most, 16 at most, as a trained
    layer has them, so that each output has this mean and spread over the inputs."""
    centre = inputs.mean(dim=0)
    _, spread, directions = torch.linalg.svd(torch.cov(inputs.T))
    kept = int((spread > 1e-6 * spread[0]).sum().clamp(1, 16))
    factors = torch.randn(len(layer.bias), kept) / spread[:kept].sqrt().sqrt()
    weight = factors @ directions[:kept]
    weight *= (std / ((inputs - centre) @ weight.T).std(dim=0))[:, None]
    layer.bias.copy_(mean - weight @ centre)
    cells = window(layer)
    layer.weight.copy_(weight.view(*weight.shape, *(1 for _ in cells.shape)) * cells)


@torch.no_grad()
def gather_statistics(model: Any, photos: Photos) -> None:
    """Statistics of every BatchNorm: the mean over one pass."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
        norm.train()
    # What stretches all pictures to one size can have a last map of one cell, whose statistics take
    # two pictures.
    fixed = hasattr(model, "transform") and model.transform.fixed_size is not None
    together = 2 if fixed else 1
    for first in range(0, len(photos) if norms else 0, together):
        ask(model, photos[first : first + together])
    model.eval()


def freeze(module: nn.Module, eps: float) -> None:
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                frozen = FrozenBatchNorm2d(child.num_features, eps=eps)
                frozen.load_state_dict(child.state_dict())
                setattr(parent, name, frozen)


def carried_over(name: str, theirs: nn.Module) -> Any:
    """Our model, through a file and our converter."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}-random.pth"
        torch.save(theirs.state_dict(), path)
        return weights.load(path)
