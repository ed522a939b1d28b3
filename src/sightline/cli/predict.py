"""``sightline predict``: what a model finds in photos and videos."""

import json as json_format
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import chain, count, groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from cyclopts import Parameter

from sightline.cli.computing import AS_USUAL, Computing
from sightline.cli.looking import PLAINLY, Looking, models_and_rest
from sightline.errors import SightlineError, refuse

if TYPE_CHECKING:
    from PIL.Image import Image

    from sightline.predict import Found
    from sightline.types import Classes, Scene

DRAWERS = 2  # threads that draw
LARGEST = (65_500, 65_500)  # pixels that libjpeg writes; a larger photo's drawing is made smaller
MAPS = "maps"  # the folder of label maps, in that of the drawn photos


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
    looking: Looking = PLAINLY,
    computing: Computing = AS_USUAL,
) -> None:
    """Find things in photos and videos; draw them, or write them as JSON.

    Several models (MODEL MODEL ... PHOTO ...) are asked as one: all arguments are models up to the
    first that is none. What cannot be read is told in one line and the others go on; the exit code
    is then 2.

    Parameters
    ----------
    model
        The file or public name of a checkpoint, the folder of a run, or a file written by sightline
        export.
    sources
        Further models with the same classes, if any (docs/ensembles.md); then photos, videos (mp4,
        mov, mkv, avi, webm, m4v; they need pip install 'sightline[video]'), folders of both, or
        globs in quotes ("photos/**/*.jpg").
    score
        Keep things scored higher, 0..1; left out, as the model is set.
    per_class_score
        File of a threshold for each class, written by sightline evaluate --choose-scores.
    top
        Keep at most so many things a photo, the best scored.
    least_background
        Keep instead so many things a photo that look least like background; for models with a
        second stage (Faster R-CNN).
    out
        Folder for the photos with what was found drawn in, and for the videos (mp4, no sound).
        Label maps of photos are written too, under maps: a PNG whose bytes are the labels, and
        classes.txt, which names them.
    coco_json
        File for what was found in COCO's results format. The image id is the number that is the
        photo's name, or else the name; that of a frame is name:frame.
    json
        Print one JSON document on stdout, and nothing else.
    """
    models, looked_at = models_and_rest(model, sources)
    if not looked_at:
        raise SightlineError("give photos, videos, folders or globs to look at")
    from sightline.data.sources import find_sources
    from sightline.evaluate import kind_of
    from sightline.files import check_target
    from sightline.predict import predict_stream

    files = [Path(str(source)) for source in find_sources(looked_at)]
    _check_videos(files)
    if out is not None:
        _check_apart(out, files)
    if coco_json is not None:
        check_target(coco_json)
    loaded = looking.open(models, computing)
    classes = loaded.card.classes
    if coco_json is not None and kind_of(loaded) == "semantic":
        raise SightlineError("COCO's results hold no label maps: leave out coco-json")
    failures: list[str] = []

    def told(error: SightlineError) -> None:
        failures.append(str(error))
        refuse(error)

    stream: Iterator[Found] = predict_stream(
        loaded,
        files,
        score=score,
        per_class_score=per_class_score,
        top=top,
        least_background=least_background,
        batch=computing.batch,
        on_error=told,
    )
    if out is not None:
        stream = drawn(stream, out, classes, computing.batch)
    if coco_json is not None:
        stream = _written(stream, coco_json, classes)
    stream = _printed(stream, classes) if json else _shown(stream, classes)
    tally = Tally()
    for found in stream:
        tally.add(found.scene)
    if not json:
        tally.show(classes, [out, coco_json])
    if failures:
        raise SightlineError(f"{len(failures)} of {len(files)} {_kind(files)} could not be read")


def _check_videos(files: list[Path]) -> None:
    """Before a photo is looked at: what videos need is there, or there is no video."""
    from sightline.data.video import check_video, is_video

    for file in filter(is_video, files):
        check_video(file)


def _kind(files: list[Path]) -> str:
    from sightline.data.video import is_video

    return "files" if any(map(is_video, files)) else "photos"


def _check_apart(out: Path, files: list[Path]) -> None:
    """Drawn photos must not replace the photos themselves."""
    if out.exists() and not out.is_dir():
        raise SightlineError(f"--out {out} is a file, not a folder")
    if out.resolve() in {file.parent.resolve() for file in files}:
        raise SightlineError(f"--out {out} is the folder of the photos: give another one")


class _Drawn(NamedTuple):
    found: "Found"
    target: Path  # what it is drawn into: a picture of its own, or the film of all frames
    picture: "Image | None"  # of a frame, still to be added to the film


def drawn(
    stream: "Iterable[Found]", out: Path, classes: "Classes", held: int
) -> "Generator[Found, None, None]":
    """Each photo drawn into a JPEG of its name, each video into an MP4, in threads: so many more
    pictures are held that are being drawn, and so many frames that are being written."""
    from sightline.threads import ahead, helpers

    with helpers(DRAWERS) as pool:
        ready = ahead(_drawing(stream, out, classes, pool), held)
        for target, group in groupby(ready, attrgetter("target")):
            if target.suffix == ".mp4":
                yield from _filmed(group, target, held)
            else:
                yield from (each.found for each in group)


def _drawing(
    stream: "Iterable[Found]", out: Path, classes: "Classes", pool: Executor
) -> "Iterator[Future[_Drawn]]":
    taken: set[str] = set()
    for number, found in enumerate(stream):
        if number == 0 and found.scene.semantic is not None:
            _write_legend(out / MAPS / "classes.txt", classes)
        path, moment = Path(found.scene.path), found.scene.moment
        if moment is None or moment.frame == 0:
            name = _untaken(path.stem, ".jpg" if moment is None else ".mp4", taken)
        yield pool.submit(_draw, found, classes, out / name)


def _untaken(stem: str, suffix: str, taken: set[str]) -> str:
    """A name for what is drawn; a number follows one that was taken, by a picture of this run."""
    numbered = (f"{stem}-{number}{suffix}" for number in count(2))
    name = next(name for name in chain([stem + suffix], numbered) if name not in taken)
    taken.add(name)
    return name


def _draw(found: "Found", classes: "Classes", target: Path) -> _Drawn:
    from sightline.draw import draw, index_image
    from sightline.files import replacing

    picture = draw(found.picture, found.scene, classes)
    if found.scene.moment is not None:
        return _Drawn(found, target, picture)
    picture.thumbnail(LARGEST)
    with replacing(target) as beside:
        picture.save(beside, quality=92)
    if found.scene.semantic is not None:
        with replacing(target.parent / MAPS / f"{target.stem}.png") as beside:
            index_image(found.scene.semantic).save(beside)
    return _Drawn(found, target, None)


def _write_legend(path: Path, classes: "Classes") -> None:
    """As it is read with a folder of label maps."""
    from sightline.files import replacing

    with replacing(path) as beside:
        lines = [f"{label} {name}\n" for label, name in enumerate(classes.in_maps)]
        beside.write_text("".join(lines), encoding="utf-8")


def _filmed(frames: Iterator[_Drawn], target: Path, held: int) -> "Iterator[Found]":
    """The drawn frames of one video, as a video of its size, its frame rate and its moments."""
    from sightline.data.video import frame_rate, write_frames
    from sightline.files import replacing
    from sightline.threads import ahead, helpers

    first = next(frames)
    assert first.picture is not None
    rate = frame_rate(first.found.scene.path)
    with (
        replacing(target) as beside,
        write_frames(beside, rate, first.picture.size) as add,
        helpers(1) as writer,
    ):

        def write(frame: _Drawn) -> "Found":
            assert frame.picture is not None
            assert frame.found.scene.moment is not None
            add(frame.picture, frame.found.scene.moment.seconds)
            return frame.found

        yield from ahead((writer.submit(write, each) for each in chain([first], frames)), held)


def _shown(stream: "Iterable[Found]", classes: "Classes") -> "Iterator[Found]":
    """A line for each picture as it is done: its things, counted by class, or the shares of a label
    map."""
    from sightline.predict import pixels_by_class

    for found in stream:
        scene = found.scene
        names = [classes.names[label] for label in scene.things.labels.tolist()]
        counts = [f"{number} {name}" for name, number in Counter(names).most_common()]
        if scene.semantic is not None:
            pixels = pixels_by_class(scene.semantic, classes)
            counts += [f"{100 * n / scene.semantic.numel():.0f} % {c}" for c, n in pixels.items()]
        when = "" if scene.moment is None else f" frame {scene.moment.frame}"
        print(f"{scene.path}{when}: {', '.join(counts) or 'nothing'}")
        yield found


def _printed(stream: "Iterable[Found]", classes: "Classes") -> "Iterator[Found]":
    """One JSON list on stdout, a line for each picture as it is done."""
    from sightline.predict import scene_json

    rows = JsonList(sys.stdout.write)
    for found in stream:
        rows.add(scene_json(found.scene, classes))
        yield found
    rows.end()


def _written(stream: "Iterable[Found]", path: Path, classes: "Classes") -> "Iterator[Found]":
    """COCO's results, a line for each thing."""
    from sightline.files import replacing
    from sightline.predict import coco_results

    with replacing(path) as beside, beside.open("w") as file:
        rows = JsonList(file.write)
        for found in stream:
            for row in coco_results(found.scene, classes, _image_id(found.scene)):
                rows.add(row)
            yield found
        rows.end()


def _image_id(scene: "Scene") -> int | str:
    stem = Path(scene.path).stem
    if scene.moment is not None:
        return f"{stem}:{scene.moment.frame}"
    return int(stem) if stem.isdecimal() else stem


class JsonList:
    """A list in JSON, of any length: a line for each value as it comes."""

    def __init__(self, write: Callable[[str], Any]) -> None:
        self._write, self._before = write, "["

    def add(self, value: Any) -> None:
        self._write(self._before + json_format.dumps(value))
        self._before = ",\n"

    def end(self) -> None:
        self._write("[]\n" if self._before == "[" else "]\n")


class Tally:
    """How much was looked at and found since this was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._looked_at = {"photos": 0, "frames": 0}
        self._found: dict[int, tuple[int, float]] = {}  # label: number, sum of scores

    def add(self, scene: "Scene") -> None:
        self._looked_at["photos" if scene.moment is None else "frames"] += 1
        things = scene.things
        scores = [1.0] * len(things) if things.scores is None else things.scores.tolist()
        for label, score in zip(things.labels.tolist(), scores, strict=True):
            number, total = self._found.get(label, (0, 0.0))
            self._found[label] = number + 1, total + score

    def show(self, classes: "Classes", written: list[Path | None]) -> None:
        from rich.markup import escape
        from rich.table import Table

        from sightline.console import Console

        seconds = time.monotonic() - self._began
        table = Table("class", "found", "mean score")
        for label, (number, total) in sorted(self._found.items()):
            table.add_row(escape(classes.names[label]), str(number), f"{total / number:.2f}")
        console = Console(highlight=False, soft_wrap=True)
        if self._found:
            console.print(table)
        parts = [f"{number} {kind}" for kind, number in self._looked_at.items() if number]
        speed = f"{sum(self._looked_at.values()) / max(seconds, 1e-9):.1f} a second"
        console.print(f"{' and '.join(parts) or '0 photos'} in {seconds:.1f} s, {speed}")
        for path in written:
            if path is not None:
                console.print(f"written: {path}", markup=False)
