import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sightline.ops.match import (
    NEGATIVE,
    NEUTRAL,
    best_of_each,
    match_boxes,
    match_by_iou,
    sample_balanced,
)


def naive(
    overlaps: torch.Tensor, negative: tuple[float, float], positive_from: float, force_best: bool
) -> list[int]:
    rows = overlaps.tolist()
    matches = []
    for column in range(overlaps.shape[1]):
        best, row = max((rows[r][column], -r) for r in range(len(rows)))
        match = NEUTRAL
        if negative[0] <= best < negative[1]:
            match = NEGATIVE
        forced = any(row[column] == max(row) > 0 for row in rows)
        if best >= positive_from or (force_best and forced):
            match = -row
        matches.append(match)
    return matches


@given(st.integers(0, 10_000), st.booleans())
def test_equals_the_naive_loop(seed: int, force_best: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Few distinct values, so that ties happen.
    overlaps = torch.randint(0, 11, (3, 12), generator=generator) / 10
    expected = naive(overlaps, (0.1, 0.35), 0.65, force_best)
    assert match_by_iou(overlaps, (0.1, 0.35), 0.65, force_best).tolist() == expected


def test_ranges_by_hand() -> None:
    overlaps = torch.tensor([[0.05, 0.2, 0.4, 0.5, 0.9]])
    found = match_by_iou(overlaps, (0.1, 0.4), 0.5).tolist()
    assert found == [NEUTRAL, NEGATIVE, NEUTRAL, 0, 0]


def test_forced_matches_keep_ties_and_leave_out_the_untouched() -> None:
    overlaps = torch.tensor([[0.2, 0.2, 0.1], [0.0, 0.0, 0.0]])
    assert match_by_iou(overlaps, (0.0, 0.3), 0.7, True).tolist() == [0, 0, NEGATIVE]


def test_without_objects_all_is_background() -> None:
    assert match_by_iou(torch.zeros(0, 3), (0.0, 0.3), 0.7, True).tolist() == [NEGATIVE] * 3
    # Fast R-CNN learns background from what overlaps an object a little: there is none.
    assert match_by_iou(torch.zeros(0, 3), (0.1, 0.5), 0.5).tolist() == [NEUTRAL] * 3


def test_ignore_regions_are_no_match_and_no_background() -> None:
    objects = torch.tensor([[0.0, 0, 10, 10], [50, 50, 90, 90]])
    ignore = torch.tensor([True, False])
    candidates = torch.tensor(
        [
            [0.0, 0, 10, 10],  # the crowd itself
            [2, 2, 8, 8],  # inside it
            [6, 0, 16, 10],  # 4/10 of it inside: background
            [50, 50, 90, 90],  # the object, whose row stays 1
        ]
    )
    found = match_boxes(candidates, objects, ignore, (0.0, 0.3), 0.7)
    assert found.tolist() == [NEUTRAL, NEUTRAL, NEGATIVE, 1]
    assert match_boxes(candidates, objects, ~ignore, (0.0, 0.3), 0.7).tolist()[0] == 0
    everything = torch.tensor([True, True])
    assert (match_boxes(candidates, objects, everything, (0.0, 0.3), 0.7) < 0).all()


def test_what_would_be_no_background_if_the_ignored_were_an_object() -> None:
    """IoU 9/25 with a difficult thing that it reaches beyond: between the ranges; and the best
    candidate of one that is small beside all of them: forced."""
    objects, ignore = torch.tensor([[0.0, 0, 3, 3], [50, 50, 51, 51]]), torch.tensor([True, True])
    candidates = torch.tensor([[0.0, 0, 5, 5], [0, 0, 9, 9], [50, 50, 60, 60], [45, 45, 60, 60]])
    for forced, third in ((False, NEGATIVE), (True, NEUTRAL)):
        found = match_boxes(candidates, objects, ignore, (0.0, 0.3), 0.7, force_best=forced)
        assert found.tolist() == [NEUTRAL, NEGATIVE, third, NEGATIVE]
        labelled = match_boxes(candidates, objects, ~ignore, (0.0, 0.3), 0.7, force_best=forced)
        assert ((found == NEGATIVE) == (labelled == NEGATIVE)).all()


def test_few_negatives_stay_few_beside_an_ignored_thing() -> None:
    """Fast R-CNN's range begins at 0.1: what is below is neutral for the object's sake, not for
    that of the ignored thing, of which nothing is near."""
    objects = torch.tensor([[0.0, 0, 10, 10], [80, 80, 90, 90]])
    candidates = torch.tensor([[0.0, 0, 10, 4], [0, 0, 10, 0.5]])
    found = match_boxes(candidates, objects, torch.tensor([False, True]), (0.1, 0.5), 0.5)
    assert found.tolist() == [NEGATIVE, NEUTRAL]


def test_what_lies_beyond_the_picture_does_not_count_against_an_ignore_region() -> None:
    # A tenth of the anchor is in the picture, and all of that in the crowd.
    anchor = torch.tensor([[-9.0, 0, 1, 10]])
    crowd, ignore = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([True])
    seen = torch.tensor([[0.0, 0, 1, 10]])
    assert match_boxes(anchor, crowd, ignore, (0.0, 0.3), 0.7).item() == NEGATIVE
    found = match_boxes(anchor, crowd, ignore, (0.0, 0.3), 0.7, visible=seen)
    assert found.item() == NEUTRAL


def test_sampling_counts() -> None:
    matches = torch.tensor([0] * 30 + [NEGATIVE] * 100 + [NEUTRAL] * 20)
    positive, negative = sample_balanced(matches, 64, 0.25, seed=1)
    assert (len(positive), len(negative)) == (16, 48)
    assert (matches[positive] >= 0).all()
    assert (matches[negative] == NEGATIVE).all()
    assert len(set(positive.tolist())) == 16
    # Too few positives: negatives take their place.
    positive, negative = sample_balanced(matches[28:], 64, 0.25, seed=1)
    assert (len(positive), len(negative)) == (2, 62)


def test_sampling_depends_on_the_seed_alone() -> None:
    matches = torch.tensor([0] * 30 + [NEGATIVE] * 100)
    first = sample_balanced(matches, 32, 0.5, seed=7)
    torch.rand(5)
    again = sample_balanced(matches, 32, 0.5, seed=7)
    other = sample_balanced(matches, 32, 0.5, seed=8)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])


def test_every_candidate_is_as_likely() -> None:
    matches = torch.full((20,), NEGATIVE)
    drawn = torch.zeros(20)
    for seed in range(400):
        drawn[sample_balanced(matches, 5, 0.5, seed)[1]] += 1
    # 400 x 5 / 20 = 100 each, standard deviation sqrt(400 x 1/4 x 3/4) = 8.7.
    assert drawn.sum() == 2000
    assert drawn.min() > 100 - 5 * 8.7
    assert drawn.max() < 100 + 5 * 8.7


def test_nothing_to_sample() -> None:
    positive, negative = sample_balanced(torch.zeros(0, dtype=torch.long), 8, 0.5, None)
    assert len(positive) == len(negative) == 0


@pytest.mark.parametrize("count", [0, 1])
def test_no_candidates(count: int) -> None:
    objects = torch.tensor([[0.0, 0, 10, 10]])[:count]
    ignore = torch.zeros(count, dtype=torch.bool)
    assert match_boxes(torch.zeros(0, 4), objects, ignore, (0, 0.3), 0.7, True).shape == (0,)


def test_the_best_of_each_by_hand() -> None:
    """Objects 0 and 1 want candidate 2: object 1 overlaps it more and has it; object 2 takes
    candidate 0, however little it overlaps it; object 3 touches none."""
    overlaps = torch.tensor(
        [[0.1, 0.2, 0.5, 0.0], [0.1, 0.2, 0.6, 0.0], [0.05, 0.0, 0.0, 0.0], [0.0] * 4]
    )
    assert best_of_each(overlaps).tolist() == [2, NEGATIVE, 1, NEGATIVE]
    assert best_of_each(overlaps[:0]).tolist() == [NEGATIVE] * 4
    assert best_of_each(overlaps[:, :0]).shape == (0,)


def test_the_best_of_each_equals_a_loop() -> None:
    for _ in range(20):
        overlaps = torch.rand(6, 9)
        expected, most = [NEGATIVE] * 9, [0.0] * 9
        for row, shares in enumerate(overlaps.tolist()):
            place = shares.index(max(shares))
            if shares[place] > most[place]:
                expected[place], most[place] = row, shares[place]
        assert best_of_each(overlaps).tolist() == expected
