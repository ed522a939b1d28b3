"""What a validation adds up, batch by batch and over processes: losses, and answers or pixels."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.data.packed import Dataset, lean
from sightline.evaluate import Kind
from sightline.metrics.cocoapi import api_is_there
from sightline.metrics.detection import coco_numbers
from sightline.metrics.semantic import count_pixels, numbers_of
from sightline.types import Loss, Scene


class Share(NamedTuple):
    """Of one process."""

    losses: dict[str, Tensor]  # total and count of each
    answers: dict[int, Scene]  # of a model that finds things, by picture
    pixels: Tensor  # of one that answers label maps, counted: the maps would fill the memory


class Sums:
    """``kind`` says what the model is measured by."""

    def __init__(self, data: Dataset, kind: Kind) -> None:
        self.data, self.kind = data, kind
        labels = len(data.classes.in_maps)
        self.share = Share({}, {}, torch.zeros(labels, labels + 1, dtype=torch.int64))

    def add(self, losses: Mapping[str, Loss], found: Mapping[int, Scene]) -> None:
        """One batch: its losses, and the answer for each of its pictures."""
        sums = self.share.losses
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0) + torch.stack(loss).double().cpu()
        if self.kind == "semantic":
            truths = lean(self.data, {"semantic"})
            for index, scene in found.items():
                true = truths.scene(index).semantic
                assert true is not None
                assert scene.semantic is not None
                self.share.pixels.add_(count_pixels(true, scene.semantic, len(self.share.pixels)))
        else:
            self.share.answers.update(found)

    def numbers(self, shares: Sequence[Share]) -> dict[str, float]:
        """Each loss, their sum and the numbers of the kind, from what every process found."""
        numbers = {"loss": 0.0}
        for name in sorted({name for share in shares for name in share.losses}):
            found = torch.stack([share.losses[name] for share in shares if name in share.losses])
            total, count = found.sum(0).tolist()
            numbers[name] = total / max(1.0, count)
            numbers["loss"] += numbers[name]
        return numbers | self._measured(shares)

    def _measured(self, shares: Sequence[Share]) -> dict[str, float]:
        data = self.data
        if self.kind == "semantic":
            pixels = torch.stack([share.pixels for share in shares]).sum(0)
            return numbers_of(pixels, data.classes, len(data)).overall
        if not api_is_there():
            return {}
        answers = {index: scene for share in shares for index, scene in share.answers.items()}
        order = sorted(answers)
        truths = list(map(lean(data).scene, order))
        return coco_numbers(truths, [answers[i] for i in order], data.classes).overall
