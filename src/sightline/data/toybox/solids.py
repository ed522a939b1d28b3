"""The five solids in their own coordinates: where a ray meets them, which way their surface faces.

Each is centred at the origin and about two units high, its axis along z. A convex solid is an
intersection of simple sets; a ray is inside each of them over an interval, and enters the solid at
the latest beginning. Distances along a ray are in units of its direction's length.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.data.toybox import torus
from sightline.data.toybox.vectors import Array, Number, Vector, dot

CUBE_HALF = 0.8  # half a side
CYLINDER_RADIUS, CYLINDER_HALF = 0.72, 0.85
CONE_RADIUS, CONE_HALF = 0.9, 0.95  # of the base, at z = -half; the apex is at z = +half
CONE_SLOPE = CONE_RADIUS / (2 * CONE_HALF)

Interval = tuple[Number, Number]


class Solid(NamedTuple):
    """``hit`` gives the distance to the surface ahead (infinite: none), ``blocks`` whether there is
    one, both for origins outside the solid; ``normal`` the unit normal at points of the surface."""

    hit: Callable[[Vector, Vector], Array]
    blocks: Callable[[Vector, Vector], NDArray[np.bool_]]
    normal: Callable[[Vector], Vector]
    radius: float  # of the ball around the origin that holds it
    convex: bool


def _sphere(origin: Vector, direction: Vector) -> Array:
    inside = _below_zero(
        dot(direction, direction), dot(origin, direction), dot(origin, origin) - 1.0
    )
    return _entry(inside)


def _cube(origin: Vector, direction: Vector) -> Array:
    return _entry(*(_slab(o, d, CUBE_HALF) for o, d in zip(origin, direction, strict=True)))


def _cylinder(origin: Vector, direction: Vector) -> Array:
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    around = _below_zero(
        np.maximum(dx * dx + dy * dy, 1e-12),
        ox * dx + oy * dy,
        ox * ox + oy * oy - CYLINDER_RADIUS * CYLINDER_RADIUS,
    )
    return _entry(around, _slab(oz, dz, CYLINDER_HALF))


def _cone(origin: Vector, direction: Vector) -> Array:
    """Inside the double cone |(x, y)| < slope * (depth below the apex), and between its planes."""
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    q, dq = CONE_SLOPE * (CONE_HALF - oz), -CONE_SLOPE * dz
    a = dx * dx + dy * dy - dq * dq
    a = np.where(np.abs(a) < 1e-12, 1e-12, a)
    b = ox * dx + oy * dy - q * dq
    low, high = _roots(a, b, ox * ox + oy * oy - q * q)
    # A ray steeper than the cone is inside before the first root and after the second: of these two
    # parts the one below the apex counts.
    start = np.where(a > 0, low, np.where(dq > 0, high, -np.inf))
    end = np.where(a > 0, high, np.where(dq > 0, np.inf, low))
    return _entry((start, end), _slab(oz, dz, CONE_HALF))


def _entry(*intervals: Interval) -> Array:
    """Where a ray comes to be inside all the sets: the latest start, if that is ahead and before
    the earliest end."""
    start, end = intervals[0]
    for other_start, other_end in intervals[1:]:
        start, end = np.maximum(start, other_start), np.minimum(end, other_end)
    return np.where((start < end) & (start > 0), start, np.inf)


def _slab(origin: Number, direction: Number, half: float) -> Interval:
    """Where a ray lies between two planes at -half and +half."""
    inverse = 1 / np.where(direction == 0, 1e-300, direction)
    centre, reach = -origin * inverse, half * np.abs(inverse)
    return centre - reach, centre + reach


def _below_zero(a: Number, b: Number, c: Number) -> Interval:
    """Where a t^2 + 2 b t + c < 0, for a > 0; an empty interval where nowhere."""
    squared = b * b - a * c
    half = np.sqrt(np.maximum(squared, 0.0))
    return (-b - half) / a, (half - b) / a


def _roots(a: Number, b: Number, c: Number) -> Interval:
    """Both roots of a t^2 + 2 b t + c in order, without cancellation; infinite if not real."""
    squared = b * b - a * c
    half = np.sqrt(np.maximum(squared, 0.0))
    q = -(b + np.where(b >= 0, half, -half))
    one, other = q / a, c / np.where(q == 0, 1e-300, q)
    real = squared >= 0
    return (
        np.where(real, np.minimum(one, other), np.inf),
        np.where(real, np.maximum(one, other), np.inf),
    )


def _ahead(hit: Callable[[Vector, Vector], Array]) -> Callable[[Vector, Vector], NDArray[np.bool_]]:
    return lambda origin, direction: hit(origin, direction) < np.inf


def _sphere_normal(point: Vector) -> Vector:
    return point


def _cube_normal(point: Vector) -> Vector:
    x, y, z = (np.abs(part) for part in point)
    on_x = (x >= y) & (x >= z)
    on_y = ~on_x & (y >= z)
    return (
        np.where(on_x, np.sign(point[0]), 0.0),
        np.where(on_y, np.sign(point[1]), 0.0),
        np.where(on_x | on_y, 0.0, np.sign(point[2])),
    )


def _cylinder_normal(point: Vector) -> Vector:
    x, y, z = point
    radius = np.sqrt(x * x + y * y)
    on_end = CYLINDER_HALF - np.abs(z) < CYLINDER_RADIUS - radius
    side = np.where(on_end, 0.0, 1 / np.maximum(radius, 1e-12))
    return x * side, y * side, np.where(on_end, np.sign(z), 0.0)


def _cone_normal(point: Vector) -> Vector:
    x, y, z = point
    radius = np.sqrt(x * x + y * y)
    on_base = z + CONE_HALF < CONE_SLOPE * (CONE_HALF - z) - radius
    upward = CONE_SLOPE / np.sqrt(1 + CONE_SLOPE * CONE_SLOPE)
    side = np.where(
        on_base, 0.0, 1 / np.maximum(radius, 1e-12) / np.sqrt(1 + CONE_SLOPE * CONE_SLOPE)
    )
    return x * side, y * side, np.where(on_base, -1.0, upward)


def _length(*parts: float) -> float:
    return float(np.sqrt(sum(part * part for part in parts)))


SOLIDS: dict[str, Solid] = {
    "cube": Solid(
        _cube, _ahead(_cube), _cube_normal, _length(CUBE_HALF, CUBE_HALF, CUBE_HALF), True
    ),
    "sphere": Solid(_sphere, _ahead(_sphere), _sphere_normal, 1.0, True),
    "cylinder": Solid(
        _cylinder,
        _ahead(_cylinder),
        _cylinder_normal,
        _length(CYLINDER_RADIUS, CYLINDER_HALF, 0.0),
        True,
    ),
    "cone": Solid(_cone, _ahead(_cone), _cone_normal, _length(CONE_RADIUS, CONE_HALF, 0.0), True),
    "torus": Solid(torus.hit, torus.blocks, torus.normal, torus.RING + torus.TUBE, False),
}
