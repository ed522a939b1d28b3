"""``sightline evaluate``: the numbers of a model on labelled photos."""

import json as json_format
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from sightline.cli.computing import AS_USUAL, Computing
from sightline.cli.looking import PLAINLY, Looking, is_model
from sightline.errors import SightlineError

if TYPE_CHECKING:
    from sightline.data.packed import Dataset
    from sightline.evaluate import Answered
    from sightline.metrics.evaluation import Evaluation

_COLUMNS = 6  # numbers in one table: COCO's six of precision and six of recall fit 80 letters


def evaluate(
    model: str,
    /,
    *data: str,
    split: str | None = None,
    val: float = 0.2,
    val_seed: int = 0,
    kind: Literal["coco", "coco-masks", "coco-keypoints", "voc", "semantic"] | None = None,
    ious: Annotated[list[float] | None, Parameter(consume_multiple=True, negative=())] = None,
    sigmas: Annotated[list[float] | None, Parameter(consume_multiple=True, negative=())] = None,
    score: float | None = None,
    choose_scores: Path | None = None,
    out: Path | None = None,
    report: Path | None = None,
    coco_json: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    workers: int = 0,
    looking: Looking = PLAINLY,
    computing: Computing = AS_USUAL,
) -> None:
    """Measure a model on labelled photos, or several (MODEL MODEL ... DATA) that are asked as one.

    Parameters
    ----------
    model
        The file or public name of a checkpoint, the folder of a run, or a file written by sightline
        export.
    data
        Further models with the same classes, if any (docs/ensembles.md); then a folder of labelled
        photos (formats: docs/data.md), or one annotation file.
    split
        Which of its splits: val, train, test ...; left out, val, or all of a file that is named.
    val
        The share that is val where the folder has no such split; as in training.
    val_seed
        Which photos that share is; as in training.
    kind
        COCO's numbers for boxes, masks or keypoints; VOC's average precision; or mIoU and the like
        of label maps. Left out, semantic for a model that answers label maps, coco for others.
    ious
        Thresholds, 0..1; left out, 0.5 to 0.95 for COCO, 0.5 for VOC.
    sigmas
        How exactly each keypoint can be placed, relative to the size of its thing; left out,
        COCO's 17 of a person.
    score
        Count things scored higher; left out, as the model is set. AP needs the low ones too.
    choose_scores
        File for a score threshold for each class, the one with the best F1 on these photos at IoU
        0.5; for sightline predict --per-class-score.
    out
        File for the numbers as JSON.
    report
        File for a page (HTML) that says what to mend first: errors by kind and cost, curves,
        confusions, calibration, the worst pictures. Of boxes, whatever the kind.
    coco_json
        File for what was found in COCO's results format, with the data's own ids.
    json
        Print the numbers as one JSON document on stdout, and nothing else.
    workers
        Processes that decode photos; 0 decodes in this one.
    """
    from sightline.data.folder import named_split, open_split
    from sightline.evaluate import answer, check, kind_of, measure, measure_maps

    if report is not None:
        check("coco", None)
    _check_outputs([out, report, coco_json, choose_scores])
    models, labelled = [model, *data[:-1]], _labelled(data)
    split = split or named_split(labelled)
    dataset = open_split(labelled, split, val, val_seed)
    opened = looking.open(models, computing)
    kind = kind or kind_of(opened)
    check(kind, ious)
    if not json:
        print(f"{labelled}, {split}: {len(dataset)} pictures")
    options: dict[str, Any] = {"batch": computing.batch, "workers": workers}
    options["progress"] = sys.stderr.isatty()
    if kind == "semantic":
        _refuse_of_things(report, coco_json, choose_scores, score, ious, sigmas)
        maps = measure_maps(opened, dataset, **options)
        _show(maps, json)
        if out is not None:
            _write({out: lambda path: _write_json(path, maps.to_json())}, quiet=json)
        return
    numbers = partial(measure, kind=kind, ious=ious, sigmas=sigmas)
    answered = answer(opened, dataset, score=score, trial=numbers, **options)
    evaluation = numbers(answered)
    _show(evaluation, json)
    about = {"model": ", ".join(models), "data": f"{labelled}, {split}"}
    writers: dict[Path | None, Callable[[Path], None]] = {
        out: lambda path: _write_json(path, evaluation.to_json()),
        coco_json: lambda path: _write_json(path, _results(answered), indent=None),
        choose_scores: lambda path: _write_json(path, _choose(answered)),
        report: lambda path: _write_report(path, answered, dataset, about),
    }
    _write({path: writer for path, writer in writers.items() if path is not None}, quiet=json)


def _check_outputs(outputs: Sequence[Path | None]) -> None:
    """Before hours of work: each can be written, and none in the place of another.

    Raises:
        SightlineError: it is not so.
    """
    from sightline.files import check_target

    places = set[str]()
    for path in filter(None, outputs):
        check_target(path)
        place = os.path.realpath(path)
        if place in places:
            raise SightlineError(f"{path} is named for two outputs: give each a file of its own")
        places.add(place)


def _write(writers: Mapping[Path, Callable[[Path], None]], quiet: bool) -> None:
    """Each on its own: what cannot be written does not take the others with it.

    Raises:
        SightlineError: of those that failed.
    """
    failures = []
    for path, write in writers.items():
        try:
            write(path)
        except SightlineError as error:
            failures.append(str(error))
            continue
        if not quiet:
            print(f"written: {path}")
    if failures:
        raise SightlineError("; ".join(failures))


def _write_json(path: Path, values: Any, indent: int | None = 2) -> None:
    from sightline.files import replacing

    with replacing(path) as beside:
        beside.write_text(json_format.dumps(values, indent=indent))


def _labelled(data: tuple[str, ...]) -> Path:
    """The last argument, unless that is the file or name of a model."""
    from sightline.data.find import is_folder

    if not data or (not is_folder(Path(data[-1])) and is_model(data[-1])):
        raise SightlineError("give a folder of labelled photos or an annotation file, as the last")
    return Path(data[-1])


def _refuse_of_things(*options: object) -> None:
    """Raises:
    SightlineError: one of the options is given, and a label map has nothing for it.
    """
    if any(option is not None for option in options):
        raise SightlineError(
            "a label map has no boxes and scores: leave out report, coco-json, choose-scores, "
            "score, ious and sigmas"
        )


def _show(evaluation: "Evaluation", json: bool) -> None:
    from sightline.console import Console

    if json:
        print(json_format.dumps(evaluation.to_json(), indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    names = evaluation.columns
    for first in range(0, len(names), _COLUMNS):
        console.print(evaluation.table(names[first : first + _COLUMNS]))


def _write_report(
    path: Path, answered: "Answered", dataset: "Dataset", about: dict[str, str]
) -> None:
    from sightline.report.page import report

    truths, answers, classes, above = answered
    report(path, truths, answers, classes, dataset.picture, about=about, above=above)


def _choose(answered: "Answered") -> dict[str, object]:
    """Raises:
    SightlineError: nothing was found rightly.
    """
    from sightline.metrics.scores import choose_scores

    truths, answers, classes, above = answered
    chosen = choose_scores(truths, answers, classes, above=above)
    if not chosen:
        raise SightlineError("no thing was found rightly: there are no scores to choose")
    return {"iou": 0.5, "classes": {name: choice._asdict() for name, choice in chosen.items()}}


def _results(answered: "Answered") -> list[dict[str, object]]:
    from sightline.predict import coco_results

    rows: list[dict[str, object]] = []
    for scene in answered.answers:
        image_id = Path(scene.path).stem if scene.image_id is None else scene.image_id
        rows += coco_results(scene, answered.classes, image_id)
    return rows
