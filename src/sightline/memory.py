"""Memory that one step has freed, kept for the next."""

import ctypes
import sys

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
