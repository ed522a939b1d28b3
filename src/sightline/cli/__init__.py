"""The command line. Each command is a function in a file of this folder; its signature is the
interface. Commands are named here as strings and imported when called, so that help is quick.

Exit codes: 0 done, 1 done and flaws found (doctor), 2 a mistake the user can mend (told in one
line), 130 stopped by Ctrl-C, 141 nobody reads the output any more; a bug of ours keeps its
traceback and exits with 1.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import sightline
from sightline.errors import SightlineError, as_command, refuse

if TYPE_CHECKING:
    from cyclopts import App

COMMANDS = {
    "train": "Train a model on a folder of labelled photos, from scratch or from given weights.",
    "evaluate": "Measure a model on labelled photos.",
    "doctor": "Find what is wrong with labelled photos; write a mended copy.",
    "predict": "Find things in photos and videos; draw them, or write them as JSON.",
    "export": "Write a model as one file that runs without this library.",
    "convert": "Write labelled photos in another format: COCO, YOLO or Pascal VOC.",
    "toybox": "Write the generated data set as a COCO data set.",
    "demo": "Train on generated scenes, measure, and draw what was found, in a few minutes.",
}


def build() -> "App":
    """The app with all commands; none of them is imported yet.

    Raises:
        SightlineError: cyclopts is not installed (a bare machine trains from Python).
    """
    try:
        from cyclopts import App
    except ImportError as error:
        raise SightlineError(
            "the command line needs the package cyclopts (pip install cyclopts); "
            "sightline.train, evaluate and predict work from Python without it"
        ) from error
    app = App(
        name="sightline",
        help="Object detection and image segmentation: train, measure, predict.",
        version=sightline.__version__,
        help_format="plaintext",  # the default, markdown, costs a tenth of a second to import
        suppress_keyboard_interrupt=False,
    )
    for name, help_line in COMMANDS.items():
        app.command(f"sightline.cli.{name}:{name}", name=name, help=help_line)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default with the arguments of the process; gives the exit code."""
    return as_command(lambda: _run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: Sequence[str]) -> int:
    app = build()
    from cyclopts import CycloptsError

    try:
        code = app(
            arguments,
            exit_on_error=False,
            print_error=False,
            verbose=False,
            result_action="return_value",
        )
    except CycloptsError as error:
        return refuse(error)
    return code or 0
