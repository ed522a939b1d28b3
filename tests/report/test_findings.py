"""What the page is made from."""

import pytest

from sightline.report.findings import find
from sightline.types import Scene
from tests.metrics.scenes import TWO, scene

CAT, DOG = 0, 1
A, B, FAR = (0, 0, 10, 10), (50, 50, 60, 60), (80, 80, 90, 90)


def pictures() -> tuple[list[Scene], list[Scene]]:
    """One right; one with a cat called a dog and a cat missed; one with a cat on nothing, whose
    score is below what is suggested for cats."""
    truths = [scene((*A, CAT)), scene((*A, CAT), (*B, CAT)), scene((*A, DOG), (*FAR, CAT))]
    answers = [
        scene((*A, CAT), scores=[0.9]),
        scene((*A, DOG), scores=[0.8]),
        scene((*A, DOG), (*FAR, CAT), (*B, CAT), scores=[0.9, 0.9, 0.1]),
    ]
    return truths, answers


def test_answers_above_the_suggested_scores_are_kept() -> None:
    """Dogs: one right at 0.9, one wrong at 0.8: kept above 0.85. Cats: two right at 0.9, a wrong
    one at 0.1: above 0.5."""
    found = find(*pictures(), TWO)
    assert found.scores["cat"].score == pytest.approx(0.5)
    assert found.scores["dog"].score == pytest.approx(0.85)
    assert found.kept.matching.answers.images.tolist() == [0, 2, 2]
    assert found.confusion.tolist() == [[2, 0, 2], [0, 1, 0], [0, 0, 0]]


def test_the_order_of_pictures() -> None:
    """Two cats missed: 2. Of those without an error the one with most things is the best."""
    found = find(*pictures(), TWO)
    assert found.picture_costs().tolist() == [0, 2, 0]
    assert found.by_cost() == [1, 0, 2]
    assert found.mistakes(1) == {("missed", "cat", ""): 2}
    assert found.mistakes(0) == {}


def test_a_wrong_answer_weighs_its_score() -> None:
    """The surer the worse; what is taken for something else is not also missed."""
    truths = [scene((*A, CAT)), scene((*B, DOG))]
    answers = [scene((*A, CAT), (*A, DOG), scores=[0.9, 0.7]), scene((*B, DOG), scores=[0.6])]
    found = find(truths, answers, TWO)
    assert found.picture_costs() == pytest.approx([0.7, 0])
    assert found.mistakes(0) == {("class", "dog", "cat"): 1}


def test_costs_are_averages_over_classes_with_a_truth() -> None:
    """One cat of two missed: 50 of 101 points; there is no dog."""
    found = find([scene((*A, CAT), (*B, CAT))], [scene((*A, CAT), scores=[1])], TWO)
    costs = found.costs()
    assert next(iter(costs)) == "missed"
    assert costs["missed"] == pytest.approx(50 / 101)
    assert found.dearest_class("missed") == CAT


def test_classes_without_a_right_answer_keep_the_surer_half() -> None:
    answers = [scene((*FAR, CAT), (*B, CAT), scores=[0.6, 0.4])]
    found = find([scene((*A, CAT))], answers, TWO)
    assert found.kept.matching.answers.scores.tolist() == [0.6]
    assert len(found.every.matching.answers.scores) == 2


def test_answers_may_lack_scores_where_there_are_none() -> None:
    found = find([scene((*A, CAT))], [scene()], TWO)
    assert found.costs()["missed"] == 1
