"""The checkpoints of torchvision's detectors and segmenters (``releases.py`` lists them).

Differences of form. Background is row 0 there, the last here (in label maps, where it is a class
like others, as the stuff after the things). Rows of detectors are COCO's category ids 1..90
with eleven gaps ("N/A") there, the 80 categories here; what little probability a trained model
leaves in the gaps is shared out. BatchNorm divides by another eps in two of them (0 in the first
ResNet, 1e-5 in MobileNet): the factor is folded into its weight, so that the tensors serve any
model of ours. The file itself does not tell its eps: torchvision takes 0 for its own COCO weights
alone, so a frozen ResNet with COCO's 91 rows is read with 0 and one with other classes with 1e-5.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from sightline.errors import SightlineError
from sightline.models import Card
from sightline.types import Classes
from sightline.weights.native import Weights
from sightline.weights.pickles import tensors_in
from sightline.weights.releases import RELEASES, Release

_KINDS = "weight", "bias"
_COCO_ROWS = 91


def read_torchvision(path: Path, name: str | None = None) -> Weights:
    """A checkpoint of one of ``RELEASES``, published or a user's own with other classes.

    Args:
        name: which of them; None: by the names of its tensors (the 320-pixel variant, which has the
            same ones, if the file's name says 320).

    Raises:
        SightlineError: not such a checkpoint, cut short, or with more in it than tensors.
    """
    return from_torchvision(path, tensors_in(path), name)


def from_torchvision(path: Path, state: Mapping[str, Tensor], name: str | None = None) -> Weights:
    """As ``read_torchvision``, the file's tensors being read."""
    release = RELEASES[name or recognise(path, state)]
    count = _count_classes(path, state, release)
    frozen = not any(key.endswith("num_batches_tracked") for key in state)
    options = dict(release.options)
    if not frozen and "freeze_norm" in options:
        options["freeze_norm"] = False
    classes = _classes(release, count)
    tensors = {_rename(key, release): value for key, value in _reorder(state, release, classes)}
    if frozen or release.our_eps != 1e-5:
        had = release.trained_eps if frozen and count == _COCO_ROWS else 1e-5
        tensors |= _at_eps(tensors, "backbone.", had, release.our_eps)
    history = {"source": "torchvision", "weights": release.enum, "file": path.name}
    return Weights(
        source=name or str(path),
        card=Card(release.model, options, classes, (history,)),
        preprocess=release.preprocess,
        tensors=counters(tensors) | tensors,
    )


def counters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of all BatchNorms, at 0: frozen ones are published without."""
    means = [key for key in tensors if key.endswith(".running_mean")]
    return {key.replace("running_mean", "num_batches_tracked"): torch.tensor(0) for key in means}


def recognise(path: Path, state: Mapping[str, Tensor]) -> str:
    """Which of the models the tensors are of."""
    fitting = {
        name: release
        for name, release in RELEASES.items()
        if release.named in path.name and all(key in state for key in release.holds)
    }
    if fitting:
        return max(fitting, key=lambda n: (len(fitting[n].named), len(fitting[n].holds)))
    some = ", ".join(list(state)[:2]) or "nothing"
    raise SightlineError(
        f"{path}: none of the checkpoints known here ({', '.join(RELEASES)}); it holds {some}, ..."
    )


def _count_classes(path: Path, state: Mapping[str, Tensor], release: Release) -> int:
    """The rows of classes in the file, background among them.

    Raises:
        SightlineError: a last layer is missing, or does not have so many rows.
    """
    if missing := [
        name
        for layer in release.last
        for kind in _KINDS
        if (name := f"{layer}.{kind}") not in state
    ]:
        raise SightlineError(f"{path}: {missing[0]} is missing: the weights of a whole model?")
    layer, rows = next(iter(release.last.items()))
    count = state[f"{layer}.bias"].numel() // (rows.anchors * rows.values)
    for layer, rows in release.last.items():
        for kind, dimensions in zip(_KINDS, ((2, 4), (1,)), strict=True):
            shape, wanted = state[f"{layer}.{kind}"].shape, count * rows.anchors * rows.values
            if count < 2 or len(shape) not in dimensions or shape[0] != wanted:
                raise SightlineError(f"{path}: {layer}.{kind} is {list(shape)}: damaged?")
    return count


def published_url(name: str) -> str:
    from torchvision.models import get_weight

    url: str = get_weight(RELEASES[name].enum).url
    return url


def _classes(release: Release, count: int) -> Classes:
    from torchvision.models import get_weight

    names = get_weight(release.enum).meta["categories"]
    if count != len(names):  # a user's own
        names = ["__background__", *(f"class {number}" for number in range(1, count))]
    ids = [number for number, name in enumerate(names) if number > 0 and name != "N/A"]
    return Classes(tuple(names[number] for number in ids), tuple(ids), stuff=release.stuff)


def _rename(key: str, release: Release) -> str:
    for pattern, replacement in release.renames:
        renamed, found = re.subn(pattern, replacement, key)
        if found:
            return renamed
    return key


def _reorder(
    state: Mapping[str, Tensor], release: Release, classes: Classes
) -> Iterator[tuple[str, Tensor]]:
    """Rows of the last layers are our classes, then background where it is one."""
    for key, value in state.items():
        layer, _, _ = key.rpartition(".")
        if layer in release.last:
            anchors, values, background = release.last[layer]
            kept = [*classes.ids, 0] if background else list(classes.ids)
            value = value.unflatten(0, (anchors, -1, values))[:, kept].flatten(0, 2)
        yield key, value


def _at_eps(
    tensors: Mapping[str, Tensor], prefix: str, had: float, has: float
) -> dict[str, Tensor]:
    """The weights that give with ``has`` in the denominator what they gave with ``had``."""
    changed = {}
    for key, var in tensors.items():
        if key.startswith(prefix) and key.endswith(".running_var"):
            weight = key.replace("running_var", "weight")
            if weight not in tensors or tensors[weight].shape != var.shape:
                continue  # whoever builds the model says so
            factor = ((var.double() + has) / (var.double() + had)).sqrt()
            changed[weight] = (tensors[weight].double() * factor).to(tensors[weight].dtype)
    return changed
