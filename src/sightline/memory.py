"""Memory that one step has freed, kept for the next; memory that is full."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sightline.errors import SightlineError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGEST = 2**31 - 1  # bytes; the parameters are ints


def keep_freed_memory() -> None:
    """Asks the C library to keep what is freed, for this process.

    glibc gives every tensor of more than 32 MB back to the system at once, and the next one of its
    size is mapped anew, page by page: on feature maps of large pictures that costs more than the
    arithmetic of an activation (docs/log.md). The process stays as large as it once was. Elsewhere
    than on Linux with glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # An older glibc refuses so large a threshold; the other alone would freeze its small one.
    if mallopt is not None and mallopt(_MMAP_THRESHOLD, _LARGEST):
        mallopt(_TRIM_THRESHOLD, _LARGEST)


@contextmanager
def memory_explained(batch: int, accumulate: int | None = None) -> Iterator[None]:
    """Around work on batches of this size; in training, in so many parts.

    Raises:
        SightlineError: in place of what tells that the memory is full.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        kinds = (torch.OutOfMemoryError, MemoryError)
        if not isinstance(error, kinds) and "DefaultCPUAllocator" not in str(error):
            raise
        told = f"out of memory with --batch {batch}: lower it"
        if accumulate is not None:
            told = (
                f"out of memory with --batch {batch} --accumulate {accumulate}: double "
                "--accumulate for the same batch in less memory, or lower --batch or --short, with "
                "another --out"
            )
        raise SightlineError(told) from error
