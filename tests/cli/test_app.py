"""The command line as a whole: quick help, exit codes, one line for a mistake."""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import sightline
from sightline import cli
from sightline.errors import SightlineError

HEAVY = ("torch", "torchvision", "timm", "numpy", "scipy", "PIL", "hotcoco", "rich.markdown")
WHAT_HELP_IMPORTS = """
import sys
from sightline.cli import main
assert main({arguments!r}) == 0
print("imported:", *sorted({heavy!r} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "arguments",
    [[], ["--help"], *([name, "--help"] for name in cli.COMMANDS), ["train", "faster_rcnn", "-h"]],
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """Timed by benchmarks/help.py; what makes it slow is importing torch, so that is what fails."""
    code = WHAT_HELP_IMPORTS.format(arguments=arguments, heavy=set(HEAVY))
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, encoding="utf-8"
    )
    assert done.stdout.startswith("Usage: sightline")
    assert done.stdout.splitlines()[-1] == "imported:"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == sightline.__version__


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["polish"], "polish"),
        (["--verbosity"], "--verbosity"),
        (["train", "slow_rcnn"], "slow_rcnn"),
        (["train", "faster_rcnn", "--data", ".", "--polish", "3"], "--polish"),
        (["toybox", "out", "--images", "many"], "many"),
        (["evaluate"], "requires"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert told.err.startswith("error: ")
    assert named in told.err


def command_that(monkeypatch: pytest.MonkeyPatch, does: Callable[[], None]) -> None:
    """Put a function in the place of ``sightline demo``."""
    import sightline.cli.demo as home

    monkeypatch.setattr(home, "demo", does)


def test_the_users_mistake_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def mistake() -> None:
        raise SightlineError("photos/a.xml: no such picture:\n  a.jpg")

    command_that(monkeypatch, mistake)
    assert cli.main(["demo"]) == 2
    assert capsys.readouterr().err == "error: photos/a.xml: no such picture: a.jpg\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug() -> None:
        raise ZeroDivisionError

    command_that(monkeypatch, bug)
    with pytest.raises(ZeroDivisionError):
        cli.main(["demo"])


def test_ctrl_c_is_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    command_that(monkeypatch, stopped)
    assert cli.main(["demo"]) == 130


@pytest.mark.filterwarnings("default")
def test_a_warning_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def doubtful() -> None:
        warnings.warn("photos: 2 boxes of zero area dropped", UserWarning, stacklevel=2)

    command_that(monkeypatch, doubtful)
    assert cli.main(["demo"]) == 0
    assert capsys.readouterr().err == "warning: photos: 2 boxes of zero area dropped\n"


def test_text_that_no_encoding_can_write_is_an_escape(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told() -> None:
        from rich.console import Console

        print("a class c\ud800t")
        Console().print("caf\udce9.jpg")

    command_that(monkeypatch, told)
    assert cli.main(["demo"]) == 0
    assert capsys.readouterr().out == "a class c\\ud800t\ncaf\\udce9.jpg\n"


def test_python_m_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sightline", "polish"], capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def test_without_cyclopts_one_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cyclopts", None)
    assert cli.main(["--help"]) == 2
    assert "pip install cyclopts" in capsys.readouterr().err


@pytest.mark.parametrize(
    "prints", ["print('x' * 100_000)", "__import__('sightline.console').console.Console().print(1)"]
)
def test_output_that_nobody_reads_is_no_bug(prints: str) -> None:
    """As behind ``| head``."""
    code = (
        "import sys; import sightline.cli.demo as home; from sightline.cli import main\n"
        f"home.demo = lambda: {prints}; sys.exit(main(['demo']))"
    )
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_output_on_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sightline", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "No space left" in done.stderr
