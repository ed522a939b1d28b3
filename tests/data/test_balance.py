"""Repeat factors and class weights."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sightline.data.balance import (
    balanced_weights,
    named_weights,
    occurrences,
    pixel_weights,
    repeat_factors,
)
from sightline.data.packed import Dataset, Packed, Packer
from sightline.data.toybox.dataset import toybox_splits
from sightline.errors import SightlineError
from sightline.types import Classes, Scene
from tests.data.samples import TWO, InMemory

Labels = list[list[tuple[int, bool]]]  # of each picture's things: label, ignored or not


def packed(pictures: Labels) -> Packed:
    packer = Packer("here", "root")
    for number, things in enumerate(pictures):
        packer.picture(f"{number}.png", (40, 60), number)
        for label, ignore in things:
            packer.thing((1, 2, 5, 8), label, ignore=ignore)
    return packer.finish(TWO)


def in_memory(dataset: Packed) -> InMemory:
    return InMemory([dataset.scene(index) for index in range(len(dataset))])


FOUR: Labels = [
    [(0, False)],
    [(0, False), (1, False), (1, False)],
    [(0, False), (1, True)],
    [],
]


def test_factors_by_hand() -> None:
    """Class 0 is in 3 of 4 pictures; class 1 in 1 of 4: that of the ignored thing is none."""
    factors = repeat_factors(packed(FOUR), threshold=0.5)
    assert factors.tolist() == pytest.approx([1, math.sqrt(0.5 / 0.25), 1, 1])
    every = repeat_factors(packed(FOUR), threshold=1)
    frequent = math.sqrt(4 / 3)
    assert every.tolist() == pytest.approx([frequent, 2, frequent, 1])


@pytest.mark.parametrize("threshold", [0.0, 0.25])
def test_nothing_is_rare(threshold: float) -> None:
    assert repeat_factors(packed(FOUR), threshold).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_a_threshold_that_is_no_share(threshold: float) -> None:
    with pytest.raises(SightlineError, match="repeat must lie between 0 and 1"):
        repeat_factors(packed(FOUR), threshold)


def test_no_things_and_no_pictures() -> None:
    assert repeat_factors(packed([[], []]), 0.5).tolist() == [1, 1]
    assert repeat_factors(InMemory([]), 0.5).shape == (0,)
    assert balanced_weights(packed([[], []])).tolist() == [1, 1]
    assert balanced_weights(InMemory([])).tolist() == [1, 1]


pictures = st.lists(st.lists(st.tuples(st.integers(0, 1), st.booleans()), max_size=4), min_size=1)


@given(pictures, st.randoms(use_true_random=False))
def test_packed_tensors_tell_what_the_scenes_tell(drawn: Labels, random: Any) -> None:
    """Also where only some of the pictures are left, in another order."""
    order = random.sample(range(len(drawn)), random.randint(1, len(drawn)))
    some = packed(drawn).take(order)
    datasets: tuple[Dataset, Dataset] = (some, in_memory(some))
    one, other = map(occurrences, datasets)
    assert one.pictures.tolist() == other.pictures.tolist()
    assert one.labels.tolist() == other.labels.tolist()
    assert repeat_factors(some, 0.7).equal(repeat_factors(in_memory(some), 0.7))


def test_generated_scenes_have_factors_too() -> None:
    toys = toybox_splits(6, 0, size=(48, 64)).train
    things = [toys.scene(index).things.labels.unique() for index in range(6)]
    share = torch.bincount(torch.cat(things), minlength=len(toys.classes)) / 6
    expected = [(1 / share[labels].min()).sqrt().item() for labels in things]
    assert repeat_factors(toys, 1).tolist() == pytest.approx(expected)


def test_balanced_weights_by_hand() -> None:
    """beta 1/2, 3 and 1 things: (1 - 1/2) / (1 - 1/8) = 4/7 and (1 - 1/2) / (1 - 1/2) = 1; a thing
    weighs (3 * 4/7 + 1) / 4 = 19/28 on average, and is to weigh 1."""
    data = packed([[(0, False), (0, False)], [(0, False), (1, False), (1, True)]])
    weights = balanced_weights(data, beta=0.5)
    assert weights.tolist() == pytest.approx([4 / 7 * 28 / 19, 28 / 19])


def test_balanced_weights_follow_the_numbers_as_beta_nears_one() -> None:
    """Then a class weighs in proportion to 1 / n: 3 and 1 things, 2/3 and 2; a class without any
    weighs 1."""
    data = replace(packed([[(0, False)] * 3 + [(1, False)]]), classes=Classes(("a", "b", "c")))
    assert balanced_weights(data, beta=1 - 1e-9).tolist() == pytest.approx([2 / 3, 2, 1], rel=1e-5)


def test_weights_by_name() -> None:
    assert named_weights(TWO, {"b": 2.5}).tolist() == [1, 2.5]
    with pytest.raises(SightlineError, match="class weights: no class c; there are a, b"):
        named_weights(TWO, {"c": 2})
    for weight in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(SightlineError, match="a must weigh more than 0"):
            named_weights(TWO, {"a": weight})


def test_weights_of_pixels_by_hand() -> None:
    """Of the labelled pixels of the pictures that show them, b has 3 of 7, a 4, c and d 1 of 2,
    which is the median of the four; e is nowhere."""
    maps = [[[1, 1, 0, 0], [1, 0, 0, 255]], [[2, 3, 255, 255]]]
    scenes = [Scene((len(rows), 4), semantic=torch.tensor(rows)) for rows in maps]
    weights = pixel_weights(InMemory(scenes, Classes(("a",), stuff=("b", "c", "d", "e"))))
    frequency = torch.tensor([4 / 7, 3 / 7, 1 / 2, 1 / 2])
    assert weights.tolist() == pytest.approx([*(0.5 / frequency).tolist(), 1])


def test_nothing_is_known_of_pixels() -> None:
    empty = [Scene((1, 2), semantic=torch.full((1, 2), 255))]
    assert pixel_weights(InMemory(empty, TWO)).tolist() == [1, 1]
    with pytest.raises(SightlineError, match="need label maps"):
        pixel_weights(in_memory(packed(FOUR)))
