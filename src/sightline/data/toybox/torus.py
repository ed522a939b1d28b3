"""Where a ray meets a torus: the first root of a quartic, found without ever missing one.

The ring lies in the plane z = 0 around the origin. Along a ray of unit direction ``d`` whose origin
``o`` is moved to its point closest to the centre (so ``o . d = 0``) the torus is the zero set of

    f(s) = (s^2 + k)^2 - 4 R^2 |o_xy + s d_xy|^2,   k = |o|^2 + R^2 - r^2,

a quartic without cubic term. Its stationary points are the roots of a cubic without quadratic term:
Newton's method finds the outermost one (it converges from outside without ever stepping over), the
other two then solve a quadratic equation. The first minimum with f <= 0 closes a bracket on which f
falls, and safeguarded Newton steps find the root in it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.data.toybox.vectors import Array, Number, Vector, add, dot, pick, times

RING = 0.72  # R, radius of the circle in the middle of the tube
TUBE = 0.28  # r, radius of the tube
STEPS = 40  # of Newton's method, at most; most rays need six
CLOSE = 1e-12  # a step shorter than this is the last


class Quartic(NamedTuple):
    """f(s) = s^4 + square s^2 + linear s + constant, and the ray it belongs to."""

    square: Array
    linear: Array
    constant: Array
    reach: Array  # no root is further from s = 0 than this
    shift: Array  # distance along the ray as it was given = (s + shift) * stretch
    stretch: Array

    def rows(self, chosen: NDArray[np.bool_]) -> "Quartic":
        return Quartic(*(column[chosen] for column in self))

    def value(self, s: Array) -> Array:
        return ((s * s + self.square) * s + self.linear) * s + self.constant

    def slope(self, s: Array) -> Array:
        return (4 * s * s + 2 * self.square) * s + self.linear


class Dip(NamedTuple):
    """The first stretch of a ray on which f falls to zero or below."""

    rows: NDArray[np.intp]  # which of the rays have one
    quartic: Quartic  # of those rays
    start: Array  # f falls from here ...
    end: Array  # ... to here, where it is <= 0


def hit(origin: Vector, direction: Vector) -> Array:
    """Distance, in units of the direction's length, to the first surface ahead; infinite if none.

    The origin must be outside the torus, or on its surface.
    """
    dip = _dip(origin, direction)
    distance = np.full(_count(origin, direction), np.inf)
    quartic = dip.quartic
    distance[dip.rows] = (_root(dip) + quartic.shift) * quartic.stretch
    return distance


def blocks(origin: Vector, direction: Vector) -> NDArray[np.bool_]:
    """Whether there is anything of the torus ahead; cheaper than ``hit``, which says where."""
    blocked = np.zeros(_count(origin, direction), dtype=bool)
    blocked[_dip(origin, direction).rows] = True
    return blocked


def normal(point: Vector) -> Vector:
    """Unit outward normal at points of the surface."""
    x, y, z = point
    from_axis = np.sqrt(x * x + y * y)
    inward = (from_axis - RING) / np.maximum(from_axis, 1e-12) / TUBE
    return x * inward, y * inward, z / TUBE


def _count(origin: Vector, direction: Vector) -> int:
    return int(np.broadcast(*origin, *direction).size)


def _dip(origin: Vector, direction: Vector) -> Dip:
    near = _passes(origin, direction)
    quartic = _quartic(pick(origin, near), pick(direction, near))
    first, middle, last = _stationary(quartic)
    ahead = -quartic.shift  # s at the origin of the ray as it was given
    dips_first = (quartic.value(first) <= 0) & (first > ahead)
    dips_last = (quartic.value(last) <= 0) & (last > ahead)
    dips = dips_first | dips_last
    start = np.where(dips_first, -quartic.reach, middle)[dips]
    end = np.where(dips_first, first, last)[dips]
    return Dip(near[dips], quartic.rows(dips), start, end)


def _passes(origin: Vector, direction: Vector) -> NDArray[np.intp]:
    """The rays whose line comes through the ball around the torus and its slab |z| <= r."""
    squared = dot(direction, direction)
    along = dot(origin, direction)
    outside = dot(origin, origin) - (RING + TUBE) * (RING + TUBE)
    half = np.sqrt(np.maximum(along * along - squared * outside, 0.0))
    z, dz = origin[2] * squared - direction[2] * along, direction[2] * half
    # z at both ends of the chord, times the squared length: both above or both below miss
    limit = TUBE * squared
    missed = (
        (half == 0) | (np.minimum(z + dz, z - dz) > limit) | (np.maximum(z + dz, z - dz) < -limit)
    )
    return np.flatnonzero(np.broadcast_to(~missed, _count(origin, direction)))


def _quartic(origin: Vector, direction: Vector) -> Quartic:
    stretch: Number = 1 / np.sqrt(dot(direction, direction))
    direction = times(direction, stretch)
    shift: Number = -dot(origin, direction)
    ox, oy, oz = add(origin, times(direction, shift))
    dx, dy, _ = direction
    flat: Number = ox * ox + oy * oy
    squared = flat + oz * oz
    k = squared + (RING * RING - TUBE * TUBE)
    four = 4 * RING * RING
    parts = (
        2 * k - four * (dx * dx + dy * dy),
        -2 * four * (ox * dx + oy * dy),
        k * k - four * flat,
        np.sqrt(np.maximum((RING + TUBE) * (RING + TUBE) - squared, 0.0)),
        shift,
        stretch,
    )
    return Quartic(*np.broadcast_arrays(*parts))


def _stationary(quartic: Quartic) -> tuple[Array, Array, Array]:
    """First minimum, maximum between, last minimum of f; all the same where there is but one."""
    square, linear = quartic.square, quartic.linear
    # The cubic's outermost root lies on the side where its value at 0 has the other sign.
    side = np.where(linear >= 0, -1.0, 1.0)
    half, positive = square / 2, np.abs(linear) / 4  # mirrored: u^3 + half u - positive = 0, u >= 0
    root = np.sqrt(positive)
    u = np.sqrt(np.maximum(-half, 0.0)) + np.maximum(root, np.sqrt(root))  # beyond every root
    for _ in range(STEPS):
        squared = u * u
        step = ((squared + half) * u - positive) / np.maximum(3 * squared + half, 1e-12)
        u = u - step
        if not (step > CLOSE).any():
            break
    # The other two solve v^2 + u v + (u^2 + half) = 0.
    inner = -3 * u * u - 4 * half
    root = np.sqrt(np.maximum(inner, 0.0))
    three = inner > 0
    near, far = np.where(three, (root - u) / 2, u), np.where(three, (-root - u) / 2, u)
    first, last = np.minimum(side * u, side * far), np.maximum(side * u, side * far)
    return first, side * near, last


def _root(dip: Dip) -> Array:
    """The root of f in each bracket: Newton where it stays inside, else halving."""
    low, high = dip.start, dip.end
    s = low
    for _ in range(STEPS):
        value, slope = dip.quartic.value(s), dip.quartic.slope(s)
        above = value > 0
        low, high = np.where(above, s, low), np.where(above, high, s)
        newton = s - value / np.minimum(slope, -1e-300)
        inside = (newton >= low) & (newton <= high)
        before, s = s, np.where(inside, newton, (low + high) / 2)
        if not (np.abs(s - before) > CLOSE).any():
            break
    return s
