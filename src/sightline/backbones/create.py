"""One function for every backbone: ``create_backbone(name)``."""

import difflib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sightline.backbones.backbone import Backbone
from sightline.backbones.mobilenet import (
    SSD_STRIDES,
    STRIDES,
    tv_mobilenet_v3_large,
    tv_mobilenet_v3_large_ssd,
)
from sightline.backbones.msra import MSRA, stride_first
from sightline.errors import SightlineError
from sightline.layers.norm import freeze_batchnorm


class Own(NamedTuple):
    """A network that timm lacks."""

    build: Callable[[bool, Sequence[int]], Backbone]  # pretrained, levels
    strides: tuple[int, ...]  # of all maps it has
    usual: tuple[int, ...]  # the levels that torchvision's detectors take


_reduced_mobilenet = partial(tv_mobilenet_v3_large_ssd, reduced=True)
OWN = {
    "tv_mobilenet_v3_large": Own(tv_mobilenet_v3_large, STRIDES, usual=(4, 5)),
    "tv_mobilenet_v3_large_ssd": Own(tv_mobilenet_v3_large_ssd, SSD_STRIDES, usual=(0, 1)),
    "tv_mobilenet_v3_large_ssd_reduced": Own(_reduced_mobilenet, SSD_STRIDES, usual=(0, 1)),
}

# How timm's transformers are told that pictures come in many sizes; the first that the network
# knows is used.
_ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"dynamic_img_size": True},
    {"strict_img_size": False},
    {},
)


def create_backbone(
    name: str,
    pretrained: bool = False,
    *,
    output_stride: int = 32,
    levels: Sequence[int] | None = None,
    finest: int | None = None,
    frozen_norm: bool = False,
    norm_eps: float | None = None,
) -> Backbone:
    """The network of that name, cut down to what gives its feature maps.

    Args:
        name: a model of timm (``timm.list_models()``), with or without a tag of pretrained weights
            (``resnet50.a1_in1k``), or one of ``OWN`` or ``MSRA``.
        pretrained: start from weights trained on ImageNet, downloaded at the first use.
        output_stride: 8 or 16 dilates the last stages instead of striding (where the network can).
        levels: which of the network's own maps, counted from 0. None: all of stride ``finest`` and
            coarser; of a plain transformer, whose maps share one stride, the last.
        finest: left out, 4; but of those in ``OWN`` the maps that torchvision's detectors take.
        frozen_norm: every BatchNorm keeps its statistics and its affine map.
        norm_eps: the eps of every BatchNorm, where weights were trained with another.

    Raises:
        SightlineError: no such network, weights or form of it, or the weights cannot be downloaded.
    """
    if name in OWN:
        _require(output_stride == 32, f"{name} cannot be dilated: its output_stride is 32")
        backbone = _build_own(name, pretrained, levels, finest)
    elif name in MSRA:
        _require(not pretrained, f"{name} has no weights of ImageNet here: take {MSRA[name]}")
        backbone = stride_first(_from_timm(MSRA[name], False, output_stride, levels, finest))
    else:
        backbone = _from_timm(name, pretrained, output_stride, levels, finest)
    set_norm(backbone, frozen_norm, norm_eps)
    return backbone


def levels_of(name: str, strides: Sequence[int]) -> list[int]:
    """Which of a network's own maps have these strides, for ``create_backbone``: the last of each.

    Raises:
        SightlineError: no such network, or no map of one of the strides.
    """
    if name in OWN:
        present = dict(enumerate(OWN[name].strides))
    else:
        with torch.device("meta"):
            body: Any = timm_model(MSRA.get(name, name), False, features_only=True)
        info = body.feature_info  # of some networks a first map is left out, unless asked for
        present = dict(zip(info.out_indices, info.reduction(), strict=True))
    level_of = {stride: level for level, stride in present.items()}
    if missing := [stride for stride in strides if stride not in level_of]:
        raise SightlineError(
            f"backbone {name!r} has maps of strides {list(present.values())}, but none of "
            f"{missing[0]}"
        )
    return [level_of[stride] for stride in strides]


def timm_model(name: str, pretrained: bool, **options: Any) -> nn.Module:
    """A timm model that takes pictures of any size.

    Raises:
        SightlineError: no such model or weights, or they cannot be downloaded.
    """
    import timm  # seconds: only where a network is built

    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(
            architecture, [*timm.list_models(), *OWN, *MSRA], n=3, cutoff=0.5
        )
        hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        raise SightlineError(f"there is no backbone {name!r}: {hint}")
    with one_line_errors(name):
        model = _of_any_size(partial(timm.create_model, name, pretrained=pretrained, **options))
    if not pretrained:
        open_branches(model)
    return model


def _of_any_size(create: Callable[..., nn.Module]) -> nn.Module:
    for any_size in _ANY_SIZE[:-1]:
        try:
            return create(**any_size)
        except TypeError:  # this network has no such argument
            continue
    return create()


def open_branches(body: nn.Module) -> None:
    """Let every residual branch take part from the first step.

    timm starts the last BatchNorm of a branch at 0, for long schedules with large batches
    (https://arxiv.org/abs/1706.02677, section 5.1); a detector trained from scratch for a few
    passes lags behind by it (docs/log.md).
    """
    for norm in body.modules():
        if not isinstance(norm, _BatchNorm) or not norm.affine or norm.weight.is_meta:
            continue
        if not norm.weight.any():
            nn.init.ones_(norm.weight)


def set_norm(module: nn.Module, frozen: bool, eps: float | None) -> None:
    """Gives every BatchNorm this eps (None: its own) and freezes it if asked."""
    if eps is not None:
        for norm in module.modules():
            if isinstance(norm, _BatchNorm):
                norm.eps = eps
    if frozen:
        freeze_batchnorm(module)


@contextmanager
def one_line_errors(name: str) -> Iterator[None]:
    """One line in place of a library's retries and traceback where weights cannot be had."""
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.CRITICAL)
    try:
        yield
    except OSError as error:
        raise SightlineError(
            f"the pretrained weights of backbone {name!r} cannot be downloaded "
            f"({_first_line(error)}); go online once, or start from random ones (pretrained=False)"
        ) from error
    except RuntimeError as error:  # timm's word for weights or forms it does not have
        raise SightlineError(f"backbone {name!r}: {_first_line(error)}") from error
    finally:
        hub.setLevel(level)


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0].rstrip(".")


def _build_own(
    name: str, pretrained: bool, levels: Sequence[int] | None, finest: int | None
) -> Backbone:
    own = OWN[name]
    if levels is None and finest is not None:
        levels = levels_of(name, sorted({stride for stride in own.strides if stride >= finest}))
    elif levels is None:
        levels = own.usual
    known = range(len(own.strides))
    _require(
        len(levels) > 0 and list(levels) == sorted(set(levels) & set(known)),
        f"{name} has levels 0 to {known[-1]}, in this order, not {levels}",
    )
    with one_line_errors(name):
        return own.build(pretrained, levels)


def _from_timm(
    name: str,
    pretrained: bool,
    output_stride: int,
    levels: Sequence[int] | None,
    finest: int | None,
) -> Backbone:
    options: dict[str, Any] = {} if levels is None else {"out_indices": tuple(levels)}
    if output_stride != 32:
        options["output_stride"] = output_stride
    try:
        body: Any = timm_model(name, pretrained, features_only=True, **options)
    except (TypeError, AssertionError, IndexError) as error:
        raise SightlineError(
            f"backbone {name!r} has no form with levels {levels} and output stride {output_stride}"
        ) from error
    _drop_unused(body)
    strides = body.feature_info.reduction()
    kept = _default_levels(strides, finest or 4) if levels is None else range(len(strides))
    return wrap_timm(body, kept)


def wrap_timm(body: Any, kept: Sequence[int]) -> Backbone:
    """A network of timm made with ``features_only``; ``kept`` counts the maps it gives."""
    info = body.feature_info
    strides, channels = info.reduction(), info.channels()
    return Backbone(
        body,
        channels=[channels[i] for i in kept],
        strides=[strides[i] for i in kept],
        levels=kept,
        stage_names=stage_names(body),
        channels_last=getattr(body, "output_fmt", None) == "NHWC",
    )


def _default_levels(strides: Sequence[int], finest: int) -> list[int]:
    if len(set(strides)) == 1:
        return [len(strides) - 1]
    return [i for i, stride in enumerate(strides) if stride >= finest]


def _drop_unused(body: Any) -> None:
    """timm's EfficientNets and MobileNets keep, and run, the blocks after the last map wanted;
    their parameters would never get a gradient."""
    wrapper, _, last = body.feature_info.module_name()[-1].partition(".")
    if wrapper == "blocks" and isinstance(getattr(body, "blocks", None), nn.Sequential):
        del body.blocks[int(last.partition(".")[0]) + 1 :]


def stage_names(body: Any) -> list[list[str]]:
    """The stem's modules, then those of each stage; a stage ends with a module that timm names as a
    level, and what precedes the first stage of stride 4 or more is the stem."""
    ends = {entry["module"].replace(".", "_") for entry in body.feature_info.info}
    groups: list[list[str]] = [[]]
    for name in _module_names(body, ends):
        groups[-1].append(name)
        if _key(name) in ends:
            groups.append([])
    *stages, rest = groups
    if not stages:
        return [rest]
    stages[-1].extend(rest)
    first = stages[0]
    if body.feature_info.info[0]["reduction"] >= 4 and len(first) > 1:
        return [first[:-1], first[-1:], *stages[1:]]
    return stages


def _module_names(module: nn.Module, ends: set[str], prefix: str = "") -> Iterator[str]:
    """The modules in their order; one that contains the end of a stage gives its members."""
    for name, child in module.named_children():
        path = prefix + name
        inside = [f"{path}.{inner}" for inner, _ in child.named_modules() if inner]
        if _key(path) not in ends and any(_key(inner) in ends for inner in inside):
            yield from _module_names(child, ends, f"{path}.")
        else:
            yield path


def _key(name: str) -> str:
    """timm wraps some networks as ``model`` or ``body``, in others it turns dots to underscores."""
    return name.removeprefix("model.").removeprefix("body.").replace(".", "_")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SightlineError(message)
