"""COCO's numbers for boxes, masks and keypoints, overall and per class."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.errors import SightlineError
from sightline.metrics.cocoapi import (
    Backend,
    Curves,
    Frame,
    Kind,
    Settings,
    Things,
    accumulate,
    find_api,
    match,
)
from sightline.metrics.curves import Curve, curves_by_class
from sightline.metrics.evaluation import Evaluation
from sightline.metrics.table import Table, check_pairs, table
from sightline.ops.masks import areas, to_rles
from sightline.types import Classes, Rle, Scene

Of = Literal["boxes", "masks", "keypoints"]
KINDS: dict[Of, Kind] = {"boxes": "bbox", "masks": "segm", "keypoints": "keypoints"}
IOUS = np.linspace(0.5, 0.95, 10)
# COCO's size classes, in square pixels: all, small, medium, large. Keypoints have no small ones.
AREAS = {"": (0.0, 1e10), "s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, 1e10)}
LIMITS: dict[Of, tuple[int, ...]] = {
    "boxes": (1, 10, 100),
    "masks": (1, 10, 100),
    "keypoints": (20,),
}
# How exactly people place each of COCO's 17 person keypoints, relative to the person's size
# (cocodataset.org, "Keypoint Evaluation").
PERSON_SIGMAS = (
    [0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072]
    + [0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089]
)  # fmt: skip


def coco_numbers(
    truths: Sequence[Scene],
    answers: Sequence[Scene],
    classes: Classes,
    ious: Sequence[float] | None = None,
    of: Of = "boxes",
    limits: Sequence[int] | None = None,
    sigmas: Sequence[float] | None = None,
    backend: Backend | None = None,
) -> Evaluation:
    """COCO's twelve numbers (ten for keypoints): AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100,
    ARs, ARm, ARl. Overall they are averages over the classes with a truth; NaN where there is none.

    An ignored truth is a crowd: answers that lie in it count neither way. The size of a truth is
    its ``area`` where known, else that of its mask (``of="masks"``) or box.

    Args:
        answers: one for each truth, of the same picture.
        ious: thresholds to average over, 0..1, each then also on its own: [0.3] gives AP and AP30.
            Left out: 0.5, 0.55 ... 0.95, with AP50 and AP75 on their own.
        of: what is compared. Keypoints are compared by OKS instead of IoU.
        limits: numbers of answers counted per picture and class; the largest one holds for AP.
        sigmas: one for each keypoint; left out: those of COCO's 17 person keypoints.
        backend: the package to use; left out: the one that is installed.

    Raises:
        SightlineError: neither package is installed; or keypoints without sigmas that are not 17.
    """
    check_pairs(truths, answers)
    order = _by_image_id(truths)
    truths, answers = [truths[i] for i in order], [answers[i] for i in order]
    api = find_api(backend)
    settings = Settings(
        kind=KINDS[of],
        ious=IOUS if ious is None else np.asarray(sorted(ious), dtype=np.float64),
        areas=[limits for name, limits in AREAS.items() if (of, name) != ("keypoints", "s")],
        limits=sorted(limits or LIMITS[of]),
        sigmas=_sigmas(truths, sigmas) if of == "keypoints" else None,
    )
    # Our columns get no name here: they are freed once the package has its own copy.
    pair = api.pair(_frame(truths, classes), _things(truths, of), _things(answers, of))
    curves = accumulate(api, pair, settings)
    own = (0.5, 0.75) if ious is None else ious
    everything = slice(None)
    return Evaluation(
        kind="coco" if of == "boxes" else f"coco-{of}",
        overall=_numbers(curves, settings, own, everything),
        per_class={
            name: _numbers(curves, settings, own, slice(index, index + 1))
            for index, name in enumerate(classes.names)
        },
        images=len(truths),
    )


class Matching(NamedTuple):
    """N truths and D answers of some pictures, and which answers are right at T thresholds. Rows
    are ordered by image id, as in COCO's tools."""

    truths: Table
    answers: Table
    ious: NDArray[np.float64]  # [T]
    found: NDArray[np.int64]  # [T, D] row of the truth that each answer is matched to, -1 for none
    counted: NDArray[np.bool_]  # [T, D] not in an ignored region, and among the best 100
    classes: int

    def counts(self) -> NDArray[np.int64]:
        """The truths of each class that are to be found, [C]."""
        return np.bincount(self.truths.labels[~self.truths.ignore], minlength=self.classes)

    def right(self, row: int = 0) -> NDArray[np.bool_]:
        """At threshold number ``row``, [D]."""
        return self.counted[row] & (self.found[row] >= 0)


def match_boxes(
    truths: Sequence[Scene],
    answers: Sequence[Scene],
    classes: Classes,
    ious: Sequence[float] = (0.5,),
    backend: Backend | None = None,
) -> Matching:
    """Each answer beside the truth it is matched to, by the rules behind ``coco_numbers``: best
    scored first, an answer takes the free truth of its class that it overlaps most.

    Raises:
        SightlineError: neither package is installed.
    """
    check_pairs(truths, answers)
    order = _by_image_id(truths)
    truths, answers = [truths[i] for i in order], [answers[i] for i in order]
    api = find_api(backend)
    thresholds = np.asarray(ious, dtype=np.float64)
    settings = Settings(KINDS["boxes"], thresholds, [AREAS[""]], LIMITS["boxes"][-1:], sigmas=None)
    pair = api.pair(_frame(truths, classes), _things(truths, "boxes"), _things(answers, "boxes"))
    matches = match(api, pair, settings)
    true, given = (
        columns._replace(images=order[columns.images])
        for columns in (table(truths), table(answers))
    )
    found = np.full((len(thresholds), len(given.labels)), -1)
    counted = np.zeros(found.shape, dtype=bool)
    found[:, matches.answers], counted[:, matches.answers] = matches.truths, ~matches.ignored
    return Matching(true, given, thresholds, found, counted, len(classes))


def box_curves(matching: Matching) -> list[list[Curve]]:
    """Precision over recall at each threshold, of each class: [T][C]."""
    counts, answers = matching.counts(), matching.answers
    return [
        curves_by_class(answers.scores, answers.labels, matching.right(row), counted, counts)
        for row, counted in enumerate(matching.counted)
    ]


def _numbers(
    curves: Curves, settings: Settings, own: Sequence[float], classes: slice
) -> dict[str, float]:
    """The numbers of some classes, in COCO's order; ``own`` thresholds are also given alone."""
    precision, recall = curves.precision[:, :, classes], curves.recall[:, classes]
    rows = {f"{100 * t:g}": np.isclose(settings.ious, t) for t in own}
    sizes = list(AREAS)[1:] if len(settings.areas) == len(AREAS) else list(AREAS)[2:]
    numbers = {"AP": _mean(precision[..., 0, -1])}
    numbers |= {f"AP{name}": _mean(precision[row, ..., 0, -1]) for name, row in rows.items()}
    numbers |= {f"AP{s}": _mean(precision[..., k, -1]) for k, s in enumerate(sizes, start=1)}
    if settings.kind == "keypoints":
        numbers["AR"] = _mean(recall[..., 0, -1])
        numbers |= {f"AR{name}": _mean(recall[row, ..., 0, -1]) for name, row in rows.items()}
    else:
        numbers |= {f"AR{n}": _mean(recall[..., 0, k]) for k, n in enumerate(settings.limits)}
    return numbers | {f"AR{s}": _mean(recall[..., k, -1]) for k, s in enumerate(sizes, start=1)}


def _mean(values: NDArray[np.float64]) -> float:
    known = values[values > -1]
    return float(np.mean(known)) if known.size else float("nan")


def _by_image_id(truths: Sequence[Scene]) -> NDArray[np.int64]:
    """The order of COCO's tools, which decides between equal scores of two pictures."""
    ids = [truth.image_id for truth in truths if isinstance(truth.image_id, int)]
    if len(ids) < len(truths):
        return np.arange(len(truths))
    return np.argsort(np.array(ids, dtype=np.int64), kind="stable")


def _sigmas(truths: Sequence[Scene], sigmas: Sequence[float] | None) -> NDArray[np.float64]:
    counts = {t.things.keypoints.shape[1] for t in truths if t.things.keypoints is not None}
    given = PERSON_SIGMAS if sigmas is None else sigmas
    if counts - {len(given)}:
        raise SightlineError(
            f"things have {max(counts)} keypoints, and sigmas (how exactly each can be placed, "
            f"relative to the size of the thing) are {len(given)}: give one for each keypoint"
        )
    return np.asarray(given, dtype=np.float64)


def _frame(scenes: Sequence[Scene], classes: Classes) -> Frame:
    """Scene i has id i + 1, class c has id c + 1 and that for a name: those in the user's files may
    be no text."""
    sizes = enumerate((scene.size for scene in scenes), start=1)
    return Frame(
        images=[{"id": index, "height": size[0], "width": size[1]} for index, size in sizes],
        categories=[{"id": c, "name": str(c)} for c in range(1, len(classes) + 1)],
    )


def _things(scenes: Sequence[Scene], of: Of) -> Things:
    columns = table(scenes)
    corner, size = columns.boxes[:, :2], columns.boxes[:, 2:] - columns.boxes[:, :2]
    masks = _masks(scenes) if of == "masks" else None
    area = size.prod(axis=1) if masks is None else areas(masks).numpy()
    return Things(
        image_ids=columns.images + 1,
        category_ids=columns.labels + 1,
        boxes=np.concatenate([corner, size], axis=1),
        area=np.where(np.isnan(columns.area), area, columns.area),
        crowd=columns.ignore,
        scores=columns.scores,
        masks=masks,
        keypoints=_keypoints(scenes) if of == "keypoints" else None,
    )


def _masks(scenes: Sequence[Scene]) -> list[Rle]:
    rles: list[Rle] = []
    for scene in scenes:
        if scene.things.masks is not None:
            rles += to_rles(scene.things.masks, scene.size)
        elif len(scene.things):
            raise SightlineError(_nothing("masks", scene))
    return rles


def _keypoints(scenes: Sequence[Scene]) -> list[list[float]]:
    rows: list[list[float]] = []
    for scene in scenes:
        if scene.things.keypoints is not None:
            rows += scene.things.keypoints.double().flatten(1).tolist()
        elif len(scene.things):
            raise SightlineError(_nothing("keypoints", scene))
    return rows


def _nothing(what: str, scene: Scene) -> str:
    whose = "its things have" if scene.things.scores is None else "what was found there has"
    return f"{scene.path or 'a scene'}: {whose} no {what} to compare"
