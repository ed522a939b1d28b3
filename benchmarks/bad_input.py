"""Ten thousand spoiled inputs: ``uv run python -m benchmarks.bad_input [--count 10000] [--seed 0]
[--kinds annotations images checkpoints recipes commands] [--only annotations:17]``.

Annotations, pictures, checkpoints, runs and command lines are spoiled (``benchmarks/mutations.py``)
and used as a user would (``bad_cases.py``, ``bad_runs.py``), those of ``SIGHTLINE_DATA`` too where
it is set. Each must end in a valid result or in one line that names the file, with exit code 2. A
traceback, a hang, a crash, a half-written file, a data set or an answer that cannot be right is a
failure, and is printed with what runs it again alone (``--only``). Exits with 1 where there is one.

The cases run in forked processes, a hundred in each, with a limit on seconds and on memory: what
hangs or takes the process down is counted, and the next process goes on behind it.
"""

import argparse
import json
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

SHARES = {"annotations": 35, "images": 25, "checkpoints": 15, "recipes": 12, "commands": 13}
CHUNK = 100  # cases in a process
MEMORY = 6 << 30  # bytes beyond what a process has at its start


class Case(NamedTuple):
    kind: str
    seed: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.seed}"


class Ended(NamedTuple):
    case: Case
    outcome: str  # result, one line, or a failure: wrong, traceback, hang, crash
    detail: str
    seconds: float


def cases(count: int, seed: int, kinds: Sequence[str]) -> list[Case]:
    """Each kind in its share, spread evenly."""
    wheel = [kind for kind in kinds for _ in range(SHARES[kind])]
    random.Random(0).shuffle(wheel)
    return [Case(wheel[number % len(wheel)], seed + number) for number in range(count)]


def run_case(case: Case, material: Path, scratch: Path) -> tuple[str, str]:
    """Outcome and detail of one, in an empty folder that is the working one."""
    from benchmarks.bad_cases import Wrong
    from benchmarks.bad_runs import KINDS

    folder = scratch / "case"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.chdir(folder)
    rng = random.Random(str(case))
    try:
        detail = KINDS[case.kind](rng, material, folder)
    except Wrong as wrong:
        return "wrong", str(wrong)
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "sightline" in frame.filename] or frames
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno} {ours[-1].name}"
        return "traceback", f"{type(error).__name__} in {place}: {str(error)[:300]}"
    return ("one line" if "error: " in detail else "result"), detail


def work(todo: Sequence[Case], material: Path, scratch: Path, results: int) -> None:
    """In a process of its own: says of each case that it begins, and how it ended."""
    import torch

    torch.set_num_threads(1)
    os.setpgid(0, 0)  # so that it can be ended with what it started
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    elsewhere = os.open(scratch / "elsewhere", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(elsewhere, number)
        setattr(sys, name, (scratch / name).open("a+"))
    with os.fdopen(results, "w") as pipe:
        for case in todo:
            print(json.dumps([str(case)]), file=pipe, flush=True)
            began = time.monotonic()
            outcome, detail = run_case(case, material, scratch)
            print(json.dumps([outcome, detail, time.monotonic() - began]), file=pipe, flush=True)


def in_processes(
    todo: Sequence[Case], material: Path, scratch: Path, seconds: float
) -> Iterator[Ended]:
    """Every case, by process after process; one that is silent for too long is ended."""
    place = 0
    while place < len(todo):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            code = 1
            try:
                work(todo[place : place + CHUNK], material, scratch, writing)
                code = 0
            finally:
                os._exit(code)
        os.close(writing)
        for ended in _follow(todo[place : place + CHUNK], reading, child, seconds):
            place += 1
            yield ended


def _follow(todo: Sequence[Case], reading: int, child: int, seconds: float) -> Iterator[Ended]:
    with closing(_lines(reading, seconds)) as told:
        for case in todo:
            began = time.monotonic()
            ended = next(told) and next(told)  # the first says that it begins
            if ended:
                outcome, detail, taken = json.loads(ended)
                yield Ended(case, outcome, detail, taken)
                continue
            hung = ended is None
            os.killpg(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            what = f"after {seconds:g} s" if hung else f"wait status {status}"
            yield Ended(case, "hang" if hung else "crash", what, time.monotonic() - began)
            return
    os.waitpid(child, 0)


def _lines(reading: int, seconds: float) -> Generator[str | None]:
    """Of a pipe, one after the other; empty where its process has ended, None where it says nothing
    in time. (What Python buffers itself is hidden from ``select``.)"""
    rest = b""
    try:
        while True:
            line, end, after = rest.partition(b"\n")
            if end:
                rest = after
                yield line.decode()
            elif not select.select([reading], [], [], seconds)[0]:
                yield None
            elif more := os.read(reading, 1 << 16):
                rest += more
            else:
                yield ""
    finally:
        os.close(reading)


def prepare(material: Path) -> None:
    """The valid files; what is exported or trained for them, in processes that end."""
    for part in ("all", "export", "run"):
        subprocess.run(
            [sys.executable, "-m", "benchmarks.bad_material", material, part], check=True
        )


def report(ended: Sequence[Ended], seconds: float) -> bool:
    """Counts by kind and outcome; whether all is well."""
    outcomes = ["result", "one line", "wrong", "traceback", "hang", "crash"]
    counts = Counter((each.case.kind, each.outcome) for each in ended)
    kinds = list(dict.fromkeys(kind for kind, _ in counts))
    print(f"{'':14}" + "".join(f"{outcome:>10}" for outcome in outcomes) + f"{'all':>10}")
    for kind in sorted(kinds):
        row = [counts[kind, outcome] for outcome in outcomes]
        print(f"{kind:14}" + "".join(f"{number:10}" for number in [*row, sum(row)]))
    row = [sum(counts[kind, outcome] for kind in kinds) for outcome in outcomes]
    print(f"{'all':14}" + "".join(f"{number:10}" for number in [*row, sum(row)]))
    slowest = max(ended, key=lambda each: each.seconds)
    print(f"{seconds:.0f} s; the slowest, {slowest.case}, took {slowest.seconds:.1f} s")
    return sum(row[:2]) == len(ended)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--only", nargs="+", metavar="KIND:SEED", help="these cases alone")
    parser.add_argument("--seconds", type=float, default=20, help="limit for each case")
    parser.add_argument("--material", type=Path, help="keep the valid files in this folder")
    parser.add_argument("--show", action="store_true", help="print how every case ended")
    options = parser.parse_args()
    todo = cases(options.count, options.seed, options.kinds)
    if options.only:
        parts = [name.split(":") for name in options.only]
        todo = [Case(kind, int(seed)) for kind, seed in parts]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        material = (options.material or Path(scratch, "material")).resolve()
        if not material.exists():
            prepare(material)
        import benchmarks.bad_runs  # noqa: F401  before the processes fork: it imports torch

        ended = []
        for each in in_processes(todo, material, Path(scratch), options.seconds):
            ended.append(each)
            if options.show or options.only or each.outcome not in ("result", "one line"):
                print(
                    f"{each.case}  {each.outcome}, {each.seconds:.2f} s: {each.detail}", flush=True
                )
        return 0 if report(ended, time.monotonic() - began) else 1


if __name__ == "__main__":
    sys.exit(main())
