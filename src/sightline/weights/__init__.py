"""Checkpoints, ours and public ones: saved, loaded by name or from a file, carried over to another
list of classes."""

from difflib import get_close_matches
from pathlib import Path

from torch import nn

from sightline.errors import SightlineError
from sightline.weights.detectron2 import ZOO, from_detectron2, is_detectron2, zoo_url
from sightline.weights.download import fetch
from sightline.weights.native import Weights, build, read_native, save
from sightline.weights.pickles import tensors_in
from sightline.weights.releases import RELEASES
from sightline.weights.torchvision import from_torchvision, published_url, read_torchvision
from sightline.weights.transfer import Transfer, transfer_weights

__all__ = ["BEST", "FINAL", "NAMES", "Transfer", "Weights", "load", "read", "save", "transfer"]

# What a run leaves in its folder: the weights of the best validation, and those at the end.
BEST, FINAL = "best.safetensors", "model.safetensors"
# Public checkpoints, downloaded at the first use.
NAMES = (*RELEASES, *ZOO)


def load(path_or_name: str | Path) -> nn.Module:
    """The model of a checkpoint, with its card and preprocessing, in eval mode.

    Args:
        path_or_name: a file written by ``save``, torchvision or Detectron2, the folder of a run
            (its best weights), or one of ``NAMES``.

    Raises:
        SightlineError: no such file or name, or the file is not a checkpoint that can be used.
    """
    return build(read(path_or_name))


def transfer(model: nn.Module, path_or_name: str | Path) -> Transfer:
    """Start the model, made for its own list of classes, from a checkpoint: see
    ``transfer_weights``.

    Raises:
        SightlineError: as ``load``; or nothing in the file fits the model.
    """
    return transfer_weights(model, read(path_or_name))


def read(path_or_name: str | Path) -> Weights:
    """A checkpoint as it stands, before any model is built."""
    name, path = str(path_or_name), Path(path_or_name)
    if name in RELEASES:
        return read_torchvision(fetch(published_url(name), name), name)
    if name in ZOO:
        path = fetch(zoo_url(name), name)
        return from_detectron2(path, tensors_in(path), name)
    try:
        path = of_run(path) or path
        start = _first_bytes(path)
    except OSError as error:
        raise SightlineError(f"cannot read {name}: {error.strerror}") from error
    # PyTorch writes a zip archive, formerly a bare pickle; Detectron2 a pickle of arrays.
    if path.suffix != ".pkl" and start not in (b"PK", b"\x80\x02"):
        return read_native(path)
    tensors = tensors_in(path)
    return (from_detectron2 if is_detectron2(tensors) else from_torchvision)(path, tensors)


def _first_bytes(path: Path) -> bytes:
    """Raises:
    SightlineError: there is no such file.
    """
    if path.is_dir():
        raise SightlineError(f"{path} is a folder, but not one of a run: name a file in it")
    if not path.is_file():
        near = get_close_matches(str(path), NAMES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known names: {', '.join(NAMES)}"
        raise SightlineError(f"{path}: no such file, nor the name of public weights; {hint}")
    with path.open("rb") as file:
        return file.read(2)


def of_run(folder: Path) -> Path | None:
    """The weights of a run's best validation, or those at its end where nothing was validated;
    nothing in another folder."""
    return next((folder / name for name in (BEST, FINAL) if (folder / name).is_file()), None)
