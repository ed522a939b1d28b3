"""The things of many scenes side by side in numpy columns, as the metrics count them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.types import Scene


class Table(NamedTuple):
    """N things of all scenes, in the order of the scenes."""

    images: NDArray[Any]  # int [N] the scene each is in, counted from 0
    labels: NDArray[Any]  # int [N]
    boxes: NDArray[Any]  # float64 [N, 4] xyxy
    scores: NDArray[Any]  # float64 [N] zero where a scene has none
    ignore: NDArray[Any]  # bool [N]

    def take(self, rows: NDArray[np.int64]) -> "Table":
        return Table(*(column[rows] for column in self))


def table(scenes: Sequence[Scene]) -> Table:
    """On the CPU, in double precision."""
    things = [scene.things for scene in scenes]
    scores = [torch.zeros(len(t)) if t.scores is None else t.scores for t in things]
    ignore = [t.ignore for t in things if t.ignore is not None]  # never None, once built
    return Table(
        images=np.repeat(np.arange(len(scenes)), np.array([len(t) for t in things], dtype=int)),
        labels=_column([t.labels for t in things], torch.zeros(0, dtype=torch.int64)),
        boxes=_column([t.boxes for t in things], torch.zeros(0, 4, dtype=torch.float64)),
        scores=_column(scores, torch.zeros(0, dtype=torch.float64)),
        ignore=_column(ignore, torch.zeros(0, dtype=torch.bool)),
    )


def _column(parts: list[Tensor], empty: Tensor) -> NDArray[Any]:
    """All parts after one another, in the type of ``empty``, which stands where there are none."""
    return torch.cat([empty, *(part.detach().to(empty) for part in parts)]).numpy()


def check_pairs(truths: Sequence[Scene], answers: Sequence[Scene]) -> None:
    """Truth and answer i are of one picture.

    Raises:
        ValueError: another number of answers, or answers to another picture.
    """
    if len(truths) != len(answers):
        raise ValueError(f"{len(answers)} answers for {len(truths)} truths")
    for index, (truth, answer) in enumerate(zip(truths, answers, strict=True)):
        known = None not in (truth.image_id, answer.image_id)
        if known and truth.image_id != answer.image_id:
            raise ValueError(
                f"answer {index} is of picture {answer.image_id}, not of {truth.image_id}"
            )
