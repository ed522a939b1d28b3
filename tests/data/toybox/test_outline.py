"""The extreme points of outlines: by hand, and against casting a ray through every pixel."""

import math

import numpy as np
import pytest

from sightline.data.toybox.camera import Camera, pixels
from sightline.data.toybox.compose import compose
from sightline.data.toybox.description import Thing
from sightline.data.toybox.outline import outlines
from sightline.data.toybox.vectors import Axes, Point
from sightline.data.toybox.visible import look

UPRIGHT: Axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
# Looks along y from the origin: right is x, down is -z.
LEVEL = Camera(
    (200, 200), (0.0, 0.0, 0.0), ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)), 100
)


def solid(shape: str, centre: Point, scale: float = 1.0, axes: Axes = UPRIGHT) -> Thing:
    return Thing(shape, "red", "rubber", "large", scale, "upright", centre, axes, (0.5, 0.0, 0.0))


def test_of_a_ball_by_hand() -> None:
    """A ball of radius 3 at distance 5 is touched at distance 4 under the slope 3 / 4; the point is
    3 * 4 / 5 = 2.4 beside the axis and 4 * 4 / 5 = 3.2 away."""
    (outline,) = outlines(LEVEL, (solid("sphere", (0.0, 5.0, 0.0), 3.0),))
    left, top, right, bottom = (100 - 75, 100), (100, 100 - 75), (100 + 75, 100), (100, 100 + 75)
    np.testing.assert_allclose([p[:2] for p in outline], [left, top, right, bottom], atol=1e-9)
    np.testing.assert_allclose([p[2] for p in outline], 3.2)


def test_of_a_cube_by_hand() -> None:
    """Half a side is 0.8; its near face is at depth 4: 100 * 0.8 / 4 = 20 pixels to each side."""
    (outline,) = outlines(LEVEL, (solid("cube", (0.0, 4.8, 0.0)),))
    left, top, right, bottom = outline
    assert (left[0], top[1], right[0], bottom[1]) == pytest.approx((80, 80, 120, 120))
    np.testing.assert_allclose([p[2] for p in outline], 4)


def test_of_a_cylinder_by_hand() -> None:
    """Seen along its axis, the near end is a disc of radius 0.72 at depth 10 - 0.85."""
    along: Axes = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
    (outline,) = outlines(LEVEL, (solid("cylinder", (0.0, 10.0, 0.0), axes=along),))
    radius = 100 * 0.72 / 9.15
    assert outline[2][0] - 100 == pytest.approx(radius)
    assert 100 - outline[1][1] == pytest.approx(radius)


def test_of_a_torus_by_hand() -> None:
    """Seen along its axis, its outline is the ball's at each place of the ring: the largest slope
    of a circle of radius 0.28 around (0.72, 10) is a tangent from the origin."""
    along: Axes = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
    (outline,) = outlines(LEVEL, (solid("torus", (0.0, 10.0, 0.0), axes=along),))
    angle = math.atan2(0.72, 10) + math.asin(0.28 / math.hypot(0.72, 10))
    np.testing.assert_allclose(
        [abs(outline[0][0] - 100), abs(outline[1][1] - 100)], 100 * math.tan(angle)
    )


def test_the_pixels_of_a_thing_reach_to_its_outline() -> None:
    """Rays through all pixels, not only those inside the outline's rectangle; a corner may end
    between two pixels."""
    size = (160, 160)
    everywhere = ((-1e3, 0.0, 1.0), (0.0, -1e3, 1.0), (1e3, 0.0, 1.0), (0.0, 1e3, 1.0))
    compared = 0
    for index in range(12):
        description = compose(5, index, size, (8, 8))
        found = outlines(description.camera, description.things)
        for thing, outline in zip(description.things, found, strict=True):
            what = look(description.camera, (thing,), [everywhere], pixels(size)).what
            near = look(description.camera, (thing,), [outline], pixels(size)).what
            np.testing.assert_array_equal(what, near)
            y, x = np.nonzero(what.reshape(size) == 0)
            left, top, right, bottom = outline[0][0], outline[1][1], outline[2][0], outline[3][1]
            if left > 1 and top > 1 and right < 159 and bottom < 159:
                reached = (x.min(), y.min(), x.max() + 1, y.max() + 1)
                np.testing.assert_allclose(reached, (left, top, right, bottom), atol=1.6)
                compared += 1
    assert compared > 50


def test_of_nothing() -> None:
    assert outlines(LEVEL, ()) == []
