"""Kinds of errors and what they cost."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.metrics import detection
from sightline.metrics.cocoapi import BACKENDS, find_api
from sightline.metrics.curves import COCO_RECALLS, sampled
from sightline.metrics.detection import box_curves, coco_numbers, match_boxes
from sightline.metrics.errors import KINDS, Errors, find_errors
from sightline.types import Scene
from tests.metrics.scenes import TWO, random_pairs, scene

CAT, DOG = 0, 1
A, B = (0, 0, 10, 10), (50, 50, 60, 60)
FAR = (80, 80, 90, 90)


def found(truths: list[Scene], answers: list[Scene]) -> Errors:
    return find_errors(match_boxes(truths, answers, TWO))


def named(errors: Errors) -> list[str]:
    return ["right" if kind < 0 else KINDS[kind] for kind in errors.kinds]


def cost(errors: Errors, kind: str, label: int = CAT) -> float:
    return float(errors.costs[KINDS.index(kind), label])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((*A, CAT), "duplicate"),  # of one that scores 0.9
        ((0, 0, 10, 4, CAT), "place"),  # IoU 0.4
        ((0, 0, 10, 1, CAT), "place"),  # IoU 0.1, the least
        ((0, 0, 10, 0.9, CAT), "background"),
        ((*FAR, CAT), "background"),
        ((*A, DOG), "class"),
        ((0, 0, 10, 5, DOG), "class"),  # IoU 0.5, the least
        ((0, 0, 10, 4, DOG), "both"),
        ((0, 0, 10, 1, DOG), "background"),  # IoU 0.1 is nothing to speak of
    ],
)
def test_kinds(answer: tuple[float, ...], kind: str) -> None:
    errors = found([scene((*A, CAT), (*B, DOG))], [scene((*A, CAT), answer, scores=[0.9, 0.8])])
    assert named(errors) == ["right", kind]
    assert errors.missed.tolist() == [False, True]


def test_what_fits_two_kinds_is_an_error_of_place() -> None:
    """A dog's box on the cat (IoU 0.5) that reaches over to a dog (0.25)."""
    errors = found(
        [scene((*A, CAT), (10, 0, 15, 10, DOG))], [scene((0, 0, 20, 10, DOG), scores=[1])]
    )
    assert named(errors) == ["place"]
    assert errors.meant.tolist() == [1]


def test_cost_of_an_error_of_place() -> None:
    """Two cats, one found: precision 1 up to recall 1/2, so 51 of 101 points; mended, all of them.
    The one that is shifted is not missed."""
    errors = found(
        [scene((*A, CAT), (*B, CAT))], [scene((*A, CAT), (50, 50, 60, 54, CAT), scores=[0.9, 0.8])]
    )
    assert errors.ap[CAT] == pytest.approx(51 / 101)
    assert cost(errors, "place") == pytest.approx(50 / 101)
    assert cost(errors, "missed") == 0
    assert errors.false_positives[CAT] == 0
    assert errors.false_negatives[CAT] == pytest.approx(50 / 101)


def test_cost_of_an_error_of_class() -> None:
    """The cat called a dog costs the dogs a wrong answer before the right one (precision 1/2), and
    the cats all they have."""
    errors = found([scene((*A, CAT), (*B, DOG))], [scene((*A, DOG), (*B, DOG), scores=[0.9, 0.8])])
    assert errors.ap == pytest.approx([0, 0.5])
    assert errors.costs[KINDS.index("class")] == pytest.approx([1, 0.5])
    assert cost(errors, "missed") == 0


def test_an_error_of_class_on_a_truth_that_is_found_is_left_out() -> None:
    """The cat is also found as such: without the wrong dog dogs go from 1/2 to 1, cats stay."""
    answers = [scene((*A, CAT), (*A, DOG), (*B, DOG), scores=[0.9, 0.9, 0.8])]
    errors = found([scene((*A, CAT), (*B, DOG))], answers)
    assert named(errors) == ["right", "class", "right"]
    assert errors.costs[KINDS.index("class")] == pytest.approx([0, 0.5])


def test_of_two_errors_that_mean_one_truth_the_best_scored_is_mended() -> None:
    """Were it the second, the background answer between them would halve the precision."""
    answers = [scene((0, 0, 10, 4, CAT), (*FAR, CAT), (0, 0, 4, 10, CAT), scores=[0.9, 0.85, 0.8])]
    errors = found([scene((*A, CAT))], answers)
    assert named(errors) == ["place", "background", "place"]
    assert cost(errors, "place") == 1
    assert cost(errors, "background") == 0


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [((*A, CAT), "duplicate"), ((*FAR, CAT), "background"), ((50, 50, 60, 54, CAT), "both")],
)
def test_cost_of_what_is_left_out(wrong: tuple[float, ...], kind: str) -> None:
    """Cats: right, wrong, right: precision 1 up to recall 1/2, then 2/3; mended, 1."""
    truths = [scene((*A, CAT), (20, 0, 30, 10, CAT), (*B, DOG))]
    answers = [scene((*A, CAT), wrong, (20, 0, 30, 10, CAT), scores=[0.9, 0.8, 0.7])]
    errors = found(truths, answers)
    assert named(errors) == ["right", kind, "right"]
    assert errors.ap[CAT] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert cost(errors, kind) == pytest.approx(50 / 3 / 101)
    assert errors.false_positives[CAT] == pytest.approx(50 / 3 / 101)


def test_cost_of_what_is_missed() -> None:
    """One of two: not asked for the other, all is found. A class of which all is missed, too."""
    errors = found([scene((*A, CAT), (*B, CAT), (*FAR, DOG))], [scene((*A, CAT), scores=[1])])
    assert errors.missed.tolist() == [False, True, True]
    assert errors.costs[KINDS.index("missed")] == pytest.approx([50 / 101, 1])
    assert errors.false_negatives == pytest.approx([50 / 101, 1])


def test_ignored_truths_are_no_truths_and_what_lies_in_them_no_error() -> None:
    """The dog in the crowd is not counted; the cat at its rim (IoU 0.4) is background, since there
    is no truth it could have meant."""
    truths = [scene((*A, DOG), ignore=torch.tensor([True]))]
    errors = found(truths, [scene((1, 1, 9, 9, DOG), (0, 0, 10, 4, CAT), scores=[1, 1])])
    assert named(errors) == ["right", "background"]
    assert not errors.missed.any()
    assert np.isnan(errors.ap).all()


def test_nothing_at_all() -> None:
    for errors in (found([], []), found([scene()], [scene(scores=[])])):
        assert len(errors.kinds) == len(errors.missed) == 0
        assert np.isnan(errors.ap).all()
    empty = found([scene((*A, CAT))], [scene(scores=[])])
    assert empty.missed.tolist() == [True]
    assert cost(empty, "missed") == 1


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_costs_are_never_negative_and_average_precision_is_cocos(seed: int) -> None:
    truths, answers, classes = random_pairs(seed)
    errors = find_errors(match_boxes(truths[::-1], answers[::-1], classes))  # sorted by image id
    numbers = coco_numbers(truths, answers, classes)
    for label, name in enumerate(classes.names):
        assert errors.ap[label] == pytest.approx(numbers.per_class[name]["AP50"], nan_ok=True)
    for costs in (errors.costs, errors.false_positives, errors.false_negatives):
        known = costs[~np.isnan(costs)]
        assert (known >= -1e-12).all()
        assert np.isnan(costs[..., np.isnan(errors.ap)]).all()


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_all_mended_is_perfect(seed: int) -> None:
    """What is wrong is left out or made right, what is missed taken away: done to the scenes
    themselves, COCO's AP50 is 1."""
    truths, answers, classes = random_pairs(seed)
    matching = match_boxes(truths, answers, classes)
    errors = find_errors(matching)
    best: dict[int, int] = {}
    for row in np.argsort(-matching.answers.scores, kind="stable"):
        truth = errors.meant[row]
        if truth >= 0 and truth not in matching.found[0][matching.right()]:
            best.setdefault(int(truth), int(row))
    keep = errors.kinds < 0
    keep[list(best.values())] = True
    mended, start, first = [], 0, 0
    asked = []
    for truth, answer in zip(truths, answers, strict=True):
        things = replace(answer.things, boxes=answer.things.boxes.clone())
        for to, row in best.items():
            if start <= row < start + len(things):
                things.boxes[row - start] = truth.things.boxes[to - first]
                things.labels[row - start] = truth.things.labels[to - first]
        rows = np.flatnonzero(keep[start : start + len(things)])
        mended.append(replace(answer, things=things[torch.tensor(rows)]))
        left = np.flatnonzero(~errors.missed[first : first + len(truth.things)])
        asked.append(replace(truth, things=truth.things[torch.tensor(left)]))
        start, first = start + len(things), first + len(truth.things)
    numbers = coco_numbers(asked, mended, classes)
    for row in numbers.per_class.values():
        assert np.isnan(row["AP50"]) or row["AP50"] == pytest.approx(1)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_the_order_of_pictures_does_not_matter(seed: int) -> None:
    """Scores that are all different: else the order decides between equal ones."""
    truths, answers, classes = random_pairs(seed)
    for number, answer in enumerate(answers):
        answer.things.scores += 1e-4 * number
    order = np.random.default_rng(seed).permutation(len(truths))
    forth = find_errors(match_boxes(truths, answers, classes))
    back = find_errors(
        match_boxes([truths[i] for i in order], [answers[i] for i in order], classes)
    )
    assert back.costs == pytest.approx(forth.costs, nan_ok=True)
    assert sorted(back.kinds) == sorted(forth.kinds)
    assert back.missed.sum() == forth.missed.sum()


@pytest.mark.parametrize("seed", range(6))
def test_hotcoco_counts_and_costs_the_same(seed: int) -> None:
    """Its own TIDE as a twin, without what it reads in another way: ignored truths (it takes them
    for truths), equal scores, overlaps of exactly the threshold, and a duplicate that also touches
    a truth that is free (none is among these)."""
    truths, answers, classes = random_pairs(seed, pictures=30)
    generator = torch.Generator().manual_seed(seed)
    for truth, answer in zip(truths, answers, strict=True):
        truth.things.ignore[:] = False
        answer.things.boxes += 0.0137
        answer.things.scores += 1e-3 * torch.rand(len(answer.things), generator=generator)
    api = find_api("hotcoco")
    frame = detection._frame(truths, classes)
    pair = api.pair(frame, *(detection._things(s, "boxes") for s in (truths, answers)))
    evaluator = api.evaluator(*pair, "bbox")
    evaluator.evaluate()
    theirs = evaluator.tide_errors(pos_thr=0.5, bg_thr=0.1)
    ours = find_errors(match_boxes(truths, answers, classes))
    costs = np.nanmean(ours.costs, axis=1)
    for row, name in enumerate(("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")):
        count = ours.missed.sum() if name == "Miss" else (ours.kinds == row).sum()
        assert count == theirs["counts"][name], name
        assert costs[row] == pytest.approx(theirs["delta_ap"][name]), name
    assert np.nanmean(ours.false_positives) == pytest.approx(theirs["delta_ap"]["FP"])
    assert np.nanmean(ours.false_negatives) == pytest.approx(theirs["delta_ap"]["FN"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_matching_draws_the_curves_of_cocos_numbers(backend: str) -> None:
    """At every threshold, with either package; the mean over recalls is the average precision."""
    truths, answers, classes = random_pairs(3, pictures=20)
    ious = (0.5, 0.6, 0.75, 0.9)
    matching = match_boxes(truths, answers, classes, ious, backend)  # type: ignore[arg-type]
    for iou, row in zip(ious, box_curves(matching), strict=True):
        for name, count, points in zip(classes.names, matching.counts(), row, strict=True):
            ap = coco_numbers(truths, answers, classes, [iou]).per_class[name]["AP"]
            if count:
                assert sampled(points, COCO_RECALLS).mean() == pytest.approx(ap)
            else:
                assert np.isnan(ap)
