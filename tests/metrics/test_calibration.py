"""Scores beside the share of answers that are right."""

import math

import numpy as np
import pytest
import torch

from sightline.metrics.calibration import calibration
from sightline.metrics.detection import match_boxes
from tests.metrics.scenes import TWO, scene

A, B, FAR = (0, 0, 10, 10, 0), (50, 50, 60, 60, 0), (80, 80, 90, 90, 0)


def test_by_hand() -> None:
    """Between 0.5 and 1 lie 0.5, 0.7 and 0.9, two of them right: mean 0.7, precision 2/3. Below lie
    0.1 and 0.3, none right: mean 0.2. Apart by 1/30 three times, 0.2 twice: 0.5 over 5."""
    answers = scene(A, B, FAR, FAR, FAR, scores=[0.9, 0.7, 0.5, 0.3, 0.1])
    found = calibration(match_boxes([scene(A, B)], [answers], TWO), bins=2)
    assert found.edges.tolist() == [0, 0.5, 1]
    assert found.counts.tolist() == [2, 3]
    assert found.scores == pytest.approx([0.2, 0.7])
    assert found.precisions == pytest.approx([0, 2 / 3])
    assert found.error == pytest.approx(0.1)


def test_the_last_bin_holds_a_score_of_one() -> None:
    found = calibration(match_boxes([scene(A)], [scene(A, scores=[1.0])], TWO))
    assert found.counts.tolist() == [0] * 9 + [1]
    assert found.error == 0


def test_answers_in_ignored_regions_are_not_counted() -> None:
    truth = scene(A, ignore=torch.tensor([True]))
    found = calibration(match_boxes([truth], [scene(A, scores=[0.9])], TWO))
    assert found.counts.sum() == 0


def test_nothing() -> None:
    found = calibration(match_boxes([], [], TWO))
    assert math.isnan(found.error)
    assert np.isnan(found.precisions).all()
