"""Outlines of maps, and several polygons as one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sightline.ops.masks import decode, from_polygons
from sightline.ops.outlines import join, outlines


def drawn(*rows: str) -> Tensor:
    return torch.tensor([[letter == "#" for letter in row] for row in rows])


def corners(polygon: Tensor) -> set[tuple[float, float]]:
    return {(x, y) for x, y in polygon.tolist()}


def filled(polygon: Tensor, size: tuple[int, int]) -> Tensor:
    return decode([from_polygons([polygon], size)], size)[0]


def test_a_rectangle() -> None:
    (outline,) = outlines(drawn("....", ".##.", ".##.", ".##."))
    assert len(outline) == 4
    assert corners(outline) == {(1, 1), (3, 1), (3, 4), (1, 4)}


def test_a_hole_has_an_outline_of_its_own() -> None:
    ring = drawn("###", "#.#", "###")
    outer, hole = outlines(ring)
    assert corners(outer) == {(0, 0), (3, 0), (3, 3), (0, 3)}
    assert corners(hole) == {(1, 1), (2, 1), (2, 2), (1, 2)}
    joined = join([outer, hole])
    assert len(joined) == 4 + 4 + 2  # the ends of the bridge are passed twice
    assert filled(joined, (3, 3)).equal(ring)


@pytest.mark.parametrize("rows", [("#.", ".#"), (".#", "#.")])
def test_parts_that_touch_at_a_corner(rows: tuple[str, ...]) -> None:
    found = outlines(drawn(*rows))
    assert sum(len(outline) for outline in found) == 8
    assert filled(join(found), (2, 2)).equal(drawn(*rows))


def test_nothing_has_no_outline() -> None:
    assert outlines(drawn("...", "...")) == []
    assert outlines(torch.zeros(0, 5, dtype=torch.bool)) == []


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 10**6))
def test_filling_the_joined_outlines_gives_the_map(
    height: int, width: int, share: float, seed: int
) -> None:
    """Noise: a map of many parts with holes, and parts in the holes."""
    generator = torch.Generator().manual_seed(seed)
    given_map = torch.rand(height, width, generator=generator) < share
    found = outlines(given_map)
    if found:
        assert filled(join(found), (height, width)).equal(given_map)
    else:
        assert not given_map.any()


def test_long_outlines() -> None:
    """More corners than are looked at for a bridge."""
    comb = torch.zeros(9, 4001, dtype=torch.bool)
    comb[2, :], comb[2:5, ::2] = True, True
    comb[7, 5:9] = True
    found = outlines(comb)
    assert [len(outline) for outline in found] == [4 + 4 * 2000, 4]
    assert filled(join(found), (9, 4001)).equal(comb)


@given(st.integers(2, 5), st.integers(0, 10**6))
def test_parts_apart_joined_equal_their_union(count: int, seed: int) -> None:
    """Polygons with fractions, each in a cell of its own."""
    generator = torch.Generator().manual_seed(seed)
    parts = [
        torch.rand(6, 2, generator=generator, dtype=torch.float64) * 18 + torch.tensor([20 * i, 1])
        for i in range(count)
    ]
    size = (20, 20 * count)
    assert filled(join(parts), size).equal(decode([from_polygons(parts, size)], size)[0])
