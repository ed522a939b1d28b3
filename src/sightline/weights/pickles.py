"""Tensors out of pickles, which could run any program: nothing but tensors is made of them."""

import pickle
import pickletools
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from sightline.errors import SightlineError

# What the reading of a damaged pickle raises: its stack, its memory of values, its numbers.
_DAMAGED = (
    *(RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError),
    *(ArithmeticError, AssertionError, MemoryError, struct.error),
)


def tensors_in(path: Path) -> dict[str, Tensor]:
    """By name: those of a file that PyTorch wrote, or, in a .pkl, Detectron2's arrays; of a
    training's checkpoint its entry "model".

    Raises:
        SightlineError: not such a file, cut short, or with more in it than tensors.
    """
    try:
        with path.open("rb") as file:  # of a path whose name tells another format torch reads that
            if path.suffix == ".pkl":
                content = _arrays(file)
            else:
                content = torch.load(file, map_location="cpu", weights_only=True)
        state = content.get("model", content) if isinstance(content, dict) else {}
        if not isinstance(state, dict):
            raise SightlineError(f"{path}: its entry 'model' holds no tensors by name")
        named = {key: value for key, value in state.items() if isinstance(key, str)}
        return {k: torch.as_tensor(v) for k, v in named.items() if isinstance(v, _KINDS)}
    except pickle.UnpicklingError as error:
        raise SightlineError(
            f"{path}: holds more than tensors, or is no PyTorch file; such files are not opened, "
            "since they can run any program"
        ) from error
    except _DAMAGED as error:
        reason = str(error).split("\n")[0]
        raise SightlineError(f"{path}: no PyTorch file, or one cut short ({reason})") from error


_KINDS = (Tensor, np.ndarray)


def _encode(text: str, encoding: str) -> bytes:
    """How old protocols write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes as {encoding}")
    return text.encode("latin1")


_RECONSTRUCT, _SCALAR = np.zeros(0).__reduce__()[0], np.float32(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _RECONSTRUCT for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _SCALAR for core in ("core", "_core")},
}


def _arrays(file: BinaryIO) -> Any:
    """Looked through first: CPython reports a bytearray that is cut short on its own account, too.

    Raises:
        pickle.UnpicklingError: what is in it is neither a dict, a number, a string nor an array.
    """
    for _ in pickletools.genops(file):
        pass
    file.seek(0)
    return _Arrays(file).load()


class _Arrays(pickle.Unpickler):
    """Makes dicts, numbers, strings and arrays of them."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return _ALLOWED[module, name]
