"""The things of many scenes side by side in numpy columns, as the metrics count them."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.types import Instances, Scene


class Table(NamedTuple):
    """N things of all scenes, in the order of the scenes."""

    images: NDArray[Any]  # int [N] the scene each is in, counted from 0
    labels: NDArray[Any]  # int [N]
    boxes: NDArray[Any]  # float64 [N, 4] xyxy
    scores: NDArray[Any]  # float64 [N] zero where a scene has none
    ignore: NDArray[Any]  # bool [N]
    area: NDArray[Any]  # float64 [N] square pixels, NaN where a scene does not know them
    difficult: NDArray[Any]  # bool [N] ignored as one thing, not as a region of who knows how many

    def take(self, rows: NDArray[np.int64]) -> "Table":
        return Table(*(column[rows] for column in self))


def table(scenes: Sequence[Scene]) -> Table:
    """On the CPU, in double precision."""
    things = [scene.things for scene in scenes] or [Instances.empty()]
    counts = [len(t.labels) for t in things]
    return Table(
        images=np.repeat(np.arange(len(things)), counts),
        labels=_column([t.labels for t in things], torch.int64),
        boxes=_column([t.boxes for t in things], torch.float64),
        scores=_column(_filled([t.scores for t in things], counts, 0.0), torch.float64),
        ignore=_column([t.ignore for t in things], torch.bool),
        area=_column(_filled([t.area for t in things], counts, math.nan), torch.float64),
        difficult=_column([t.difficult for t in things], torch.bool),
    )


def _filled(parts: list[Tensor | None], counts: list[int], value: float) -> list[Tensor]:
    """The value where a part is absent."""
    spare = torch.full((sum(counts),), value).split(counts)
    return [own if part is None else part for part, own in zip(parts, spare, strict=True)]


def _column(parts: list[Tensor], dtype: torch.dtype) -> NDArray[Any]:
    """All parts after one another; converted once, since a part each costs more than its rows."""
    return torch.cat([part.cpu() for part in parts]).detach().to(dtype).numpy()


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
