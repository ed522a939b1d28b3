"""Truths by the classes they were answered with."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.metrics.confusion import confusion
from sightline.metrics.detection import match_boxes
from sightline.types import Scene
from tests.metrics.scenes import TWO, random_pairs, scene

CAT, DOG = 0, 1
A, B, FAR = (0, 0, 10, 10), (50, 50, 60, 60), (80, 80, 90, 90)


def table(truths: list[Scene], answers: list[Scene]) -> list[list[int]]:
    counted: list[list[int]] = confusion(match_boxes(truths, answers, TWO)).tolist()
    return counted


def test_every_cell_by_hand() -> None:
    """A cat is found, another called a dog, a third missed; a dog is found twice, and one seen
    where nothing is."""
    truths = [scene((*A, CAT), (*B, CAT)), scene((*A, CAT), (*B, DOG))]
    answers = [
        scene((*A, CAT), (*B, DOG), scores=[0.9, 0.8]),
        scene((*B, DOG), (*B, DOG), (*FAR, DOG), scores=[0.9, 0.8, 0.7]),
    ]
    assert table(truths, answers) == [
        [1, 1, 1],
        [0, 1, 0],
        [0, 2, 0],
    ]


def test_a_truth_that_is_found_is_not_also_taken_for_another() -> None:
    """Though the wrong answer scores higher."""
    assert table([scene((*A, CAT))], [scene((*A, DOG), (*A, CAT), scores=[0.9, 0.5])]) == [
        [1, 0, 0],
        [0, 0, 0],
        [0, 1, 0],
    ]


def test_one_answer_stands_for_one_truth_the_nearer() -> None:
    """The dog's box overlaps two cats, by 8/12 and 9/11."""
    truths = [scene((0, 0, 10, 10, CAT), (3, 0, 13, 10, CAT))]
    assert table(truths, [scene((2, 0, 12, 10, DOG), scores=[1])]) == [
        [0, 1, 1],
        [0, 0, 0],
        [0, 0, 0],
    ]


def test_ignored_truths_are_in_no_cell() -> None:
    truths = [scene((*A, CAT), ignore=torch.tensor([True]))]
    assert table(truths, [scene((*A, CAT), scores=[1])]) == [[0] * 3] * 3


def test_nothing() -> None:
    assert table([], []) == [[0] * 3] * 3


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_each_truth_and_each_answer_is_in_one_cell(seed: int) -> None:
    truths, answers, classes = random_pairs(seed)
    matching = match_boxes(truths, answers, classes)
    cells = confusion(matching)
    counted = np.bincount(matching.answers.labels[matching.counted[0]], minlength=len(classes))
    assert cells[:-1].sum(axis=1).tolist() == matching.counts().tolist()
    assert cells[:, :-1].sum(axis=0).tolist() == counted.tolist()
    assert cells.trace() == matching.right().sum()
