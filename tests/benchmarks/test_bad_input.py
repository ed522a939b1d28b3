"""The campaign itself: it counts what hangs, crashes and raises, goes on behind it, and gives the
same case for the same seed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import bad_input, bad_runs, mutations
from benchmarks.bad_cases import EXAMINED, Told, Wrong, judged, named


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


PLANTED = (well, sleepy, refused, dying, raising, wrong, well)


def run_planted(folder: str) -> None:
    """What the test below sees, in a process of its own."""
    bad_runs.KINDS.update({kind.__name__: kind for kind in PLANTED})
    todo = [bad_input.Case(kind.__name__, 1) for kind in PLANTED]
    ended = list(bad_input.in_processes(todo, Path(folder), Path(folder), seconds=5))
    print(json.dumps([(each.outcome, each.detail) for each in ended]))
    print(bad_input.report(ended, 1.0))


def test_what_hangs_or_crashes_is_counted_and_the_others_go_on(tmp_path: Path) -> None:
    # A process that has worked with torch's threads, as this one may have, cannot be forked.
    code = f"from {__name__} import run_planted; run_planted({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *table = done.stdout.splitlines()
    outcomes, details = zip(*json.loads(first), strict=True)
    assert outcomes == ("result", "hang", "one line", "crash", "traceback", "wrong", "result")
    assert details[0] == details[-1], "the same seed"
    assert "ZeroDivisionError in test_bad_input.py" in details[4]
    assert "result  one line     wrong traceback      hang     crash" in table[0]
    assert table[-1] == "False"


def test_lines_that_come_at_once_are_given_one_by_one() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"a\nb\nc")
    told = bad_input._lines(reading, 0.01)
    assert [next(told) for _ in range(3)] == ["a", "b", None]
    os.write(writing, b"d\n")
    os.close(writing)
    assert [next(told) for _ in range(3)] == ["cd", "", ""]
    told.close()


def test_a_line_that_names_the_folder_alone_is_wrong() -> None:
    told = Told(2, "", ["error: /tmp/coco: something is wrong"])
    with pytest.raises(Wrong, match="is named"):
        named(told, ["a.json"])
    assert named(told, ["a.json", "coco"]) is told
    assert named(told._replace(code=0), ["a.json"]).code == 0


def test_only_the_doctor_ends_with_one() -> None:
    with pytest.raises(Wrong, match="exit code 1"):
        judged(Told(1, "", []))
    assert judged(Told(1, "", []), done=EXAMINED).code == 1


def test_attributes_of_xml_are_spoiled(tmp_path: Path) -> None:
    sound = '<a><box label="cat" xtl="4" /><box label="dog" xtl="5" /></a>'
    done = set()
    for seed in range(80):
        (tmp_path / "a.xml").write_text(sound)
        done.add(mutations.xml_elements(tmp_path / "a.xml", random.Random(seed)))
    for what in ("label value", "xtl deleted", "xtl renamed", "label swapped", "xtl scaled"):
        assert f"box {what}" in done


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
@pytest.mark.filterwarnings("default::sightline.data.packed.DataWarning")  # as a user has it
def test_a_hundred_spoiled_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bad_input", "--count", "100", "--seed", "123456"])
    assert bad_input.main() == 0
