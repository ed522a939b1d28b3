"""Measure a model on labelled pictures."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from sightline.data.folder import named_split, open_split
from sightline.data.loader import eval_loader, workers_explained
from sightline.data.packed import Dataset, DataWarning, lean
from sightline.ensemble import open_models
from sightline.errors import SightlineError
from sightline.metrics.cocoapi import find_api
from sightline.metrics.detection import coco_numbers
from sightline.metrics.evaluation import Evaluation
from sightline.metrics.voc import voc_numbers
from sightline.predict import choosing, find_things, score_of
from sightline.shapes import Int
from sightline.types import Classes, Scene
from sightline.weights.transfer import matching

Kind = Literal["coco", "coco-masks", "coco-keypoints", "voc"]


class Answered(NamedTuple):
    """What there is, what the model found, and what the labels of both mean."""

    truths: list[Scene]
    answers: list[Scene]
    classes: Classes
    above: float  # things scored higher are among the answers


def evaluate(
    model: Any,
    dataset: Dataset | str | Path,
    *,
    split: str | None = None,
    kind: Kind = "coco",
    ious: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    score: float | None = None,
    batch: int = 8,
    workers: int = 0,
    device: str | torch.device | None = None,
    fast: bool = True,
    progress: bool = False,
) -> Evaluation:
    """The numbers of a model on a data set, overall and per class: ``evaluate(...)["AP"]``.

    Args:
        model: a model, used as it is; the file or public name of a checkpoint; a file that
            ``sightline export`` wrote; or a list of them with the same classes, whose answers are
            fused (``sightline.ensemble`` has the settings).
        dataset: a data set, a folder of labelled pictures, or one annotation file.
        split: of a folder or file; left out: val of a folder, all of a file.
        kind: COCO's numbers for boxes, masks or keypoints, or VOC's average precision (11-point
            and area).
        ious: thresholds, 0..1; left out: 0.5, 0.55 ... 0.95 for COCO, 0.5 for VOC.
        sigmas: how exactly each keypoint can be placed, relative to the size of its thing; left
            out: those of COCO's 17 person keypoints.
        score: things scored higher are counted; left out: as the model is set. Average precision
            needs the low ones too: raising it lowers the numbers.
        device: left out: where the model is; for a checkpoint, the GPU if there is one.
        fast: the model of a checkpoint is fused first, see ``sightline.fuse``.
        progress: show a bar on stderr.

    Raises:
        SightlineError: nothing to measure, no class in common, hotcoco is not installed, or the
            model or the data set has no masks or keypoints to compare.
    """
    check(kind, ious)
    answered = answer(
        model,
        dataset,
        split=split,
        score=score,
        batch=batch,
        workers=workers,
        device=device,
        fast=fast,
        progress=progress,
        trial=partial(measure, kind=kind, ious=ious, sigmas=sigmas),
    )
    return measure(answered, kind, ious, sigmas)


def answer(
    model: Any,
    dataset: Dataset | str | Path,
    *,
    split: str | None = None,
    score: float | None = None,
    batch: int = 8,
    workers: int = 0,
    device: str | torch.device | None = None,
    fast: bool = True,
    progress: bool = False,
    trial: Callable[[Answered], object] | None = None,
) -> Answered:
    """What the model finds in every picture of the data set, beside the truth; see ``evaluate``.

    ``trial`` gets the first batch, to refuse before the model runs over all the others what cannot
    be measured.
    """
    if isinstance(dataset, str | Path):
        dataset = open_split(dataset, split or named_split(dataset))
    if len(dataset) == 0:
        raise SightlineError("there is no picture to measure on")
    model = open_models(model, device, fast)
    known = getattr(getattr(model, "card", None), "classes", dataset.classes)
    labels, above = corresponding(known, dataset.classes), score_of(model, score)
    loader = eval_loader(dataset, model.preprocess, batch=batch, workers=workers)
    found: dict[int, Scene] = {}
    with choosing(model, score), _Bar(len(dataset), progress) as bar, workers_explained():
        for images, _, placements, indices in loader:
            for index, scene in zip(indices, find_things(model, images, placements), strict=True):
                found[index] = relabelled(scene, labels)
            if trial is not None and len(found) == len(indices):
                trial(_beside_truth(found, dataset, above))
            bar.advance(len(indices))
    return _beside_truth(found, dataset, above)


def _beside_truth(found: dict[int, Scene], dataset: Dataset, above: float) -> Answered:
    truths = list(map(lean(dataset).scene, sorted(found)))
    answers = [
        replace(found[index], path=truth.path, image_id=truth.image_id)
        for index, truth in zip(sorted(found), truths, strict=True)
    ]
    return Answered(truths, answers, dataset.classes, above)


def check(kind: Kind, ious: Sequence[float] | None) -> None:
    """Whether all is there that the numbers need, before the model runs for hours.

    Raises:
        SightlineError: thresholds outside 0..1, or a package that is not installed.
    """
    if any(not 0 < iou <= 1 for iou in ious or ()):
        raise SightlineError("IoU thresholds must lie in 0..1")
    if kind != "voc":
        find_api()


def measure(
    answered: Answered,
    kind: Kind = "coco",
    ious: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
) -> Evaluation:
    """The numbers of answers that are already there; see ``evaluate``."""
    check(kind, ious)
    truths, answers, classes, _ = answered
    match kind:
        case "voc":
            return voc_numbers(truths, answers, classes, ious=ious or (0.5,))
        case "coco":
            return coco_numbers(truths, answers, classes, ious=ious)
        case "coco-masks":
            return coco_numbers(truths, answers, classes, ious=ious, of="masks")
        case "coco-keypoints":
            return coco_numbers(truths, answers, classes, ious=ious, of="keypoints", sigmas=sigmas)


def corresponding(known: Classes, wanted: Classes) -> Int[Tensor, " C"]:
    """For each class that a model knows its label in a data set, -1 where the data set lacks it;
    classes are the same where their names are, upper and lower case alike.

    Raises:
        SightlineError: they have no name in common.

    Warns:
        DataWarning: the model does not know some of the classes.
    """
    if known.names == wanted.names:
        return torch.arange(len(known.names))
    where = dict(matching(known.names, wanted.names))
    if not where:
        raise SightlineError(
            f"the model knows {_listed(known.names)}, the data set has {_listed(wanted.names)}: "
            "no class is in both"
        )
    found = set(where.values())
    if unknown := [name for label, name in enumerate(wanted.names) if label not in found]:
        warnings.warn(
            f"the model does not know {_listed(unknown)}: it finds none of them", DataWarning, 2
        )
    return torch.tensor([where.get(label, -1) for label in range(len(known.names))])


def relabelled(scene: Scene, labels: Int[Tensor, " C"]) -> Scene:
    """The scene with ``labels[c]`` for label c, and without the things where that is -1."""
    things = replace(scene.things, labels=labels[scene.things.labels])
    return replace(scene, things=things[things.labels >= 0])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


class _Bar:
    """A bar on stderr, or nothing."""

    def __init__(self, total: int, shown: bool) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._progress = Progress(console=Console(stderr=True), disable=not shown, transient=True)
        self._task = self._progress.add_task("measuring", total=total)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, pictures: int) -> None:
        self._progress.advance(self._task, pictures)
