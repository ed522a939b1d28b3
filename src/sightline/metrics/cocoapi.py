"""The one place that knows hotcoco and pycocotools: matching and precision curves by COCO's rules.

Both packages take the same dictionaries and give the same arrays, to the last bit (a test says so);
pycocotools is the reference, hotcoco is many times faster and is preferred where it is installed.
"""

import contextlib
import io
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.errors import SightlineError

Backend = Literal["hotcoco", "pycocotools"]
Kind = Literal["bbox", "segm", "keypoints"]  # COCO's own words for what is compared
BACKENDS: tuple[Backend, ...] = ("hotcoco", "pycocotools")


class Api(NamedTuple):
    """The two parts of either package that we use."""

    coco: Any  # class of an indexed data set
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


def _load(name: Backend) -> Api:
    if name == "hotcoco":
        package = import_module("hotcoco")
        return Api(package.COCO, package.COCOeval)
    return Api(
        import_module("pycocotools.coco").COCO, import_module("pycocotools.cocoeval").COCOeval
    )


def accumulate(
    api: Api, truths: dict[str, Any], answers: dict[str, Any], settings: Settings
) -> Curves:
    """Match all answers to all truths, both COCO data sets with the same images and categories."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports on stdout
        evaluator = api.evaluator(_index(api, truths), _index(api, answers), settings.kind)
        parameters = evaluator.params
        parameters.iouThrs = settings.ious
        parameters.areaRng = [list(limits) for limits in settings.areas]
        parameters.areaRngLbl = [str(index) for index in range(len(settings.areas))]
        parameters.maxDets = list(settings.limits)
        if settings.sigmas is not None:
            parameters.kpt_oks_sigmas = settings.sigmas
        evaluator.evaluate()
        evaluator.accumulate()
    return Curves(evaluator.eval["precision"], evaluator.eval["recall"])


def _index(api: Api, dataset: dict[str, Any]) -> Any:
    coco = api.coco()
    coco.dataset = dataset
    coco.createIndex()
    return coco
