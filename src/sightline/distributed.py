"""The one file that knows ``torch.distributed``: every function here also serves a single process.

Start a run with ``torchrun --nproc-per-node N`` and each process takes its share of every batch:
gloo carries the numbers between CPUs, nccl between GPUs. Where a process is killed, gloo tells the
others at once, and each ends with one line; in nccl they may wait for it, until torchrun, which
asks them to stop, kills them after half a minute.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sightline.errors import SightlineError


def rank() -> int:
    """Which of the processes this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def joined(device: str = "auto") -> Iterator[torch.device]:
    """Within, the processes that torchrun started know one another; gives this one's device.

    Args:
        device: auto (a GPU where there is one), cpu or cuda.

    Raises:
        SightlineError: a GPU is asked for and there is none, or fewer than processes; another
            process has ended.
    """
    chosen = pick_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield chosen
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield chosen
    except RuntimeError as error:
        if "gloo" not in str(error) and not isinstance(error, dist.DistError):
            raise
        raise SightlineError(
            "another process of this run has ended, and so this one does; the last checkpoint is "
            "as it was: start them all again"
        ) from error
    finally:
        dist.destroy_process_group()


def pick_device(device: str) -> torch.device:
    """The device a name means for this process."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    if chosen.type != "cuda":
        return chosen
    place = int(os.environ.get("LOCAL_RANK", "0")) if chosen.index is None else chosen.index
    if place >= torch.cuda.device_count():
        raise SightlineError(
            f"device {device}: process {place} finds {torch.cuda.device_count()} GPUs; "
            "start fewer processes, or give --device cpu"
        )
    torch.cuda.set_device(place)
    return torch.device("cuda", place)


def wrap(model: nn.Module, device: torch.device) -> nn.Module:
    """The model whose backward pass averages the gradients over all processes.

    Buffers (BatchNorm statistics) are those of process 0, sent to the others at each forward pass.
    """
    if world() == 1:
        return model
    return DistributedDataParallel(model, [device] if device.type == "cuda" else None)


def unsynced(model: nn.Module) -> AbstractContextManager[None]:
    """Within, gradients stay with each process: for all but the last part of a batch."""
    if isinstance(model, DistributedDataParallel):
        return model.no_sync()
    return nullcontext()


def total(values: Tensor) -> Tensor:
    """The sum over all processes."""
    if world() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def agreed(asked: bool) -> bool:
    """Whether any process says so."""
    if world() == 1:
        return asked
    place = torch.cuda.current_device() if dist.get_backend() == "nccl" else "cpu"
    return bool(total(torch.tensor(int(asked), device=place)))


def gathered(value: Any) -> list[Any]:
    """The value of every process, in their order."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def same_buffers(model: nn.Module) -> None:
    """Give every process the buffers of process 0."""
    if world() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
