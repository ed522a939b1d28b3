"""``sightline predict``: what a model finds in photos."""

import json as json_format
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from sightline.errors import SightlineError

if TYPE_CHECKING:
    from sightline.predict import Found
    from sightline.types import Classes, Scene


def predict(
    model: str,
    /,
    *sources: str,
    score: float | None = None,
    per_class_score: Path | None = None,
    top: int | None = None,
    least_background: int | None = None,
    out: Path | None = None,
    coco_json: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    batch: int = 8,
    device: str | None = None,
    fast: bool = True,
) -> None:
    """Find things in photos; draw them, or write them as JSON.

    A photo that cannot be read is told in one line and the others go on; the exit code is then 2.

    Parameters
    ----------
    model
        The file or public name of a checkpoint, or a file written by sightline export.
    sources
        Photos, folders of photos, or globs in quotes ("photos/**/*.jpg").
    score
        Keep things scored higher, 0..1; left out, as the model is set.
    per_class_score
        File of a threshold for each class, written by sightline evaluate --choose-scores.
    top
        Keep at most so many things a photo, the best scored.
    least_background
        Keep instead so many things a photo that look least like background.
    out
        Folder for the photos with what was found drawn in.
    coco_json
        File for what was found in COCO's results format. The image id is the number that is the
        photo's name, or else the name.
    json
        Print one JSON document on stdout, and nothing else.
    batch
        Photos of one shape that go through the model together.
    device
        cpu, cuda, cuda:1 ...; left out, the GPU if there is one.
    fast
        Fold the model's normalisation and lay it out for speed first; the answers stay.
    """
    if not sources:
        raise SightlineError("give photos, folders or globs to look at")
    from sightline.files import check_target, replacing
    from sightline.predict import find_sources, predict_stream, scene_json
    from sightline.runtime import open_model

    files = [Path(str(source)) for source in find_sources(sources)]
    if out is not None:
        _check_apart(out, files)
    if coco_json is not None:
        check_target(coco_json)
    loaded = open_model(model, device, fast)
    classes = loaded.card.classes
    failures: list[str] = []

    def told(error: SightlineError) -> None:
        failures.append(str(error))
        print("error:", " ".join(str(error).split()), file=sys.stderr)

    began = time.monotonic()
    stream: Iterable[Found] = predict_stream(
        loaded,
        files,
        score=score,
        per_class_score=per_class_score,
        top=top,
        least_background=least_background,
        batch=batch,
        on_error=told,
    )
    if out is not None:
        stream = _drawn(stream, out, classes)
    if not json:
        stream = _shown(stream, classes)
    scenes = [found.scene for found in stream]
    if coco_json is not None:
        with replacing(coco_json) as beside:
            beside.write_text(json_format.dumps(_results(scenes, classes)))
    if json:
        print(json_format.dumps([scene_json(scene, classes) for scene in scenes]))
    else:
        _summarise(scenes, classes, time.monotonic() - began, [out, coco_json])
    if failures:
        raise SightlineError(f"{len(failures)} of {len(files)} photos could not be read")


def _check_apart(out: Path, files: list[Path]) -> None:
    """Drawn photos must not replace the photos themselves."""
    if out.exists() and not out.is_dir():
        raise SightlineError(f"--out {out} is a file, not a folder")
    if out.resolve() in {file.parent.resolve() for file in files}:
        raise SightlineError(f"--out {out} is the folder of the photos: give another one")


def _drawn(stream: "Iterable[Found]", out: Path, classes: "Classes") -> "Iterator[Found]":
    """Each picture drawn into a JPEG of its name; a number follows a name that was taken, by a
    picture of this run."""
    from sightline.draw import draw
    from sightline.files import replacing

    taken: set[str] = set()
    for found in stream:
        name = _untaken(Path(found.scene.path).stem, taken)
        taken.add(name)
        with replacing(out / f"{name}.jpg") as beside:
            draw(found.picture, found.scene, classes).save(beside, quality=92)
        yield found


def _untaken(stem: str, taken: set[str]) -> str:
    numbered = (f"{stem}-{number}" for number in count(2))
    return next(name for name in chain([stem], numbered) if name not in taken)


def _shown(stream: "Iterable[Found]", classes: "Classes") -> "Iterator[Found]":
    """A line for each picture as it is done: its things, counted by class."""
    for found in stream:
        names = [classes.names[label] for label in found.scene.things.labels.tolist()]
        counts = [f"{number} {name}" for name, number in Counter(names).most_common()]
        print(f"{found.scene.path}: {', '.join(counts) or 'nothing'}")
        yield found


def _results(scenes: "list[Scene]", classes: "Classes") -> list[dict[str, Any]]:
    from sightline.predict import coco_results

    rows: list[dict[str, Any]] = []
    for scene in scenes:
        stem = Path(scene.path).stem
        rows += coco_results(scene, classes, int(stem) if stem.isdecimal() else stem)
    return rows


def _summarise(
    scenes: "list[Scene]", classes: "Classes", seconds: float, written: list[Path | None]
) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    scores: dict[int, list[float]] = {}
    for scene in scenes:
        things = scene.things
        values = [1.0] * len(things) if things.scores is None else things.scores.tolist()
        for label, score in zip(things.labels.tolist(), values, strict=True):
            scores.setdefault(label, []).append(score)
    table = Table("class", "found", "mean score")
    for label, values in sorted(scores.items()):
        mean = sum(values) / len(values)
        table.add_row(escape(classes.names[label]), str(len(values)), f"{mean:.2f}")
    console = Console(highlight=False, soft_wrap=True)
    if scores:
        console.print(table)
    speed = f"{len(scenes) / max(seconds, 1e-9):.1f} a second"
    console.print(f"{len(scenes)} photos in {seconds:.1f} s, {speed}")
    for path in written:
        if path is not None:
            console.print(f"written: {path}", markup=False)
