"""The one place that knows hotcoco and pycocotools: matching and precision curves by COCO's rules.

Both packages give the same arrays from the same things, to the last bit (a test says so);
pycocotools is the reference, hotcoco is many times faster and is preferred where it is installed.
It takes columns, where pycocotools wants a dictionary for each thing.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.errors import SightlineError
from sightline.types import Rle

Backend = Literal["hotcoco", "pycocotools"]
Kind = Literal["bbox", "segm", "keypoints"]  # COCO's own words for what is compared
BACKENDS: tuple[Backend, ...] = ("hotcoco", "pycocotools")


class Frame(NamedTuple):
    """What truths and answers share, as COCO writes it."""

    images: list[dict[str, Any]]
    categories: list[dict[str, Any]]


class Things(NamedTuple):
    """N things in columns; row i is the annotation with id i + 1 (pycocotools takes 0 for none)."""

    image_ids: NDArray[Any]  # int [N]
    category_ids: NDArray[Any]  # int [N]
    boxes: NDArray[np.float64]  # [N, 4] x, y, width, height
    area: NDArray[np.float64]  # [N] square pixels
    crowd: NDArray[np.bool_]  # [N]
    scores: NDArray[np.float64]  # [N]
    masks: list[Rle] | None = None
    keypoints: list[list[float]] | None = None  # x, y, visibility, x, y, ...


class Pair(NamedTuple):
    """Truths and answers, each a package's own indexed data set."""

    truths: Any
    answers: Any


class Api(NamedTuple):
    """What we use of either package."""

    pair: Callable[[Frame, Things, Things], Pair]
    evaluator: Any  # class that matches and accumulates


class Settings(NamedTuple):
    """What the evaluator is told."""

    kind: Kind
    ious: NDArray[np.float64]  # [T] thresholds
    areas: Sequence[tuple[float, float]]  # A ranges, square pixels
    limits: Sequence[int]  # M numbers of answers counted per picture and class, best first
    sigmas: NDArray[np.float64] | None  # [K] of the keypoints


class Curves(NamedTuple):
    """-1 where a class has no truth in an area range. R = 101 recalls, 0, 0.01 ... 1."""

    precision: NDArray[np.float64]  # [T, R, C, A, M]
    recall: NDArray[np.float64]  # [T, C, A, M]


class Matches(NamedTuple):
    """D pairs of rows, in no order: what was matched to what, at each of T thresholds."""

    answers: NDArray[np.int64]  # [D] answers beyond the limits are not among them
    truths: NDArray[np.int64]  # [T, D] -1 for none
    ignored: NDArray[np.bool_]  # [T, D] the answer lies in a crowd: it counts neither way


def find_api(backend: Backend | None = None) -> Api:
    """The package asked for, or the first that is installed.

    Raises:
        SightlineError: none is.
    """
    for name in BACKENDS if backend is None else (backend,):
        with contextlib.suppress(ImportError):
            return _load(name)
    raise SightlineError(
        f"COCO's numbers need the package {backend or 'hotcoco (or pycocotools)'}, which is not "
        f"installed: pip install {backend or 'hotcoco'}"
    )


def api_is_there() -> bool:
    """Whether hotcoco or pycocotools is installed: a bare machine trains without."""
    try:
        find_api()
    except SightlineError:
        return False
    return True


def _load(name: Backend) -> Api:
    if name == "hotcoco":
        package = import_module("hotcoco")
        return Api(partial(_pair_of_columns, package.COCO), package.COCOeval)
    coco = import_module("pycocotools.coco").COCO
    return Api(partial(_pair, coco), import_module("pycocotools.cocoeval").COCOeval)


def accumulate(api: Api, pair: Pair, settings: Settings) -> Curves:
    """Match all answers to all truths, and draw the curves."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports on stdout
        evaluator = _evaluated(api, pair, settings)
        evaluator.accumulate()
    return Curves(evaluator.eval["precision"], evaluator.eval["recall"])


def match(api: Api, pair: Pair, settings: Settings) -> Matches:
    """Which truth each answer is matched to, in the first area range."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluated = _evaluated(api, pair, settings._replace(areas=settings.areas[:1])).evalImgs
    found = [image for image in evaluated if image is not None and len(image["dtIds"])]
    across = len(settings.ious), 0
    return Matches(
        answers=np.concatenate([np.zeros(0), *(i["dtIds"] for i in found)]).astype(np.int64) - 1,
        truths=np.concatenate(
            [np.zeros(across), *(np.asarray(i["dtMatches"]) for i in found)], axis=1
        ).astype(np.int64)
        - 1,
        ignored=np.concatenate(
            [np.zeros(across), *(np.asarray(i["dtIgnore"]) for i in found)], axis=1
        ).astype(bool),
    )


def _evaluated(api: Api, pair: Pair, settings: Settings) -> Any:
    """An evaluator that has matched all."""
    evaluator = api.evaluator(*pair, settings.kind)
    parameters = evaluator.params
    parameters.iouThrs = settings.ious
    parameters.areaRng = [list(limits) for limits in settings.areas]
    parameters.areaRngLbl = [str(index) for index in range(len(settings.areas))]
    parameters.maxDets = list(settings.limits)
    if settings.sigmas is not None:
        parameters.kpt_oks_sigmas = settings.sigmas
    evaluator.evaluate()
    return evaluator


def _pair_of_columns(coco: Any, frame: Frame, truths: Things, answers: Things) -> Pair:
    """Of hotcoco, whose columns have no room for keypoints."""
    if truths.keypoints is not None:
        return _pair(coco, frame, truths, answers)
    known = coco.from_arrays(
        *frame,
        truths.image_ids,
        truths.category_ids,
        truths.boxes,
        area=truths.area,
        iscrowd=truths.crowd,
        segmentation=truths.masks,
    )
    rows = [answers.image_ids, answers.boxes, answers.scores, answers.category_ids]
    found = known.load_res(np.column_stack(rows), segmentation=answers.masks)
    found.update_anns(ids=_ids(answers), area=answers.area)  # it took the boxes'
    return Pair(known, found)


def _pair(coco: Any, frame: Frame, truths: Things, answers: Things) -> Pair:
    """Of either package, from a dictionary for each thing."""
    pair = Pair(coco(), coco())
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports on stdout
        for dataset, things in zip(pair, (truths, answers), strict=True):
            dataset.dataset = {"info": {}, **frame._asdict(), "annotations": _annotations(things)}
            dataset.createIndex()
    return pair


def _annotations(things: Things) -> list[dict[str, Any]]:
    columns: dict[str, list[Any]] = {
        "id": _ids(things).tolist(),
        "image_id": things.image_ids.tolist(),
        "category_id": things.category_ids.tolist(),
        "bbox": things.boxes.tolist(),
        "area": things.area.tolist(),
        "iscrowd": things.crowd.astype(np.int64).tolist(),
        "score": things.scores.tolist(),
    }
    if things.masks is not None:
        columns["segmentation"] = things.masks
    if things.keypoints is not None:
        columns["keypoints"] = things.keypoints
        columns["num_keypoints"] = [sum(v > 0 for v in row[2::3]) for row in things.keypoints]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _ids(things: Things) -> NDArray[np.int64]:
    return np.arange(1, len(things.image_ids) + 1)
