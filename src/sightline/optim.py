"""Optimisers with parameter groups, schedules, freezing, batches in parts, averaged weights, seeds.

A schedule is a function (step, steps) -> factor on the learning rate: ``step`` counts from 0 over
the whole run of ``steps``, so a run of another length is the same curve stretched.
"""

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from sightline.data.loader import Batch
from sightline.errors import SightlineError
from sightline.layers.norm import freeze_batchnorm
from sightline.types import Images


def sgd(
    model: nn.Module,
    lr: float,
    *,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    decay_norms: bool = True,
    backbone: float = 1.0,
) -> Optimizer:
    """Stochastic gradient descent with momentum.

    Args:
        lr: learning rate where the schedule's factor is 1.
        decay_norms: whether norms and biases are decayed too (Detectron's baselines did not).
        backbone: factor on the learning rate of the backbone.
    """
    groups = parameter_groups(model, lr, weight_decay, decay_norms, backbone)
    return SGD(groups, lr=lr, momentum=momentum)


def adamw(
    model: nn.Module,
    lr: float,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.05,
    decay_norms: bool = False,
    backbone: float = 1.0,
) -> Optimizer:
    """Adam with decoupled weight decay (https://arxiv.org/abs/1711.05101); arguments as ``sgd``."""
    groups = parameter_groups(model, lr, weight_decay, decay_norms, backbone)
    return AdamW(groups, lr=lr, betas=(betas[0], betas[1]))


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, decay_norms: bool, backbone: float
) -> list[dict[str, Any]]:
    """The trainable parameters in at most four groups: in the backbone or not, decayed or not.

    ``base_lr`` of a group is what the schedule's factor multiplies. Norms and biases are the
    parameters of one axis or none.

    Raises:
        SightlineError: nothing to train, or a number that is negative or not finite: PyTorch does
            not look at those of a group.
    """
    for what, value in (("weight_decay", weight_decay), ("backbone", backbone)):
        if not 0 <= value < math.inf:  # NaN is not
            raise SightlineError(f"{what} must be at least 0 and finite, not {value}")
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decayed = decay_norms or parameter.ndim > 1
            inside = name.startswith("backbone.")
            groups.setdefault((inside, decayed), []).append(parameter)
    if not groups:
        raise SightlineError("nothing is left to train: every parameter is frozen")
    return [
        {
            "params": parameters,
            "weight_decay": weight_decay if decayed else 0.0,
            "base_lr": lr * (backbone if inside else 1.0),
        }
        for (inside, decayed), parameters in groups.items()
    ]


def set_lr(optimizer: Optimizer, factor: float) -> float:
    """Bring every group to ``factor`` times its ``base_lr``; gives the largest that results."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return max(group["lr"] for group in optimizer.param_groups)


def _warm(step: int, steps: int, warmup: float) -> float:
    """Linear from a thousandth to 1 over the first ``warmup`` (a share) of the steps."""
    done = step / max(1.0, warmup * steps)
    return min(1.0, 0.001 + 0.999 * done)


def stepped(
    step: int,
    steps: int,
    *,
    at: Sequence[float] = (8 / 12, 11 / 12),
    factor: float = 0.1,
    warmup: float = 0.05,
) -> float:
    """Times ``factor`` at each of the shares ``at`` of the run: the schedule of the R-CNN line."""
    drops = sum(step >= share * steps for share in at)
    return _warm(step, steps, warmup) * factor**drops


def poly(step: int, steps: int, *, power: float = 0.9, warmup: float = 0.05) -> float:
    """(1 - t) to the ``power`` over the run: the schedule of DeepLab and of most segmenters since
    (https://arxiv.org/abs/1606.00915, section 4.1)."""
    return _warm(step, steps, warmup) * (1 - step / steps) ** power


def cosine(step: int, steps: int, *, warmup: float = 0.05, final: float = 0.0) -> float:
    """Half a cosine from 1 down to ``final`` (https://arxiv.org/abs/1608.03983, no restarts)."""
    height = 0.5 * (1 + math.cos(math.pi * step / steps))
    return _warm(step, steps, warmup) * (final + (1 - final) * height)


def one_cycle(
    step: int, steps: int, *, rise: float = 0.3, start: float = 0.04, final: float = 4e-6
) -> float:
    """Half a cosine up from ``start`` over the share ``rise`` of the run, another down to ``final``
    (https://arxiv.org/abs/1708.07120)."""
    top = rise * steps
    if step < top:
        return start + (1 - start) * 0.5 * (1 - math.cos(math.pi * step / top))
    fall = (step - top) / max(1.0, steps - top)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * fall))


def freeze(model: nn.Module, stages: int) -> None:
    """Keep the first stages of the backbone as they are, stem first: their parameters get no
    gradient, their BatchNorm uses the statistics it has.

    Raises:
        SightlineError: the backbone has fewer stages.
    """
    if stages == 0:
        return
    present = model.backbone.stages()  # type: ignore[union-attr,operator]
    if stages > len(present):
        raise SightlineError(f"cannot freeze {stages} stages: the backbone has {len(present)}")
    for stage in present[:stages]:
        freeze_batchnorm(stage)
        stage.requires_grad_(False)


def parts_of(batch: Batch, count: int) -> Iterator[Batch]:
    """The batch in at most ``count`` parts, padded as the whole."""
    for rows in torch.arange(len(batch.targets)).tensor_split(count):
        if len(rows):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            pixels, sizes, regions = batch.images
            images = Images(pixels[part], sizes[part], None if regions is None else regions[part])
            rest = batch.targets[part], batch.placements[part], batch.indices[part]
            yield Batch(images, *rest)


def seed_generators(*parts: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch with one number made of all parts."""
    seed = int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def traceless(model: nn.Module, device: torch.device) -> Iterator[None]:
    """After, buffers and random generators are as before."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    for buffer, before in buffers:
        buffer.copy_(before)


class Ema:
    """A moving average of a model's weights and BatchNorm statistics.

    The decay grows from 0.1 to what was asked for, so that the first random weights are soon
    forgotten. Whole numbers (counters) are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after step ``step``, counted from 0."""
        rest = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.values[name].lerp_(value, rest)
            else:
                self.values[name].copy_(value)

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """Within, the model has the averaged weights; after, its own again, bit for bit."""
        own = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.values)
        try:
            yield
        finally:
            model.load_state_dict(own)


def averaged(model: nn.Module, ema: Ema | None) -> AbstractContextManager[None]:
    """Within, the model has the averaged weights, where there are any."""
    return nullcontext() if ema is None else ema.in_place_of(model)
