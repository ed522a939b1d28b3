"""Memory kept between steps, and memory that is full."""

import subprocess
import sys

import pytest
import torch

from sightline.errors import SightlineError
from sightline.memory import memory_explained

PROGRAM = """
import resource, sys, torch
from sightline.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(16):  # until the heap has room for two beside one another
    torch.zeros(16 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.zeros(16 << 20)  # 64 MB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_freed_memory_is_not_mapped_again() -> None:
    """64 MB are 16,384 pages of 4 kB; kept, tensors touch none of them anew."""

    def faults(how: str) -> int:
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True
        )
        return int(run.stdout)

    assert faults("keep") < 100
    assert faults("return") > 4 * 16_000


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate"),
    ],
)
def test_a_full_memory_is_one_line(error: Exception) -> None:
    with pytest.raises(SightlineError, match="--batch 8: lower it"), memory_explained(8):
        raise error
    with pytest.raises(SightlineError, match="double --accumulate"), memory_explained(8, 2):
        raise error


def test_another_error_is_none_of_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_explained(8):
        raise RuntimeError("shapes differ")
