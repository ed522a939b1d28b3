"""Drawn shapes and their union."""

import numpy as np
import pytest
import torch

from sightline.data import parts
from sightline.data.parts import Part
from sightline.ops.masks import rasterise

SIZE = (30, 40)


def maps(part: Part) -> torch.Tensor:
    """The one mask of a part, as a data set would give it."""
    polygons = [torch.tensor(p, dtype=torch.float64).view(-1, 2) for p in part.polygons]
    return rasterise(
        [{"size": list(SIZE), "counts": part.counts} if part.counts else polygons], SIZE
    )[0]


def filled(*windows: tuple[int, int, int, int]) -> torch.Tensor:
    """1 inside each of the windows x1, y1, x2, y2."""
    mask = torch.zeros(SIZE, dtype=torch.bool)
    for x1, y1, x2, y2 in windows:
        mask[y1:y2, x1:x2] = True
    return mask


def area(part: Part) -> float:
    return parts.mask_area(part.polygons, part.counts)


def test_the_area_of_a_polygon_whichever_way_it_runs() -> None:
    triangle = [2.0, 3.0, 12.0, 3.0, 2.0, 9.0]
    backwards = [2.0, 9.0, 12.0, 3.0, 2.0, 3.0]
    for points in (triangle, backwards):
        part = parts.polygon(points)
        assert part.box == (2, 3, 12, 9)
        assert area(part) == pytest.approx(10 * 6 / 2)


@pytest.mark.parametrize("radius", [0.5, 5.0, 300.0, 20000.0])
def test_the_sides_of_an_ellipse_are_never_far_from_it(radius: float) -> None:
    part = parts.ellipse(3.0, 4.0, radius, radius)
    corners = np.array(part.polygons[0]).reshape(-1, 2) - [3, 4]
    middles = (corners + np.roll(corners, 1, axis=0)) / 2
    np.testing.assert_allclose(np.hypot(*corners.T), radius)
    assert (radius - np.hypot(*middles.T)).max() < max(0.11, radius / 1e4)


def test_an_ellipse_turned_by_a_quarter_exchanges_its_axes() -> None:
    wide, high = parts.ellipse(0, 0, 9, 2, 90), parts.ellipse(0, 0, 2, 9)
    assert wide.box == pytest.approx(high.box, abs=0.1)
    assert area(wide) == pytest.approx(np.pi * 18, rel=0.02)


def test_a_box_that_is_not_turned_stays_a_box() -> None:
    for degrees in (0, 360, -360):
        assert parts.turned((1, 2, 5, 9), degrees, (1, 2)) == Part((1, 2, 5, 9))
    quarter = parts.turned((1, 2, 5, 9), 90, (1, 2))  # 4 x 7 clockwise about its upper left corner
    assert quarter.box == pytest.approx((1 - 7, 2, 1, 2 + 4))
    assert area(quarter) == pytest.approx(28)


@pytest.mark.parametrize("corner", [(0, 0), (5, 7), (-1, -2), (28, 38), (-1, 37)])
def test_a_block_lies_where_it_is_put_and_is_cut_at_the_edge(corner: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).random((4, 5)) < 0.6
    wanted = np.zeros((50, 60), bool)
    top, left = corner[0] + 10, corner[1] + 10
    wanted[top : top + 4, left : left + 5] = pixels
    part = parts.block(pixels, corner, SIZE)
    mask = torch.from_numpy(wanted[10:40, 10:50])
    assert maps(part).equal(mask)
    rows, columns = mask.nonzero().T
    assert part.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert area(part) == mask.sum()


def test_a_block_without_a_pixel_has_no_area() -> None:
    assert parts.block(np.zeros((3, 3), bool), (0, 0), SIZE).box == (0, 0, 0, 0)
    assert parts.block(np.ones((3, 3), bool), (30, 0), SIZE).box == (0, 0, 0, 0)


def test_joined_by_the_richest_of_the_parts() -> None:
    box, other = Part((1, 1, 4, 3)), Part((10, 10, 12, 14))
    square = parts.polygon([20.0, 5, 24, 5, 24, 9, 20, 9])
    block = parts.block(np.ones((2, 3), bool), (0, 30), SIZE)
    assert parts.join([square], SIZE) is square
    assert parts.join([box, other], SIZE) == Part((1, 1, 12, 14))
    outlines = parts.join([box, square], SIZE)
    assert (outlines.box, area(outlines), outlines.counts) == ((1, 1, 24, 9), 6 + 16, b"")
    assert maps(outlines).equal(filled((1, 1, 4, 3), (20, 5, 24, 9)))
    union = parts.join([block, square, box], SIZE)
    assert (union.box, area(union), union.polygons) == ((1, 0, 33, 9), 6 + 16 + 6, ())
    assert maps(union).equal(filled((1, 1, 4, 3), (20, 5, 24, 9), (30, 0, 33, 2)))


def test_parts_without_area_are_as_if_they_were_not_there() -> None:
    nothing = parts.block(np.zeros((3, 3), bool), (0, 0), SIZE)
    square = parts.polygon([20.0, 5, 24, 5, 24, 9, 20, 9])
    assert parts.join([nothing, square], SIZE).box == (20, 5, 24, 9)
    assert parts.join([nothing, nothing], SIZE).box == (0, 0, 0, 0)


@pytest.mark.parametrize("backwards", [False, True])
def test_the_area_of_parts_and_holes_that_lines_join(backwards: bool) -> None:
    """A square of 10 x 10 with a hole of 4 x 4, in which lies an island of 2 x 2, and, by a line
    there and back, another square of 3 x 3: whichever way each runs round."""
    hole, island, other = (
        corners[::-1] if backwards else corners
        for corners in (
            [(3, 3), (7, 3), (7, 7), (3, 7)],
            [(4, 4), (6, 4), (6, 6), (4, 6)],
            [(20, 0), (23, 0), (23, 3), (20, 3)],
        )
    )
    first = island[0]
    inner = [*hole, hole[0], *island, first, hole[0]]
    path = [(0, 0), *other, other[0], (0, 0), *inner, (0, 0), (10, 0), (10, 10), (0, 10)]
    flat = [float(value) for point in path for value in point]
    assert parts.mask_area([flat], b"") == 100 - 16 + 4 + 9
    assert parts.mask_area([flat, [0.0, 0, 1, 0, 0, 1]], b"") == 97 + 0.5


def test_the_area_of_what_encloses_nothing() -> None:
    assert parts.mask_area([], b"") == 0
    assert parts.mask_area([[1.0, 1, 5, 5, 1, 1, 5, 5]], b"") == 0
