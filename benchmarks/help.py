"""How long the command line takes to answer ``--help``: ``uv run python -m benchmarks.help``.

Promised: ``sightline --help`` in under 0.5 s, ``sightline train --help`` in under 1 s (median of
seven, on a machine that does nothing else). Exits with 1 where a promise is broken.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

PROMISED = {("--help",): 0.5, ("train", "--help"): 1.0, ("train", "faster_rcnn", "--help"): 1.0}
COMMAND = Path(sys.executable).with_name("sightline")


def median_seconds(arguments: tuple[str, ...], times: int = 7) -> float:
    """Of whole runs of the installed command, the start of Python included."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run([COMMAND, *arguments], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> int:
    kept = True
    for arguments, limit in PROMISED.items():
        taken = median_seconds(arguments)
        kept &= taken < limit
        print(f"sightline {' '.join(arguments):<26} {taken:.2f} s (promised {limit} s)")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
