"""Toybox in a folder: a COCO data set for this library or any other."""

import dataclasses
import json
from pathlib import Path

from sightline.data.coco import write_coco
from sightline.data.packed import Splits
from sightline.data.toybox.dataset import Toybox
from sightline.errors import SightlineError
from sightline.files import replacing

MADE_BY = "toybox.txt"  # in the folder: which scenes it holds


def write_toybox(splits: Splits, out: Path) -> None:
    """Pictures, ``annotations/instances_*.json``, panoptic maps, and the scenes' descriptions,
    one JSON line each, in ``annotations/scenes_*.jsonl``.

    A folder that was begun with the same scenes is completed; nothing is ever deleted. A split's
    ``instances_*.json`` is written last: where it is, all of the split is.

    Raises:
        SightlineError: ``out`` holds something else, or cannot be written to.
    """
    _claim(out, "\n".join(f"{name}: {scenes}" for name, scenes in splits._asdict().items()) + "\n")
    try:
        for name, scenes in splits._asdict().items():
            if len(scenes):
                _write_descriptions(scenes, out / "annotations" / f"scenes_{name}.jsonl")
                write_coco(scenes, out, name)
    except OSError as error:
        raise SightlineError(f"cannot write to {out}: {error.strerror}") from error


def _claim(out: Path, made_by: str) -> None:
    """Take an empty folder, or one that is ours already, for these scenes."""
    note = out / MADE_BY
    if out.exists() and not out.is_dir():
        raise SightlineError(f"{out} is a file: name a new folder")
    if note.is_file():
        if note.read_text(encoding="utf-8") != made_by:
            raise SightlineError(f"{out} holds other scenes (see {note}): name a new folder")
        return
    if out.exists() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise SightlineError(f"{out} is not empty and was not made by Toybox: name a new folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SightlineError(f"cannot write to {out}: {error.strerror}") from error
    with replacing(note) as beside:
        beside.write_text(made_by, encoding="utf-8")


def _write_descriptions(scenes: Toybox, path: Path) -> None:
    with replacing(path) as beside, beside.open("w", encoding="utf-8") as file:
        for index in range(len(scenes)):
            file.write(json.dumps(dataclasses.asdict(scenes.description(index))) + "\n")
