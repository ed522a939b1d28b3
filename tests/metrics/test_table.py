"""The things of many scenes in columns."""

import numpy as np
import torch

from sightline.metrics.table import table
from sightline.types import Instances, Scene
from tests.metrics.scenes import scene

A, B, C = (0, 0, 10, 10, 0), (20, 20, 30, 30, 1), (1, 2, 3, 4, 2)


def test_scenes_follow_one_another() -> None:
    columns = table([scene(A, B, scores=[0.5, 0.25]), scene(), scene(C, scores=[0.75])])
    assert columns.images.tolist() == [0, 0, 2]
    assert columns.labels.tolist() == [0, 1, 2]
    assert columns.boxes.tolist() == [[0, 0, 10, 10], [20, 20, 30, 30], [1, 2, 3, 4]]
    assert columns.scores.tolist() == [0.5, 0.25, 0.75]
    assert columns.ignore.tolist() == [False, False, False]


def test_what_a_scene_lacks() -> None:
    """A score is 0 then, an area unknown, whatever the other scenes have."""
    known = scene(A, scores=[0.5], area=torch.tensor([7.0]), ignore=torch.tensor([True]))
    columns = table([scene(A, B), known])
    assert columns.scores.tolist() == [0, 0, 0.5]
    assert np.isnan(columns.area).tolist() == [True, True, False]
    assert columns.area[2] == 7
    assert columns.ignore.tolist() == [False, False, True]
    assert columns.difficult.tolist() == [False, False, False]
    known.things.extra["difficult"] = torch.tensor([True])
    assert table([scene(A, B), known]).difficult.tolist() == [False, False, True]


def test_single_precision_is_kept_to_the_last_bit() -> None:
    """Also where another scene is in double precision, or a gradient hangs on it."""
    third = torch.tensor([[0, 0, 1 / 3, 1]], requires_grad=True)
    single = Scene((9, 9), Instances(third, torch.tensor([0]), torch.tensor([0.1])))
    double = scene(A, scores=[0.1])
    for columns in (table([single]), table([single, double])):
        assert columns.boxes.dtype == columns.scores.dtype == np.float64
        assert columns.boxes[0, 2] == third[0, 2].item()
        assert columns.scores[0] == torch.tensor(0.1).item()
    assert table([single, double]).scores[1] == 0.1


def test_nothing_at_all() -> None:
    for columns in (table([]), table([scene(), Scene((5, 5))])):
        assert columns.boxes.shape == (0, 4)
        assert [len(column) for column in columns] == [0] * len(columns)
        assert columns.images.dtype == columns.labels.dtype == np.int64
