"""Whatever is answered inside an ignore region, no metric moves."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.metrics.cocoapi import BACKENDS, Backend
from sightline.metrics.detection import Of, coco_numbers
from sightline.metrics.scores import choose_scores
from sightline.metrics.voc import voc_numbers
from sightline.types import Classes, Instances, Scene
from tests.metrics.scenes import random_pairs

REGION = [60.0, 60, 98, 98]  # beyond all that random_pairs puts anywhere: that ends at 99, from 49
Numbers = Callable[[list[Scene], list[Scene], Classes], object]


def drawn(things: Instances) -> Instances:
    """With the mask of each box, and two keypoints on its diagonal; none is labelled of an ignored
    thing, as in COCO's crowds."""
    masks = torch.zeros(len(things), 100, 100, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, things.boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    points = torch.cat([things.boxes.view(-1, 2, 2), torch.full((len(things), 2, 1), 2.0)], dim=2)
    return replace(things, masks=masks, keypoints=points * ~things.ignore[:, None, None])


def coco(of: Of, backend: Backend) -> Numbers:
    """Without AR1 and AR10: among the 1 and 10 best scored answers of a picture COCO's rules also
    count those that it then ignores."""
    options: dict[str, Any] = {"of": of, "backend": backend, "limits": [100], "sigmas": [0.1, 0.1]}
    return lambda *pairs: repr(coco_numbers(*pairs, **options))


OF: tuple[Of, ...] = ("boxes", "masks", "keypoints")
METRICS: dict[str, Numbers] = {
    f"{of}, {backend}": coco(of, backend) for of in OF for backend in BACKENDS
}
METRICS["voc"] = lambda *pairs: repr(voc_numbers(*pairs, ious=[0.3, 0.5, 0.9]))
METRICS["scores"] = choose_scores


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=4)
@given(st.integers(0, 10**6))
def test_answers_in_an_ignore_region_count_neither_way(metric: str, seed: int) -> None:
    """Three more in each picture, of a class that has a region there, among the best scored; two
    lie on one another."""
    truths, answers, classes = random_pairs(seed, pictures=5)
    generator = torch.Generator().manual_seed(seed)
    more = []
    for truth, answer in zip(truths, answers, strict=True):
        label = int(torch.randint(0, 3, (1,), generator=generator))
        region = Instances(torch.tensor([REGION]).double(), torch.tensor([label]))
        region.ignore = torch.tensor([True])
        region.extra["difficult"] = torch.tensor([False])
        truth.things = Instances.join([clear(truth.things), region])
        answer.things = clear(answer.things)
        corner = 60 + 18 * torch.rand(2, 2, generator=generator).double()
        size = 5 + 15 * torch.rand(2, 2, generator=generator).double()
        boxes = torch.cat([corner, corner + size], dim=1)[[0, 0, 1]].round()
        scores = torch.rand(3, generator=generator).double() + 0.3
        inside = Instances(boxes, torch.full((3,), label), scores)
        more.append(replace(answer, things=drawn(Instances.join([answer.things, inside]))))
        truth.things, answer.things = drawn(truth.things), drawn(answer.things)
    numbers = METRICS[metric]
    assert numbers(truths, answers, classes) == numbers(truths, more, classes)


def clear(things: Instances) -> Instances:
    """Those that do not reach into the region."""
    return things[(things.boxes[:, 2:] <= 60).any(1)]
