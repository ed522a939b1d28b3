"""Rare classes against frequent ones: pictures that come up more often, classes that weigh more.

Repeat factors: LVIS. Gupta, Dollar, Girshick, 2019. https://arxiv.org/abs/1908.03195
Class weights: Class-Balanced Loss Based on Effective Number of Samples. Cui et al., 2019.
https://arxiv.org/abs/1901.05555
Those of pixels: Predicting Depth, Surface Normals and Semantic Labels. Eigen, Fergus, 2015.
https://arxiv.org/abs/1411.4734

A thing that is ignored belongs to no class here: nothing is learnt from it.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.data.packed import Dataset, Packed, lean
from sightline.errors import SightlineError
from sightline.shapes import Float, Int
from sightline.types import UNLABELLED, Classes

BETA = 0.999  # of Cui et al.: from about 1 / (1 - BETA) things on, more of them add little


class Occurrences(NamedTuple):
    """The things of all pictures, ignored ones left out."""

    pictures: Int[Tensor, " N"]
    labels: Int[Tensor, " N"]


def occurrences(dataset: Dataset) -> Occurrences:
    """Which picture has which classes, one row a thing."""
    if isinstance(dataset, Packed):
        first, last = dataset.spans.unbind(1)
        counts = last - first
        pictures = torch.arange(len(dataset)).repeat_interleave(counts)
        # Pictures may be some of those that were packed, in any order.
        rows = torch.arange(len(pictures)) + (first - counts.cumsum(0) + counts)[pictures]
        labels, ignore = dataset.labels[rows], dataset.ignore[rows]
    else:
        things = [dataset.scene(index).things for index in range(len(dataset))]
        counts = torch.tensor([len(t) for t in things], dtype=torch.int64)
        pictures = torch.arange(len(things)).repeat_interleave(counts)
        none = torch.zeros(0, dtype=torch.int64)
        labels = torch.cat([none, *(t.labels for t in things)])
        ignore = torch.cat([none.bool(), *(t.ignore for t in things)])
    return Occurrences(pictures[~ignore], labels[~ignore])


def repeat_factors(dataset: Dataset, threshold: float) -> Float[Tensor, " I"]:
    """How often each picture is to come up in a pass, on average, 1 or more: the largest
    ``max(1, sqrt(threshold / f))`` of its classes, where f is the share of pictures that have the
    class. A class in a share of ``threshold`` pictures or more is not repeated.

    Raises:
        SightlineError: a threshold outside 0..1.
    """
    if not 0 <= threshold <= 1:
        raise SightlineError(
            f"repeat must lie between 0 and 1, a share of the pictures, not {threshold}"
        )
    classes, count = len(dataset.classes), len(dataset)
    found = occurrences(dataset)
    pairs = (found.pictures * classes + found.labels).unique()
    pictures, labels = pairs // classes, pairs % classes
    shares = torch.bincount(labels, minlength=classes).double() / max(count, 1)
    of_class = (threshold / shares).sqrt().clamp(min=1)
    ones = torch.ones(count, dtype=torch.float64)
    return ones.scatter_reduce(0, pictures, of_class[labels], "amax")


def balanced_weights(dataset: Dataset, beta: float = BETA) -> Float[Tensor, " C"]:
    """A weight for each class, in proportion to (1 - beta) / (1 - beta^n) for n things of it
    (equation 2 of Cui et al.). A class without a thing weighs 1.

    A thing weighs 1 on average. (Cui et al. have the classes weigh 1 on average; beside a
    background that weighs 1, that would make little of nearly every thing where one class is
    frequent.)
    """
    counts = torch.bincount(occurrences(dataset).labels, minlength=len(dataset.classes)).double()
    raw = torch.where(counts > 0, (1 - beta) / (1 - beta**counts), 0)
    scale = counts.sum() / (raw * counts).sum()
    return torch.where(counts > 0, raw * scale, 1).float()


def pixel_weights(dataset: Dataset) -> Float[Tensor, " C"]:
    """A weight for each class of label maps: the median frequency over its own (Eigen and Fergus,
    section 6.3.2), where the frequency is its share of the labelled pixels of those pictures that
    show it. A class without a pixel weighs 1. Every map is read once.

    Raises:
        SightlineError: the data set has no label maps.
    """
    labels, maps = len(dataset.classes.in_maps), lean(dataset, {"semantic"})
    pixels, beside = torch.zeros(labels).double(), torch.zeros(labels).double()
    for index in range(len(dataset)):
        semantic = maps.scene(index).semantic
        if semantic is None:
            raise SightlineError("balanced weights of pixels need label maps, and there are none")
        counts = torch.bincount(semantic[semantic != UNLABELLED], minlength=labels).double()
        pixels += counts
        beside += torch.where(counts > 0, counts.sum(), 0)
    found = pixels > 0
    frequency = pixels[found] / beside[found]
    weights = torch.ones(labels).double()
    weights[found] = frequency.quantile(0.5) / frequency if len(frequency) else frequency
    return weights.float()


def named_weights(classes: Classes, named: Mapping[str, float]) -> Float[Tensor, " C"]:
    """The weights by class name; a class that is not named weighs 1.

    Raises:
        SightlineError: an unknown class, or a weight that is not a positive number.
    """
    for name, weight in named.items():
        if name not in classes.names:
            raise SightlineError(
                f"class weights: no class {name}; there are {', '.join(classes.names)}"
            )
        if not 0 < weight < math.inf:
            raise SightlineError(
                f"class weights: {name} must weigh more than 0 and not endlessly, not {weight}"
            )
    return torch.tensor([float(named.get(name, 1)) for name in classes.names])
