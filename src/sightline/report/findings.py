"""All that the page says, as numbers."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.metrics.calibration import Calibration, calibration
from sightline.metrics.confusion import confusion
from sightline.metrics.curves import Curve
from sightline.metrics.detection import IOUS, Matching, box_curves, coco_numbers, match_boxes
from sightline.metrics.errors import KINDS, Errors, Kind, find_errors
from sightline.metrics.evaluation import Evaluation
from sightline.metrics.scores import Choice, choose_scores
from sightline.metrics.table import Table
from sightline.types import Classes, Scene

UNCHOSEN = 0.5  # the score for a class of which nothing was found rightly


class Judged(NamedTuple):
    """Answers, which of them are right at IoU 0.5, and what is wrong with the others."""

    matching: Matching
    errors: Errors

    def rows(self, kind: Kind) -> NDArray[np.int64]:
        """The answers of a kind of error, or the truths that are missed."""
        errors = self.errors
        return np.flatnonzero(
            errors.missed if kind == "missed" else errors.kinds == KINDS.index(kind)
        )

    def things(self, kind: Kind) -> Table:
        """What ``rows`` are the rows of."""
        return self.matching.truths if kind == "missed" else self.matching.answers


@dataclass(frozen=True)
class Findings:
    """Of N truths in some pictures and the answers to them."""

    classes: Classes
    truths: Sequence[Scene]
    numbers: Evaluation  # COCO's, of boxes
    counts: NDArray[np.int64]  # [C] truths of each class that were to be found
    curves: list[list[Curve]]  # [T][C] at IoU 0.5, 0.55 ... 0.95
    scores: dict[str, Choice]  # by class name, where something was found rightly
    every: Judged  # all answers
    kept: Judged  # those above the score of their class: what a user would be shown
    confusion: NDArray[np.int64]  # [C + 1, C + 1] of the kept answers
    calibration: Calibration  # of all answers

    def costs(self) -> dict[Kind, float]:
        """What each kind of error costs in AP50, 0..1, the dearest first."""
        mean = self.every.errors.costs[:, self.counts > 0].mean(axis=1) if self.counts.any() else []
        costs = dict(zip(KINDS, map(float, mean), strict=False))
        return dict(sorted(costs.items(), key=lambda item: -item[1]))

    def dearest_class(self, kind: Kind) -> int:
        """The label in which a kind costs most."""
        return int(np.nanargmax(self.every.errors.costs[KINDS.index(kind)]))

    def total(self, costs: NDArray[np.float64]) -> float:
        """The mean over the classes with a truth; NaN if there is none."""
        return float(costs[self.counts > 0].mean()) if self.counts.any() else math.nan

    def mistakes(self, picture: int) -> Counter[tuple[Kind, str, str]]:
        """What went wrong in a picture: how often each kind of error, with the class of the answer
        (or the missed truth) and that of the truth it meant ("" for none)."""
        meant = self.kept.errors.meant
        told: Counter[tuple[Kind, str, str]] = Counter()
        for kind in KINDS:
            things = self.kept.things(kind)
            for row in self.kept.rows(kind).tolist():
                if things.images[row] == picture:
                    truth = "" if kind == "missed" else self._name_of_truth(int(meant[row]))
                    told[kind, self.classes.names[things.labels[row]], truth] += 1
        return told

    def _name_of_truth(self, row: int) -> str:
        return "" if row < 0 else self.classes.names[self.kept.matching.truths.labels[row]]

    def picture_costs(self) -> NDArray[np.float64]:
        """How bad each picture is: a missed truth weighs 1, a wrong answer its score."""
        errors, pictures = self.kept.errors, len(self.truths)
        truths, answers = self.kept.matching.truths, self.kept.matching.answers
        wrong = errors.kinds >= 0
        costs = np.bincount(truths.images[errors.missed], minlength=pictures).astype(np.float64)
        np.add.at(costs, answers.images[wrong], answers.scores[wrong])
        return costs

    def by_cost(self) -> list[int]:
        """The pictures, the worst first; of equally good ones that with most truths last."""
        things = np.bincount(self.kept.matching.truths.images, minlength=len(self.truths))
        order: list[int] = np.lexsort((things, -self.picture_costs())).tolist()
        return order


def find(
    truths: Sequence[Scene], answers: Sequence[Scene], classes: Classes, above: float = 0.0
) -> Findings:
    """Measure the boxes of ``answers``, one for each truth, by COCO's rules; things scored higher
    than ``above`` are among them."""
    matching = match_boxes(truths, answers, classes, IOUS.tolist())
    scores = choose_scores(truths, answers, classes, above=above)
    kept = match_boxes(truths, list(_kept(answers, classes, scores)), classes)
    return Findings(
        classes=classes,
        truths=truths,
        numbers=coco_numbers(truths, answers, classes),
        counts=matching.counts(),
        curves=box_curves(matching),
        scores=scores,
        every=Judged(matching, find_errors(matching)),
        kept=Judged(kept, find_errors(kept)),
        confusion=confusion(kept),
        calibration=calibration(matching),
    )


def _kept(answers: Sequence[Scene], classes: Classes, scores: dict[str, Choice]) -> Iterator[Scene]:
    least = torch.tensor(
        [scores[name].score if name in scores else UNCHOSEN for name in classes.names],
        dtype=torch.float64,
    )
    for scene in answers:
        things = scene.things.to("cpu")
        if things.scores is not None:
            things = things[things.scores > least[things.labels]]
        yield replace(scene, things=things)
