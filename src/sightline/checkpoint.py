"""The state of a training run in one safetensors file: all that the next step depends on.

A file is written beside its name, forced to the disk and renamed: whoever opens the name finds the
old file or the new one, whole, whatever happens in between. Every random choice of a run comes from
its seed and the step, so no generator is saved.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from sightline import distributed
from sightline.errors import SightlineError
from sightline.files import UNSEALED, is_sealed, replacing
from sightline.optim import Ema
from sightline.weights.native import write_tensors

FORMAT = "sightline.training 1"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Within, no other process gets into this block with the same folder.

    Raises:
        SightlineError: another one is in it, or the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise SightlineError(
            f"{folder}: no run can be kept here ({error.strerror}); name another with --out"
        ) from error
    with file:
        if os.name == "posix":
            _lock(file, folder)
        yield


def _lock(file: IO[str], folder: Path) -> None:
    import fcntl

    try:
        # A record lock ends with its process, however that ends; children do not inherit it.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise SightlineError(f"{folder}: another run is at work in this folder") from error


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """A small file, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(values, indent=1) + "\n")


def save_state(
    path: Path,
    model: nn.Module,
    optimizer: Optimizer,
    ema: Ema | None,
    progress: Mapping[str, Any],
) -> None:
    """Write what the run needs to go on.

    Args:
        progress: JSON values: the step and whatever else the loop keeps.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    if ema is not None:
        tensors |= {f"ema.{name}": value for name, value in ema.values.items()}
    plain: dict[str, Any] = {}
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            kept = tensors if isinstance(value, Tensor) else plain
            kept[f"optimizer.{index}.{name}"] = value
    metadata = {
        "format": FORMAT,
        "progress": json.dumps(dict(progress)),
        "optimizer": json.dumps(plain),
        "seal": UNSEALED,
    }
    write_tensors(path, {name: _copy(value) for name, value in tensors.items()}, metadata)


def _copy(tensor: Tensor) -> Tensor:
    """safetensors takes neither tensors that share memory nor other memory formats."""
    return tensor.detach().clone(memory_format=torch.contiguous_format).cpu()


def read_progress(path: Path) -> dict[str, Any]:
    """What ``save_state`` was given as ``progress``.

    Raises:
        SightlineError: no state of a run is in the file, or it is damaged.
    """
    metadata = _open(path).metadata() or {}
    if metadata.get("format") != FORMAT or not is_sealed(path):
        raise SightlineError(f"{path}: not the state of a run that this version can go on with")
    progress: dict[str, Any] = json.loads(metadata["progress"])
    return progress


def load_state(path: Path, model: nn.Module, optimizer: Optimizer, ema: Ema | None) -> None:
    """Bring model, optimiser and averaged weights, built as for the first step, to where they
    were when the file was written.

    Raises:
        SightlineError: the file is damaged, or is the state of another model.
    """
    file = _open(path)
    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    try:
        model.load_state_dict(_under("model.", tensors))
    except RuntimeError as error:
        raise SightlineError(f"{path}: the state of another model ({error})") from error
    if ema is not None:
        for name, value in _under("ema.", tensors).items():
            ema.values[name].copy_(value)
    values = _under("optimizer.", tensors) | _under(
        "optimizer.", json.loads(file.metadata()["optimizer"])
    )
    _load_optimizer(optimizer, values)


def _load_optimizer(optimizer: Optimizer, values: Mapping[str, Any]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for key, value in values.items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        if isinstance(value, Tensor) and name != "step":  # PyTorch counts steps on the CPU
            value = value.to(parameter.device)
            if value.shape == parameter.shape:  # in its memory format, as the optimiser made it
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        optimizer.state[parameter][name] = value


def _under(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    inside = (item for item in values.items() if item[0].startswith(prefix))
    return {name.removeprefix(prefix): value for name, value in inside}


def _open(path: Path) -> Any:
    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise SightlineError(f"{path}: damaged or cut short ({error})") from error


_MOST_THREADS = 4096  # of any machine

# Settings that change where and how fast a run is made, never what comes out of it.
FREE = ("settings.out", "settings.workers")


def enter_folder(
    path: Path, state: Path, recipe: Mapping[str, Any], machine: Mapping[str, Any]
) -> list[str]:
    """See whether the run of a folder may go on with this recipe and on this machine.

    Args:
        path: the run's ``run.json``, if it has one.
        state: its last checkpoint: before the first one, the recipe may still change.
        machine: what the run's bits depend on beside the recipe: ``threads`` and more.

    Gives what differs in the machine, a line each; the number of threads is restored.

    Raises:
        SightlineError: the folder holds a run of another recipe, or ``path`` cannot be read, or is
            missing beside a state.
    """
    if not path.exists():
        if state.exists():
            raise SightlineError(
                f"{path} is missing, so that nobody can tell of which run {state.name} is: put it "
                "back, or begin anew with another --out"
            )
        return []
    try:
        before = json.loads(path.read_text())
        saved, made_on = before["recipe"], before["machine"]
        threads = made_on["threads"]
        whole = type(threads) is int and 1 <= threads <= _MOST_THREADS
        if not whole or not isinstance(saved, dict):
            raise ValueError("no recipe, or no machine")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SightlineError(f"{path}: not the description of a run ({error})") from error
    if changed := differences(saved, recipe, FREE):
        if not state.exists():
            return []
        raise SightlineError(
            f"{path.parent} holds another run, give --out another folder, or the settings of that "
            f"run; they differ in {'; '.join(changed)}"
        )
    torch.set_num_threads(threads)
    if torch.get_num_threads() != threads:
        raise SightlineError(f"{path.parent}: made with {threads} threads, which are not to be had")
    return differences(made_on, {**machine, "threads": threads})


def machine(device: torch.device) -> dict[str, Any]:
    """What the bits of a run depend on, beside its recipe."""
    cuda = device.type == "cuda"
    return {
        "threads": torch.get_num_threads(),
        "processes": distributed.world(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device)
        if cuda
        else torch.backends.cpu.get_cpu_capability(),
    }


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], free: Sequence[str] = ()
) -> list[str]:
    """``name: x in the run, y now`` for each field in which nested JSON values differ, those that
    are ``free`` to differ left out."""
    old, new = _flat(before), _flat(now)
    names = [*old, *(name for name in new if name not in old)]
    return [
        f"{name}: {_shown(old, name)} in the run, {_shown(new, name)} now"
        for name in names
        if name not in free and _shown(old, name) != _shown(new, name)
    ]


def _shown(values: dict[str, Any], name: str) -> str:
    if name not in values:
        return "absent"
    value = values[name]
    whole = isinstance(value, int) and not isinstance(value, bool)
    return json.dumps(float(value) if whole else value)  # 1 given as 1.0 is no difference


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
