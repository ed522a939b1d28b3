"""The campaign itself: it counts what hangs, crashes and raises, goes on behind it, and gives the
same case for the same seed."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from benchmarks import bad_input, bad_runs, mutations
from benchmarks.bad_cases import Wrong


def sleepy(rng: random.Random, material: Path, folder: Path) -> str:
    time.sleep(60)
    return "too late"


def dying(rng: random.Random, material: Path, folder: Path) -> str:
    os.kill(os.getpid(), signal.SIGSEGV)
    return "never"


def raising(rng: random.Random, material: Path, folder: Path) -> str:
    raise ZeroDivisionError("planted")


def wrong(rng: random.Random, material: Path, folder: Path) -> str:
    raise Wrong("a box outside")


def refused(rng: random.Random, material: Path, folder: Path) -> str:
    return "a.json: error: broken"


def well(rng: random.Random, material: Path, folder: Path) -> str:
    return f"drawn {rng.random()}"


@pytest.mark.slow  # alone: a process that has worked with torch's threads cannot be forked
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_what_hangs_or_crashes_is_counted_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = [well, sleepy, refused, dying, raising, wrong, well]
    monkeypatch.setattr(bad_runs, "KINDS", {kind.__name__: kind for kind in kinds})
    todo = [bad_input.Case(kind.__name__, 1) for kind in kinds]
    ended = list(bad_input.in_processes(todo, tmp_path, tmp_path, seconds=10))
    assert [each.outcome for each in ended] == [
        *("result", "hang", "one line", "crash", "traceback", "wrong", "result")
    ]
    assert ended[0].detail == ended[-1].detail, "the same seed"
    assert "ZeroDivisionError in test_bad_input.py" in ended[4].detail
    assert not bad_input.report(ended, 1.0)
    assert "result  one line     wrong traceback      hang     crash" in capsys.readouterr().out


def test_a_seed_spoils_a_file_the_same_way(tmp_path: Path) -> None:
    for name, text in (
        ("a.json", '{"a": [1, {"b": 2}]}'),
        ("a.xml", "<a><b>1</b></a>"),
        ("a", "x y"),
    ):
        for seed in range(50):
            found = set()
            for _ in range(2):
                (tmp_path / name).write_text(text)
                what = mutations.mutate(tmp_path / name, random.Random(seed))
                found.add((what, (tmp_path / name).read_bytes()))
            assert len(found) == 1


@pytest.mark.slow
def test_a_hundred_spoiled_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bad_input", "--count", "100", "--seed", "123456"])
    assert bad_input.main() == 0
