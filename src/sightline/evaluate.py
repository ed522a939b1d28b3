"""Measure a model on labelled pictures."""

import warnings
from collections.abc import Callable, Iterator, Sequence
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
from sightline.memory import memory_explained
from sightline.metrics.cocoapi import find_api
from sightline.metrics.detection import coco_numbers
from sightline.metrics.evaluation import Evaluation
from sightline.metrics.semantic import count_pixels, numbers_of
from sightline.metrics.voc import voc_numbers
from sightline.predict import choosing, find_things, score_of
from sightline.shapes import Int
from sightline.types import UNLABELLED, Classes, Scene
from sightline.weights.transfer import matching

Kind = Literal["coco", "coco-masks", "coco-keypoints", "voc", "semantic"]
MAIN = {"coco": "AP", "semantic": "mIoU"}  # the one number of what a model usually is measured by


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
    kind: Kind | None = None,
    ious: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    score: float | None = None,
    batch: int = 8,
    workers: int = 0,
    device: str | torch.device | None = None,
    fast: bool = True,
    progress: bool = False,
) -> Evaluation:
    """The numbers of a model on a data set, overall and per class: ``evaluate(...)["AP"]``, or
    ``["mIoU"]`` of a model that answers label maps.

    Args:
        model: a model, used as it is; the file or public name of a checkpoint; a file that
            ``sightline export`` wrote; or a list of them with the same classes, whose answers are
            fused (``sightline.ensemble`` has the settings).
        dataset: a data set, a folder of labelled pictures, or one annotation file.
        split: of a folder or file; left out: val of a folder, all of a file.
        kind: COCO's numbers for boxes, masks or keypoints, VOC's average precision (11-point and
            area), or the agreement of label maps by pixels; left out, COCO's for boxes, or that of
            maps where the model answers maps.
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
            model or the data set has no masks, keypoints or label maps to compare.
    """
    model = open_models(model, device, fast)
    kind = kind or kind_of(model)
    check(kind, ious)
    dataset = _opened(dataset, split)
    if kind == "semantic":
        with choosing(model, score):
            return measure_maps(model, dataset, batch=batch, workers=workers, progress=progress)
    answered = answer(
        model,
        dataset,
        score=score,
        batch=batch,
        workers=workers,
        progress=progress,
        trial=partial(measure, kind=kind, ious=ious, sigmas=sigmas),
    )
    return measure(answered, kind, ious, sigmas)


def kind_of(model: Any) -> Kind:
    """What a model is usually measured by."""
    return "semantic" if "semantic" in getattr(model, "needs", ()) else "coco"


def _opened(dataset: Dataset | str | Path, split: str | None = None) -> Dataset:
    """Raises:
    SightlineError: there is no such split, or no picture in it.
    """
    if isinstance(dataset, str | Path):
        dataset = open_split(dataset, split or named_split(dataset))
    if len(dataset) == 0:
        raise SightlineError("there is no picture to measure on")
    return dataset


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
    model, dataset = open_models(model, device, fast), _opened(dataset, split)
    known = _classes_of(model, dataset)
    labels, above = corresponding(known.names, dataset.classes.names), score_of(model, score)
    found: dict[int, Scene] = {}
    with choosing(model, score):
        for scenes in _answers(model, dataset, batch, workers, progress):
            found |= {index: relabelled(scene, labels) for index, scene in scenes.items()}
            if trial is not None and len(found) == len(scenes):
                trial(_beside_truth(found, dataset, above))
    return _beside_truth(found, dataset, above)


def measure_maps(
    model: Any,
    dataset: Dataset | str | Path,
    *,
    split: str | None = None,
    batch: int = 8,
    workers: int = 0,
    progress: bool = False,
) -> Evaluation:
    """The agreement of label maps, see ``evaluate``. Each is counted as it comes: those of a whole
    data set would fill the memory.

    Raises:
        SightlineError: the model or the data set has no label maps, or no class is in both.
    """
    dataset = _opened(dataset, split)
    truths, classes = lean(dataset, {"semantic"}), dataset.classes
    names = classes.in_maps
    labels = corresponding(_classes_of(model, dataset).in_maps, names)
    meaning = torch.full((UNLABELLED + 1,), UNLABELLED)
    meaning[: len(labels)] = torch.where(labels < 0, UNLABELLED, labels)
    counts = torch.zeros(len(names), len(names) + 1, dtype=torch.int64)
    for scenes in _answers(model, dataset, batch, workers, progress):
        for index, scene in scenes.items():
            true = truths.scene(index).semantic
            if scene.semantic is None or true is None:
                lacking = "the model answers" if scene.semantic is None else "the data set has"
                raise SightlineError(f"{lacking} no label maps to compare")
            counts += count_pixels(true, meaning[scene.semantic], len(names))
    return numbers_of(counts, classes, len(dataset))


def _classes_of(model: Any, dataset: Dataset) -> Classes:
    """What the labels of the model mean; those of the data set where it does not say."""
    known: Classes = getattr(getattr(model, "card", None), "classes", dataset.classes)
    return known


def _answers(
    model: Any, dataset: Dataset, batch: int, workers: int, progress: bool
) -> Iterator[dict[int, Scene]]:
    """Batch by batch, what the model finds in each picture."""
    loader = eval_loader(dataset, model.preprocess, batch=batch, workers=workers)
    with _Bar(len(dataset), progress) as bar, memory_explained(batch), workers_explained():
        for images, _, placements, indices in loader:
            found = find_things(model, images, placements)
            yield dict(zip(indices, found, strict=True))
            bar.advance(len(indices))


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
    if kind not in ("voc", "semantic"):
        find_api()


def measure(
    answered: Answered,
    kind: Kind = "coco",
    ious: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
) -> Evaluation:
    """The numbers of answers that are already there; see ``evaluate``. (Label maps are not kept as
    answers: ``measure_maps``.)"""
    check(kind, ious)
    truths, answers, classes, _ = answered
    match kind:
        case "semantic":
            raise ValueError("label maps are measured by measure_maps")
        case "voc":
            return voc_numbers(truths, answers, classes, ious=ious or (0.5,))
        case "coco":
            return coco_numbers(truths, answers, classes, ious=ious)
        case "coco-masks":
            return coco_numbers(truths, answers, classes, ious=ious, of="masks")
        case "coco-keypoints":
            return coco_numbers(truths, answers, classes, ious=ious, of="keypoints", sigmas=sigmas)


def corresponding(known: Sequence[str], wanted: Sequence[str]) -> Int[Tensor, " C"]:
    """For each class that a model knows its label in a data set, -1 where the data set lacks it;
    classes are the same where their names are, upper and lower case alike.

    Raises:
        SightlineError: they have no name in common.

    Warns:
        DataWarning: the model does not know some of the classes.
    """
    if known == wanted:
        return torch.arange(len(known))
    where = dict(matching(known, wanted))
    if not where:
        raise SightlineError(
            f"the model knows {_listed(known)}, the data set has {_listed(wanted)}: "
            "no class is in both"
        )
    found = set(where.values())
    if unknown := [name for label, name in enumerate(wanted) if label not in found]:
        warnings.warn(
            f"the model does not know {_listed(unknown)}: it finds none of them", DataWarning, 2
        )
    return torch.tensor([where.get(label, -1) for label in range(len(known))])


def relabelled(scene: Scene, labels: Int[Tensor, " C"]) -> Scene:
    """The scene with ``labels[c]`` for label c, and without the things where that is -1."""
    things = replace(scene.things, labels=labels[scene.things.labels])
    return replace(scene, things=things[things.labels >= 0])


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "none"
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
