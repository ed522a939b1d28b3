"""The log, the progress line, and being asked to stop."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from sightline.journal import Journal, Stopped, StopRequest, command, duration, pass_text


def test_a_log_is_cut_where_the_checkpoint_was(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    journal = Journal(path)
    journal.write({"step": 1, "AP": float("nan"), "val": {"loss": float("inf")}})
    kept = journal.length()
    journal.write({"step": 2})
    path.write_text(path.read_text() + '{"step": 3, "to')
    journal.cut(kept)
    journal.write({"step": 2})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1, "AP": None, "val": {"loss": None}},
        {"step": 2},
    ]


def test_a_log_that_is_gone_begins_anew(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log.jsonl")
    journal.cut(100)
    assert journal.length() == 0


def test_other_processes_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(None)
    journal.say("hello")
    journal.write({"step": 1})
    journal.cut(0)
    journal.show(1, 2, "loss 1")
    assert journal.length() == 0
    assert capsys.readouterr().out == ""


def test_a_run_goes_on_where_nobody_reads() -> None:
    """As behind ``| head``: rich would end the process."""
    code = (
        "import sys; from sightline.journal import Journal\n"
        "journal = Journal(__import__('pathlib').Path('unused'))\n"
        "journal.say('a'); journal.show(1, 2, 'b'); journal.say('c')\n"
        "print('went on', file=sys.stderr)"
    )
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"went on\n")


def test_plain_lines_without_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(tmp_path / "log.jsonl")
    journal.best = 0.5
    journal.show(3, 9, "loss 1.5")
    assert capsys.readouterr().out == "step 3/9  loss 1.5  ? left  best 0.500\n"


def test_a_pass_in_one_line() -> None:
    values = {"pass": 2, "train": {"loss": 1.5, "side": 1}, "val": {"loss": 2, "AP": 0.25}}
    assert pass_text(values) == "pass 2: loss 1.5000, val loss 2.0000, val AP 0.2500"
    assert pass_text(values | {"val": {}}) == "pass 2: loss 1.5000"


def test_one_line_in_a_terminal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log.jsonl")
    with (tmp_path / "screen").open("w+") as screen:
        journal.console = Console(file=screen, force_terminal=True, width=100)
        for step in range(1, 4):
            journal.show(step, 9, f"loss {step}")
        journal.say("a pass is done")
        journal.close()
        shown = (tmp_path / "screen").read_text()
    assert "3/9" in shown
    assert "loss 3" in shown
    assert "a pass is done" in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (250, "4 min 10 s"), (7512, "2 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.usefixtures("python_s_own")
def test_a_second_ctrl_c_is_python_s_own() -> None:
    with StopRequest() as stop:
        stop.check()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Stopped):
            stop.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_where_there_is_no_sigchld(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    monkeypatch.delattr(signal, "SIGCHLD")
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked


@pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="as on Windows")
def test_ctrl_c_and_the_end_of_a_worker_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both wait for this thread, which computes. Then neither PyTorch's error nor a complaint."""
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)

    def worker_ended(*_: object) -> None:
        raise RuntimeError("DataLoader worker is killed by signal")

    both = {signal.SIGINT, signal.SIGCHLD}
    before = signal.signal(signal.SIGCHLD, worker_ended)
    try:
        with StopRequest() as stop:
            signal.pthread_sigmask(signal.SIG_BLOCK, both)
            for number in both:
                signal.pthread_kill(threading.get_ident(), number)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
            assert stop.asked
        assert signal.getsignal(signal.SIGCHLD) is worker_ended
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert not complaints


@pytest.mark.parametrize("error", [RuntimeError, ConnectionResetError, EOFError])
def test_workers_ended_by_ctrl_c_are_no_error(error: type[Exception]) -> None:
    stop = StopRequest()

    def items(asked: bool) -> Iterator[int]:
        yield 1
        stop.asked = asked
        raise error("a worker was ended")

    with pytest.raises(error, match="a worker was ended"):
        list(stop.until(items(asked=False)))
    assert list(stop.until(items(asked=True))) == [1]


def test_no_item_is_waited_for_after_ctrl_c() -> None:
    stop, taken = StopRequest(), iter([1, 2, 3])
    for item in stop.until(taken):
        stop.asked = item == 2
    assert list(taken) == [3]


def test_the_command_is_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["/venv/bin/python3", "/venv/bin/sightline", "train", "--data", "my photos"]
    monkeypatch.setattr(sys, "orig_argv", typed)
    assert command() == "sightline train --data 'my photos'"
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "sightline.recipes", "x"])
    assert command() == "python -m sightline.recipes x"


def test_square_brackets_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Journal(tmp_path / "log.jsonl").say("runs/[old]/a: class [/x]")
    assert capsys.readouterr().out == "runs/[old]/a: class [/x]\n"
