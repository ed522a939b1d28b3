"""Memory kept between steps."""

import subprocess
import sys

import pytest

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
