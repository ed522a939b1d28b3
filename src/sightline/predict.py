"""Find things in pictures: files, folders, globs, videos, arrays, tensors, Pillow images."""

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sightline.data.sources import READERS, OnError, Picture, Source, find_sources, read_ahead
from sightline.ensemble import Pictures, open_models
from sightline.errors import SightlineError
from sightline.memory import memory_explained
from sightline.ops import boxes as box_ops
from sightline.ops.masks import to_rles
from sightline.preprocess import Preparing
from sightline.runtime import device_of
from sightline.shapes import Float, Int, UInt8
from sightline.threads import ahead, helpers
from sightline.types import Classes, Images, Placement, Scene
from sightline.weights.transfer import matching


class Found(NamedTuple):
    picture: UInt8[Tensor, "3 H W"]
    scene: Scene


def predict(
    model: Any,
    sources: Source | Iterable[Source],
    *,
    score: float | None = None,
    per_class_score: str | Path | Mapping[str, float] | None = None,
    top: int | None = None,
    least_background: int | None = None,
    batch: int = 8,
    device: str | torch.device | None = None,
    fast: bool = True,
) -> list[Scene]:
    """What the model finds in each picture, in pixels of the picture, in the order of the sources.

    Args:
        model: a model, used as it is; the file or public name of a checkpoint; a file that
            ``sightline export`` wrote; or a list of them with the same classes, whose answers are
            fused (``sightline.ensemble`` has the settings).
        sources: files, folders, globs; arrays HxWx3 (RGB) or HxW of bytes; tensors 3xHxW of bytes;
            Pillow images; or several of these. A video gives a scene for each frame.
        score: things scored higher are given, 0..1; left out: as the model is set.
        per_class_score: a threshold for each class by name, or the JSON file that ``sightline
            evaluate --choose-scores`` wrote. Classes that are not in it keep ``score``.
        top: at most so many things a picture, the best scored of those above their threshold.
        least_background: instead, so many things a picture that look least like background, each
            scored 1 - P(background); of a model with a second stage (Faster R-CNN), and not with
            ``per_class_score``.
        batch: pictures of one shape that go through the model together, 1 or more.
        device: left out: where the model is; for a checkpoint, the GPU if there is one.
        fast: the model of a checkpoint is fused first, see ``sightline.fuse``.

    Raises:
        SightlineError: a source is missing or unreadable, or an option does not fit the model.
    """
    stream = predict_stream(
        model,
        sources,
        score=score,
        per_class_score=per_class_score,
        top=top,
        least_background=least_background,
        batch=batch,
        device=device,
        fast=fast,
    )
    return [found.scene for found in stream]


def predict_stream(
    model: Any,
    sources: Source | Iterable[Source],
    *,
    score: float | None = None,
    per_class_score: str | Path | Mapping[str, float] | None = None,
    top: int | None = None,
    least_background: int | None = None,
    batch: int = 8,
    device: str | torch.device | None = None,
    fast: bool = True,
    on_error: OnError | None = None,
) -> Generator[Found, None, None]:
    """As ``predict``, picture by picture, for folders and videos of any length: four batches of
    decoded pictures and a few more are held at most.

    Pictures are read, and answers described, in threads, while the model runs in the calling one.
    They end with the iterator: when it is exhausted, closed or dropped, or raises.

    Args:
        on_error: is told of each picture or video that cannot be read, and the others go on; left
            out, the first one raises.
    """
    _positive(batch, "batch")
    if per_class_score is not None and least_background is not None:
        raise SightlineError("per-class-score and least-background exclude one another: give one")
    model = open_models(model, device, fast)
    if per_class_score is not None and "semantic" in getattr(model, "needs", ()):
        raise SightlineError("a label map has no scores: leave out per-class-score")
    least, kept = None, top
    if per_class_score is not None:
        least = thresholds(per_class_score, model.card.classes, score_of(model, score))
        score = float(least.min()) if hasattr(model, "selection") else None
        kept = _before_thresholds(model, top)
    choice = partial(choosing, model, score, kept, least_background)
    line = _Line(model, batch, choice, least, top)
    read = read_ahead(find_sources(sources), max(batch, READERS), on_error)
    with closing(read) as pictures, memory_explained(batch):
        yield from line.found(pictures)


class _Group(NamedTuple):
    """Pictures that fill the same canvas, and the place of each in the order of all."""

    pictures: list[Picture]
    places: list[int]


_Prepared = tuple[_Group, Images | Pictures, list[Placement]]
_Answered = tuple[_Group, Any, list[Placement]]


@dataclass
class _Line:
    """From pictures to what is found in them. A thread prepares the next batch and another one
    describes the last while the model, in the calling thread, looks at one.

    Pictures of three batches, and three more, are on their way at most.
    """

    model: Any
    batch: int
    choice: Callable[[], AbstractContextManager[None]]  # the settings of the model, while it looks
    least: Tensor | None  # a threshold for each class
    top: int | None
    turn: int = 0  # the place of the picture that is given next

    def found(self, pictures: Iterable[Picture]) -> Iterator[Found]:
        with helpers(1) as before, helpers(1) as behind:

            def prepare(group: _Group) -> Future[_Prepared]:
                return before.submit(self._prepare, group)

            def describe(answered: _Answered) -> Future[dict[int, Found]]:
                return behind.submit(self._describe, answered)

            prepared = ahead(map(prepare, self._grouped(pictures)), 1)
            described = ahead(map(describe, map(self._answer, prepared)), 1)
            yield from self._in_turn(described)

    def _grouped(self, pictures: Iterable[Picture]) -> Iterator[_Group]:
        """Batches of one canvas. The group whose first picture waits longest goes before it is full
        where others would have to wait for it."""
        open_groups: dict[tuple[int, int], _Group] = {}  # a dict keeps them in order of age
        for place, picture in enumerate(pictures):
            canvas = _canvas(self.model.preprocess, picture.pixels)
            group = open_groups.setdefault(canvas, _Group([], []))
            group.pictures.append(picture)
            group.places.append(place)
            if len(group.places) == self.batch:
                yield open_groups.pop(canvas)
            if open_groups and place - self.turn >= 3 * self.batch:
                yield open_groups.pop(next(iter(open_groups)))
        yield from open_groups.values()

    def _prepare(self, group: _Group) -> _Prepared:
        return group, *self.model.preprocess([picture.pixels for picture in group.pictures])

    def _answer(self, prepared: _Prepared) -> _Answered:
        group, images, placements = prepared
        with self.choice():
            return group, answer_of(self.model, images), placements

    def _describe(self, answered: _Answered) -> dict[int, Found]:
        group, answer, placements = answered
        scenes = scenes_of(self.model, answer, placements)
        return {
            place: Found(picture.pixels, self._sifted(scene, picture))
            for place, picture, scene in zip(group.places, group.pictures, scenes, strict=True)
        }

    def _sifted(self, scene: Scene, picture: Picture) -> Scene:
        scene = replace(scene, path=picture.path, moment=picture.moment)
        return scene if self.least is None else _best(above(scene, self.least), self.top)

    def _in_turn(self, described: Iterable[dict[int, Found]]) -> Iterator[Found]:
        early: dict[int, Found] = {}
        for found in described:
            early |= found
            while self.turn in early:
                yield early.pop(self.turn)
                self.turn += 1


def _canvas(preprocess: Preparing, picture: Tensor) -> tuple[int, int]:
    height, width = picture.shape[1:]
    return preprocess.canvas([preprocess.size(height, width)])


def _before_thresholds(model: Any, top: int | None) -> int | None:
    """How many things a model is to give so that ``top`` of them may be left by the thresholds."""
    if top is None or not hasattr(model, "selection"):
        return top
    return max(_positive(top, "top"), model.selection.top)


def _best(scene: Scene, top: int | None) -> Scene:
    """The best scored things, at most so many."""
    if top is None:
        return scene
    assert scene.things.scores is not None
    order = scene.things.scores.argsort(descending=True, stable=True)
    return replace(scene, things=scene.things[order[:top]])


def score_of(model: Any, score: float | None) -> float:
    """What a thing must be scored higher than to be given."""
    if score is not None:
        return score
    return float(model.selection.score) if hasattr(model, "selection") else 0.0


@contextmanager
def choosing(
    model: Any,
    score: float | None = None,
    top: int | None = None,
    least_background: int | None = None,
) -> Iterator[None]:
    """The model with other settings of which answers it gives; as before afterwards.

    Raises:
        SightlineError: it has no such settings, or they contradict one another.
    """
    changes: dict[str, Any] = {}
    if score is not None:
        changes["score"] = _within(score, "score")
    if top is not None:
        changes["top"] = _positive(top, "top")
    if least_background is not None:
        if top is not None:
            raise SightlineError("top and least-background exclude one another: give one")
        changes = {"score": 0.0} | changes
        changes |= {"top": _positive(least_background, "least-background"), "by": "background"}
    before = getattr(model, "selection", None)
    if missing := [name for name in changes if not hasattr(before, name)]:
        raise SightlineError(f"this model does not let one choose by {', '.join(missing)}")
    if "by" in changes and not getattr(model, "by_background", False):
        raise SightlineError("least-background is for models with a second stage: leave it out")
    try:
        if changes:
            model.selection = replace(before, **changes)  # type: ignore[type-var]
        yield
    finally:
        if changes:
            model.selection = before


def _within(value: float, name: str) -> float:
    if not isinstance(value, Real):
        raise SightlineError(f"{name} must be a number in 0..1, not {value!r}")
    if not 0 <= value <= 1:
        raise SightlineError(f"{name} must lie in 0..1, not {value:g}")
    return value


def _positive(value: int, name: str) -> int:
    if value < 1:
        raise SightlineError(f"{name} must be 1 or more, not {value}")
    return value


def thresholds(
    chosen: str | Path | Mapping[str, float], classes: Classes, others: float
) -> Float[Tensor, " C"]:
    """A score for each class; ``others`` for those that ``chosen`` does not name (in upper or lower
    case alike, as in ``evaluate``).

    Raises:
        SightlineError: the file cannot be read, or names a class that the model does not know.
    """
    where = "per-class scores"
    if isinstance(chosen, str | Path):
        where, chosen = str(chosen), _read_scores(Path(chosen))
    names, scores = list(chosen), [others] * len(classes)
    labels = dict(matching(names, classes.names))
    for index, name in enumerate(names):
        if index not in labels:
            raise SightlineError(
                f"{where}: the model has no class {name}; it knows {', '.join(classes.names)}"
            )
        scores[labels[index]] = _within(chosen[name], f"{where}: {name}")
    return torch.tensor(scores, dtype=torch.float32)


def _read_scores(path: Path) -> dict[str, float]:
    try:
        values = json.loads(path.read_text())
        return {name: float(row["score"]) for name, row in values["classes"].items()}
    except OSError as error:
        raise SightlineError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SightlineError(
            f"{path} is not a file of scores: write one with sightline evaluate --choose-scores"
        ) from error


def above(scene: Scene, least: Float[Tensor, " C"]) -> Scene:
    """The things scored higher than the threshold of their class."""
    things = scene.things
    assert things.scores is not None
    return replace(scene, things=things[things.scores > least[things.labels]])


def find_things(
    model: Any, images: Images | Pictures, placements: Sequence[Placement]
) -> list[Scene]:
    """One batch through the model in eval mode, without gradients; scenes on the CPU."""
    return scenes_of(model, answer_of(model, images), placements)


def answer_of(model: Any, images: Images | Pictures) -> Any:
    """What the model selects in one batch."""
    with torch.no_grad(), resting(model):
        return model(images.to(device_of(model)))


def scenes_of(model: Any, answer: Any, placements: Sequence[Placement]) -> list[Scene]:
    """The answer in words and in pixels of the pictures, on the CPU."""
    with torch.no_grad():
        return [scene.to("cpu") for scene in model.describe(answer, placements)]


@contextmanager
def resting(model: Any) -> Iterator[None]:
    """The model in eval mode; afterwards every part of it in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def scene_json(scene: Scene, classes: Classes) -> dict[str, Any]:
    """A scene as JSON values: boxes xyxy in pixels, keypoints x, y, score, masks as COCO's RLE; of
    a label map the pixels of each class."""
    names = [classes.names[label] for label in scene.things.labels.tolist()]
    columns: dict[str, list[Any]] = {"class": names, "box": scene.things.boxes.tolist()}
    if scene.things.scores is not None:
        columns["score"] = scene.things.scores.tolist()
    columns |= _masks_and_keypoints(scene, flat=False)
    things = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    height, width = scene.size
    where = {"path": scene.path, "height": height, "width": width} | _moment(scene)
    maps = {} if scene.semantic is None else {"pixels": pixels_by_class(scene.semantic, classes)}
    return where | {"things": things} | maps


def pixels_by_class(semantic: Int[Tensor, "H W"], classes: Classes) -> dict[str, int]:
    """How many pixels of a label map each class has, the most frequent first; none that has none,
    nor those that are unlabelled."""
    counts = torch.bincount(semantic.flatten(), minlength=len(classes.in_maps)).tolist()
    found = [(n, name) for n, name in zip(counts, classes.in_maps, strict=False) if n > 0]
    return {name: number for number, name in sorted(found, key=lambda pair: -pair[0])}


def coco_results(scene: Scene, classes: Classes, image_id: int | str) -> list[dict[str, Any]]:
    """The things of a scene in COCO's results format, with the data set's own category ids."""
    things = scene.things
    assert things.scores is not None
    columns: dict[str, list[Any]] = {
        "image_id": [image_id] * len(things),
        "category_id": [classes.ids[label] for label in things.labels.tolist()],
        "bbox": box_ops.to_xywh(things.boxes).tolist(),
        "score": things.scores.tolist(),
    }
    columns |= _masks_and_keypoints(scene, flat=True)
    when = _moment(scene)
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) | when for row in rows]


def _moment(scene: Scene) -> dict[str, Any]:
    """Number and time in seconds of a frame of a video."""
    return {} if scene.moment is None else scene.moment._asdict()


def _masks_and_keypoints(scene: Scene, flat: bool) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    things = scene.things
    if things.masks is not None:
        columns["segmentation"] = [
            {"size": list(rle["size"]), "counts": _text(rle["counts"])}
            for rle in to_rles(things.masks, scene.size)
        ]
    if things.keypoints is not None:
        points = things.keypoints
        columns["keypoints"] = (points.flatten(1) if flat else points).tolist()
    return columns


def _text(counts: bytes | str) -> str:
    return counts.decode() if isinstance(counts, bytes) else counts
