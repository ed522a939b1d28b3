"""Spoiled files for ``benchmarks/bad_input.py``: annotations, pictures and checkpoints. How a case
is made of valid ones, what is run on it, and what must hold where it was accepted.

A kind is a function of a random generator, the valid material and an empty folder. What it raises
but ``Wrong`` is a bug that would have been a traceback.
"""

import io
import json
import math
import os
import random
import shutil
import struct
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.mutations import STRANGE, file_bytes, flipped, json_mutant, mutate
from sightline.cli import main
from sightline.data.folder import open_dataset, open_splits
from sightline.data.loader import eval_loader
from sightline.data.packed import Packed
from sightline.errors import SightlineError, as_command
from sightline.preprocess import Preprocess


class Wrong(Exception):
    """What came out is neither a valid result nor one line."""


class Told(NamedTuple):
    code: int
    out: str
    errors: list[str]


PLAIN = ("--no-fast", "--json")  # to fuse a model takes longer than all else


def command(arguments: list[str], run: Callable[[], int]) -> Told:
    """Run it and see what Python printed, to streams as strict as a terminal's. What decoders
    written in C print goes elsewhere: it names no file, and cannot be kept from a terminal without
    touching the output of other threads."""
    for stream, errors in ((sys.stdout, "strict"), (sys.stderr, "backslashreplace")):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(encoding="utf-8", errors=errors, line_buffering=True)
        os.ftruncate(stream.fileno(), 0)
        os.lseek(stream.fileno(), 0, os.SEEK_SET)
    code = run()
    texts = []
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        texts.append(Path(f"/proc/self/fd/{stream.fileno()}").read_text(errors="replace"))
    lines = [line for line in texts[1].splitlines() if not line.startswith("warning: ")]
    return Told(code, texts[0], lines)


DONE = (0,)
EXAMINED = (0, 1)  # what doctor ends with where it could read at all


def sightline(*arguments: object, lines: int = 1, done: Sequence[int] = DONE) -> Told:
    """The command line, with what must hold of any use of it: code 0 (or another that says that
    it is done), or 2 and one line.

    Raises:
        Wrong: neither.
    """
    words = [str(argument) for argument in arguments]
    return judged(command(words, lambda: main(words)), lines, done)


def judged(told: Told, lines: int = 1, done: Sequence[int] = DONE) -> Told:
    if told.code not in (*done, 2):
        raise Wrong(f"exit code {told.code}")
    wanted = range(1, lines + 1) if told.code == 2 else range(1)
    if len(told.errors) not in wanted or not all(e.startswith("error: ") for e in told.errors):
        raise Wrong(f"exit code {told.code} with {len(told.errors)} lines: {told.errors[:4]}")
    if told.code == 2 and len(told.errors[-1]) < 15:
        raise Wrong(f"a line that says nothing: {told.errors}")
    return told


# What is said of a data set when none of its files is wrong by itself ...
OF_THE_WHOLE = (
    *("no known layout", "nothing to train on", "one picture cannot be both", "has no split"),
    *("has no annotations", "has no things in", "has no regions in", "has no labels"),
    *("no class is in both", "has label maps, which", "the list of", "has no label"),
    *("no label is left", "nothing would be left"),
)
# ... and where two of them differ, of which the other is named, too.
OF_TWO = (
    *("its annotation says", "segments that are not listed", "values that stand for no class"),
    *("numbers: 4 are a box", "but there are", "/etc/passwd"),
)


def named(told: Told, names: Sequence[str], otherwise: Sequence[str] = ()) -> Told:
    """Where it was refused, the line names the file that was spoiled (or one of them)."""
    if told.code == 2 and not any(
        name in error for error in told.errors for name in (*names, *otherwise)
    ):
        raise Wrong(f"none of {', '.join(names)} is named: {told.errors}")
    return told


def whole_files(folder: Path) -> None:
    """Nothing half-written is left, under its name or beside it."""
    for path in folder.rglob("*"):
        if ".writing" in path.name:
            raise Wrong(f"{path.name} was left")
        if path.is_file() and path.suffix == ".json" and "out" in path.parts[-2:][0] + path.stem:
            json.loads(path.read_text())
        if path.is_file() and path.suffix == ".safetensors" and path.parent.name == "out":
            load_file(path)


# Annotations


def annotations(rng: random.Random, material: Path, folder: Path) -> str:
    """A data set with one or two files spoiled: read and gone through by a loader; then perhaps
    measured on, examined, mended or converted."""
    kind = rng.choice(sorted(path.name for path in (material / "annotations").iterdir()))
    data = folder / kind
    shutil.copytree(material / "annotations" / kind, data)
    texts = [path for path in sorted(data.rglob("*")) if path.is_file() and not _is_picture(path)]
    spoiled = rng.sample(texts, rng.choice((1, 1, 2)) if len(texts) > 1 else 1)
    done = "; ".join(f"{path.name}: {mutate(path, rng)}" for path in spoiled)
    told = judged(command([], partial(as_line, lambda: _look_through(data))))
    names = [path.name for path in spoiled]
    named(told, names, (*OF_THE_WHOLE, *OF_TWO))
    if follow := rng.choice((_measured, _examined, _converted, None, None)):
        named(follow(rng, material, data), names, (*OF_THE_WHOLE, *OF_TWO))
        whole_files(folder)
    return f"{kind}: {done}; {outcome(told)}"


def _is_picture(path: Path) -> bool:
    maps = path.parent.name.startswith(("masks", "panoptic"))
    return path.suffix.lower() in (".png", ".jpg") and not maps


def _measured(rng: random.Random, material: Path, data: Path) -> Told:
    model = material / "checkpoints" / "model.safetensors"
    page = data.parent / "out" / "page.html"
    more = ["--report", page] if rng.random() < 0.5 else []
    told = sightline("evaluate", model, data, *PLAIN, *more)
    _numbers(told)
    if more and told.code == 0 and not page.read_text().rstrip().endswith("</html>"):
        raise Wrong("half a report")
    return told


def _examined(rng: random.Random, material: Path, data: Path) -> Told:
    copy = data.parent / "mended"
    more = rng.choice(([], ["--json"], ["--fix", copy], ["--fix", copy, "--json"]))
    told = sightline("doctor", data, *more, done=EXAMINED)
    if "--json" in more and told.code in EXAMINED:
        _numbers(told)
    _read_again(copy, told)
    return told


def _converted(rng: random.Random, material: Path, data: Path) -> Told:
    copy = data.parent / "converted"
    told = sightline("convert", data, copy, "--to", rng.choice(("coco", "yolo", "voc")))
    _read_again(copy, told)
    return told


def _read_again(copy: Path, told: Told) -> None:
    """A copy that was written is a whole data set; one that was refused is not there."""
    if told.code == 2 and copy.exists():
        raise Wrong(f"{copy.name} is there after {told.errors}")
    if copy.exists():
        try:
            for split in open_splits(copy).values():
                check(split)
        except SightlineError as error:
            raise Wrong(f"the copy cannot be read: {error}") from error


def as_line(work: Callable[[], object]) -> int:
    """As the command line tells of what goes wrong in Python."""

    def done() -> int:
        work()
        return 0

    return as_command(done)


def outcome(told: Told) -> str:
    return told.errors[-1] if told.code == 2 else "result"


def _look_through(data: Path) -> None:
    for split in open_dataset(data):
        if not isinstance(split, Packed):
            raise Wrong(f"a {type(split).__name__}")
        check(split)
        needs = {"masks"} if split.masks is not None else set[str]()
        needs |= {"keypoints"} if split.keypoints is not None else set()
        loader = eval_loader(split, Preprocess(short=None), batch=2, needs=frozenset(needs))
        for batch in loader:
            for scene in batch.targets:
                _inside(scene.things.boxes, *scene.size)


def check(split: Packed) -> None:
    """What must hold of every data set that was read, whatever it was read from.

    Raises:
        Wrong: it does not.
    """
    count, things = len(split), len(split.labels)
    spans = split.spans.tolist()
    whole = all(0 <= first <= last <= things for first, last in spans)
    apart = sorted(spans)
    if not whole or any(one[1] > two[0] for one, two in pairwise(apart)):
        raise Wrong(f"spans {spans[:5]} of {things} things")
    ids = [split.image_id(index) for index in range(count)]
    if len(set(ids)) != count:
        raise Wrong(f"image ids {ids[:5]} twice")
    if things and not (
        int(split.labels.min()) >= 0 and int(split.labels.max()) < len(split.classes)
    ):
        raise Wrong("a label of no class")
    if not (split.area.isfinite().all() and (split.area >= 0).all()):
        raise Wrong("an area that is not finite, or below 0")
    if split.keypoints is not None and not split.keypoints.isfinite().all():
        raise Wrong("a keypoint that is not finite")
    if split.masks is not None and not split.masks.points.isfinite().all():
        raise Wrong("a polygon that is not finite")
    for index in range(count):
        scene = split.scene(index)
        if min(scene.size) < 1:
            raise Wrong(f"a picture of {scene.size}")
        _inside(scene.things.boxes, *scene.size)


def _inside(boxes: Tensor, height: int, width: int) -> None:
    limits = boxes.new_tensor([width, height, width, height]) + 1e-3
    if not (boxes.isfinite().all() and (boxes >= 0).all() and (boxes <= limits).all()):
        raise Wrong(f"boxes {boxes.tolist()[:3]} in {height} x {width}")
    if (boxes[:, 2:] < boxes[:, :2]).any():
        raise Wrong("a box turned inside out")


def _numbers(told: Told) -> None:
    """What was printed is one JSON document."""
    if told.code != 2 and not isinstance(json.loads(told.out), dict):
        raise Wrong(f"printed {told.out[:80]}")


# Images


def images(rng: random.Random, material: Path, folder: Path) -> str:
    """A picture spoiled, among sound ones: alone or in their folder, found in and drawn."""
    source = rng.choice(sorted((material / "images").iterdir()))
    suffix = rng.choice((source.suffix, source.suffix, ".jpg", ".png", ".webp", ".JPEG"))
    path = folder / f"a{suffix}"
    what = rng.choice(("bytes",) * 6 + ("head", "head", "as it is", "folder", "link", "header"))
    if what == "folder":
        path.mkdir()
    elif what == "link":
        path.symlink_to(folder / "nowhere.jpg")
    else:
        data = source.read_bytes()
        path.write_bytes(_HEADS[what](data, rng) if what in _HEADS else data)
        if what == "bytes":
            what = file_bytes(path, rng)
    model = material / "checkpoints" / "model.safetensors"
    shutil.copy(material / "images" / "rgb.jpg", folder / "b.jpg")
    sources = rng.choice(([path], [folder], [path, folder / "b.jpg"]))
    told = sightline("predict", model, *sources, *PLAIN, "--out", folder / "out", lines=2)
    named(told, [path.name])
    _found(told)
    whole_files(folder)
    return f"{source.name} as {path.name}, {what}: {outcome(told)}"


def _head_flipped(data: bytes, rng: random.Random) -> bytes:
    """Where sizes and tables stand."""
    return flipped(data[:64], rng, 4) + data[64:]


def _larger(data: bytes, rng: random.Random) -> bytes:
    """Another size in the header of a PNG, GIF or BMP; checksums as they were."""
    side = rng.choice((0, 1, 7, 65_535, 20_000, 1 << 20, (1 << 31) - 1))
    if data.startswith(b"\x89PNG"):
        return data[:16] + struct.pack(">II", side, rng.choice((side, 40))) + data[24:]
    if data.startswith(b"GIF"):
        return data[:6] + struct.pack("<HH", side & 65_535, 40) + data[10:]
    return data[:18] + struct.pack("<II", side, 40) + data[26:]


_HEADS = {"head": _head_flipped, "header": _larger}


def _found(told: Told) -> None:
    for scene in json.loads(told.out) if told.out else ():
        values = [value for thing in scene["things"] for value in (*thing["box"], thing["score"])]
        if not all(map(math.isfinite, values)):
            raise Wrong("a box or score that is not finite")


# Checkpoints


def checkpoints(rng: random.Random, material: Path, folder: Path) -> str:
    """A file of weights spoiled: predicted with, or fine-tuned from."""
    source = rng.choice(sorted((material / "checkpoints").iterdir()))
    suffix = rng.choice((source.suffix,) * 5 + (".onnx", ".safetensors", ".pth"))
    path = folder / f"spoiled{suffix}"
    shutil.copy(source, path)
    canary = folder / "canary"
    what = "rewritten" if source.suffix == ".safetensors" and rng.random() < 0.5 else "bytes"
    if rng.random() < 0.05:
        what = "pickle with code"
        path.write_bytes(_pickle(canary))
    elif what == "rewritten":
        what = rewritten(path, rng)
    elif rng.random() < 0.5:
        what = file_bytes(path, rng)
    else:
        what = "flipped"
        path.write_bytes(flipped(path.read_bytes(), rng))
    if rng.random() < 0.3:
        told = _tuned(path, material, folder / "out")
    else:
        photo = material / "images" / "rgb.jpg"
        told = sightline("predict", path, photo, *PLAIN[rng.random() < 0.5 :])
        _found(told)
    named(told, [path.name], ("the loss is not finite", "the gradient is not finite"))
    if canary.exists():
        raise Wrong("a pickle was executed")
    return f"{source.name} as {path.name}, {what}: {outcome(told)}"


RUN = ("--workers", "0", "--device", "cpu", "--save-every", "1", "--log-every", "1")


def _tuned(weights: Path, material: Path, out: Path) -> Told:
    tuning = ("--data", material / "squares", "--weights", weights, "--passes", 1, "--out", out)
    told = sightline("train", "tiny", *RUN, *tuning)
    if told.code == 0:
        run_is_whole(out)
    return told


def run_is_whole(out: Path) -> None:
    for name in ("model.safetensors", "last.safetensors"):
        if not all(value.isfinite().all() for value in load_file(out / name).values()):
            raise Wrong(f"{name} holds what is not finite")


def _pickle(canary: Path) -> bytes:
    """A pickle that makes a file when it is opened by what executes pickles."""
    return (
        b"\x80\x02cos\nsystem\nX"
        + struct.pack("<I", len(f"touch {canary}"))
        + (f"touch {canary}".encode() + b"\x85R.")
    )


def rewritten(path: Path, rng: random.Random) -> str:
    """Sound in form, wrong in content: tensors and metadata of another kind."""
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata and rng.random() < 0.6:
        key = rng.choice(sorted(metadata))
        what = f"{key}: deleted"
        value = metadata.pop(key)
        if rng.random() < 0.9:
            try:
                mutant, what = json_mutant(json.loads(value), rng)
                metadata[key] = json.dumps(mutant)
            except ValueError:
                metadata[key], what = (
                    str(rng.choice(STRANGE)).encode(errors="replace").decode(),
                    key,
                )
    else:
        what = _other_tensors(tensors, rng)
    if rng.random() < 0.7:
        metadata["seal"] = ""  # as in a file that was written by hand
    try:
        save_file(tensors, path, metadata)
    except (SafetensorError, UnicodeError, TypeError):
        return file_bytes(path, rng)
    return what


def _other_tensors(tensors: dict[str, Tensor], rng: random.Random) -> str:
    name, other = rng.choice(sorted(tensors)), rng.choice(sorted(tensors))
    value = tensors[name]
    kinds = (torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.uint8, torch.bool)
    what = rng.choice(("missing", "added", "swapped", "dtype", "shape", "nan", "inf", "huge"))
    changes: dict[str, Callable[[], Tensor]] = {
        "dtype": lambda: value.to(rng.choice(kinds)),
        "shape": lambda: value.flatten()[:-1] if value.numel() > 1 else torch.zeros(2, 3),
        "nan": lambda: torch.full_like(value, math.nan) if value.is_floating_point() else value - 9,
        "inf": lambda: torch.full_like(value, math.inf) if value.is_floating_point() else value - 9,
        "huge": lambda: value * 1e30 if value.is_floating_point() else value,
    }
    if what == "missing":
        del tensors[name]
    elif what == "added":
        tensors[f"{name}.more"] = torch.zeros(2)
    elif what == "swapped":
        tensors[name], tensors[other] = tensors[other], tensors[name]
    else:
        tensors[name] = changes[what]()
    return f"{name} {what}"
