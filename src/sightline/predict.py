"""Find things in pictures: files, folders, globs, arrays, tensors, Pillow images."""

import glob
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sightline.data.images import SUFFIXES, read_image
from sightline.errors import SightlineError
from sightline.ops import boxes as box_ops
from sightline.ops.masks import to_rles
from sightline.pillow import from_pillow
from sightline.preprocess import Preprocess
from sightline.runtime import open_model
from sightline.shapes import Float, UInt8
from sightline.types import Classes, Images, Placement, Scene
from sightline.weights.transfer import matching

Source = str | Path | NDArray[Any] | Tensor | Image.Image
OnError = Callable[[SightlineError], None]

_THREADS = 4  # that decode pictures ahead of the model
_WINDOW = 4  # batches whose pictures are put together by shape


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
        model: a model, used as it is; the file or public name of a checkpoint; or a file that
            ``sightline export`` wrote.
        sources: files, folders, globs; arrays HxWx3 (RGB) or HxW of bytes; tensors 3xHxW of bytes;
            Pillow images; or several of these.
        score: things scored higher are given, 0..1; left out: as the model is set.
        per_class_score: a threshold for each class by name, or the JSON file that ``sightline
            evaluate --choose-scores`` wrote. Classes that are not in it keep ``score``.
        top: at most so many things a picture, the best scored of those above their threshold.
        least_background: instead, so many things a picture that look least like background, each
            scored 1 - P(background); not with ``per_class_score``.
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
) -> Iterator[Found]:
    """As ``predict``, picture by picture, for folders of any length: eight batches of decoded
    pictures are held at most.

    Args:
        on_error: is told of each picture that cannot be read, and the others go on; left out, the
            first one raises.
    """
    _positive(batch, "batch")
    if per_class_score is not None and least_background is not None:
        raise SightlineError("per-class-score and least-background exclude one another: give one")
    model = open_model(model, device, fast)
    least, kept = None, top
    if per_class_score is not None:
        least = thresholds(per_class_score, model.card.classes, score_of(model, score))
        score = float(least.min()) if hasattr(model, "selection") else None
        kept = _before_thresholds(model, top)
    pictures = _read_ahead(find_sources(sources), _WINDOW * batch, on_error)
    while window := list(islice(pictures, _WINDOW * batch)):
        with choosing(model, score, kept, least_background):
            window_found = _find(model, window, batch)
        for found in window_found:
            if least is not None:
                found = found._replace(scene=_best(above(found.scene, least), top))
            yield found


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


def find_sources(sources: Source | Iterable[Source]) -> Iterator[Source]:
    """Folders and globs replaced by the picture files in them, sorted by name.

    Raises:
        SightlineError: a path that does not exist or cannot be looked at, a folder or glob without
            a picture, or what is neither a path nor a picture.
    """
    if isinstance(sources, str | Path):
        yield from _files(str(sources))
    elif isinstance(sources, np.ndarray | Tensor | Image.Image):
        yield sources
    elif isinstance(sources, Iterable):
        for source in sources:
            yield from find_sources(source)
    else:
        raise SightlineError(
            f"{type(sources).__name__} is no source: give files, folders, globs, arrays, tensors "
            "or Pillow images"
        )


def _files(source: str) -> list[Path]:
    try:
        return _existing(source)
    except OSError as error:
        raise SightlineError(f"cannot read {source}: {error.strerror}") from error


def _existing(source: str) -> list[Path]:
    path = Path(source)
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if _is_picture(file))
        if not found:
            raise SightlineError(
                f"no picture in {path}; those in its folders: '{path / '**' / '*.jpg'}'"
            )
        return found
    if path.exists():
        return [path]
    if glob.has_magic(source):
        matches = sorted(map(Path, glob.glob(source, recursive=True)))  # noqa: PTH207, any root
        found = [file for file in matches if _is_picture(file)]
        if not found:
            raise SightlineError(f"no picture matches {source}")
        return found
    raise SightlineError(f"no such file or folder: {source}")


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _read_ahead(
    sources: Iterable[Source], ahead: int, on_error: OnError | None
) -> Iterator[tuple[str, Tensor]]:
    """The path (or nothing) and the picture of each source, decoded in threads."""
    pool = ThreadPoolExecutor(_THREADS)
    waiting: deque[Future[tuple[str, Tensor]]] = deque()
    try:
        for source in sources:
            waiting.append(pool.submit(_read, source))
            if len(waiting) > ahead:
                yield from _result(waiting.popleft(), on_error)
        while waiting:
            yield from _result(waiting.popleft(), on_error)
    finally:
        pool.shutdown(cancel_futures=True)


def _result(
    future: Future[tuple[str, Tensor]], on_error: OnError | None
) -> Iterator[tuple[str, Tensor]]:
    try:
        yield future.result()
    except SightlineError as error:
        if on_error is None:
            raise
        on_error(error)


def _read(source: Source) -> tuple[str, Tensor]:
    if isinstance(source, str | Path):
        return str(source), read_image(source)
    if isinstance(source, Image.Image):
        return "", _from_image(source)
    return "", _from_array(source)


def _from_image(image: Image.Image) -> UInt8[Tensor, "3 H W"]:
    """An image that was opened from a file is read from it only now."""
    try:
        return from_pillow(image)
    except (OSError, RuntimeError, SyntaxError, ValueError) as error:
        name = getattr(image, "filename", "") or "a Pillow image"
        raise SightlineError(f"cannot read {name} as a picture: {error}") from error


def _from_array(values: NDArray[Any] | Tensor) -> UInt8[Tensor, "3 H W"]:
    """HxWx3 or HxW as numpy has them, 3xHxW, 1xHxW or HxW as torch has them."""
    shape = "x".join(map(str, values.shape))
    wanted = "HxWx3 or HxW" if isinstance(values, np.ndarray) else "3xHxW or HxW"
    kind = "an array" if isinstance(values, np.ndarray) else "a tensor"
    if isinstance(values, np.ndarray):
        if values.dtype != np.uint8:
            raise SightlineError(f"{kind} of {values.dtype}: bytes (uint8, 0..255) are wanted")
        values = torch.from_numpy(np.ascontiguousarray(values))
        values = values.permute(2, 0, 1) if values.ndim == 3 else values
    if values.dtype != torch.uint8:
        raise SightlineError(f"{kind} of {values.dtype}: bytes (uint8, 0..255) are wanted")
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or len(values) not in (1, 3) or values.numel() == 0:
        raise SightlineError(f"{kind} of shape {shape}: {wanted} is wanted")
    return values.expand(3, -1, -1)


def _find(model: Any, window: Sequence[tuple[str, Tensor]], batch: int) -> list[Found]:
    """Pictures that fill the same canvas go together; the order stays."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, (_, picture) in enumerate(window):
        groups.setdefault(_canvas(model.preprocess, picture), []).append(index)
    found: dict[int, Found] = {}
    for members in groups.values():
        for first in range(0, len(members), batch):
            rows = members[first : first + batch]
            images, placements = model.preprocess([window[row][1] for row in rows])
            for row, scene in zip(rows, find_things(model, images, placements), strict=True):
                path, picture = window[row]
                found[row] = Found(picture, replace(scene, path=path))
    return [found[index] for index in range(len(window))]


def _canvas(preprocess: Preprocess, picture: Tensor) -> tuple[int, int]:
    height, width = picture.shape[1:]
    return preprocess.canvas([preprocess.size(height, width)])


def find_things(model: Any, images: Images, placements: Sequence[Placement]) -> list[Scene]:
    """One batch through the model in eval mode, without gradients; scenes on the CPU."""
    device = next(model.parameters(), torch.empty(0)).device  # an exported file has none
    with torch.no_grad(), resting(model):
        selected = model(images.to(device))
        return [scene.to("cpu") for scene in model.describe(selected, placements)]


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
    """A scene as JSON values: boxes xyxy in pixels, keypoints x, y, score, masks as COCO's RLE."""
    names = [classes.names[label] for label in scene.things.labels.tolist()]
    columns: dict[str, list[Any]] = {"class": names, "box": scene.things.boxes.tolist()}
    if scene.things.scores is not None:
        columns["score"] = scene.things.scores.tolist()
    columns |= _masks_and_keypoints(scene, flat=False)
    things = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    height, width = scene.size
    return {"path": scene.path, "height": height, "width": width, "things": things}


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
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


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
