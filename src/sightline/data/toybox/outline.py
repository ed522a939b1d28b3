"""The extreme points of a solid's outline: the leftmost, topmost, rightmost and lowest of it.

A cube's are among its corners, a cylinder's on its two rims, a cone's on its rim or at its apex; a
ball's lie on the circle on which the camera's rays touch it, and a torus is a ring of balls (the
volume that a ball sweeps). So every outline is that of some circles, corners being circles of
radius zero, and the extreme of a circle's perspective image has a closed form.
"""

import itertools

import numpy as np

from sightline.data.toybox.camera import Camera
from sightline.data.toybox.description import Thing
from sightline.data.toybox.solids import (
    CONE_HALF,
    CONE_RADIUS,
    CUBE_HALF,
    CYLINDER_HALF,
    CYLINDER_RADIUS,
)
from sightline.data.toybox.torus import RING, TUBE
from sightline.data.toybox.vectors import Array, Point, into

Circles = tuple[Array, Array, Array]  # centres, and two radii at right angles, each [3, M]
Outline = tuple[Point, Point, Point, Point]  # left, top, right, bottom: x, y in pixels, and depth
RING_BALLS = 256  # the outline they give lies within 0.01 % of the torus'


def outlines(camera: Camera, things: tuple[Thing, ...]) -> list[Outline]:
    """The extreme points of each thing's outline as if nothing hid it, in the picture or beside it.

    The whole thing must be in front of the camera.
    """
    if not things:
        return []
    parts = [_circles(thing, camera) for thing in things]
    ends = np.cumsum([part[0].shape[1] for part in parts])
    c, u, v = (np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True))
    across, down = _stationary(c, u, v, 0), _stationary(c, u, v, 1)
    found = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        left, right = _ends(camera, across[:, :, start:end], 0)
        top, bottom = _ends(camera, down[:, :, start:end], 1)
        found.append((left, top, right, bottom))
    return found


def _stationary(c: Array, u: Array, v: Array, axis: int) -> Array:
    """Where the image of each circle is furthest left and right (axis 0) or up and down (1):
    [3, 2, M] in camera coordinates.

    On a circle ``c + u cos + v sin`` the quotient X / Z is stationary where
    ``P cos + Q sin + K = 0``, which has two solutions.
    """
    p = v[axis] * c[2] - c[axis] * v[2]
    q = c[axis] * u[2] - u[axis] * c[2]
    k = v[axis] * u[2] - u[axis] * v[2]
    squared = p * p + q * q
    root = np.sqrt(np.maximum(squared - k * k, 0.0))
    whole = np.where(squared > 0, squared, 1.0)  # a corner: any angle will do
    both = [
        c + u * ((-k * p - side * q * root) / whole) + v * ((-k * q + side * p * root) / whole)
        for side in (-1.0, 1.0)
    ]
    return np.stack(both, axis=1)


def _ends(camera: Camera, points: Array, axis: int) -> tuple[Point, Point]:
    """The first and the last, along one axis of the picture, of points [3, 2, M] of a thing."""
    x, y, z = points.reshape(3, -1)
    slopes = (x, y)[axis] / z
    height, width = camera.size
    ends = []
    for row in (int(slopes.argmin()), int(slopes.argmax())):
        depth = float(z[row])
        right, down = float(x[row]) / depth, float(y[row]) / depth
        ends.append((right * camera.focal + width / 2, down * camera.focal + height / 2, depth))
    return ends[0], ends[1]


def _circles(thing: Thing, camera: Camera) -> Circles:
    """The circles whose images together have the thing's outline, in camera coordinates."""
    axes = [into(axis, camera.axes) for axis in thing.axes]
    x, y, z = (np.array(axis)[:, None] * thing.scale for axis in axes)
    middle = np.array(camera.to_camera(thing.centre))[:, None]
    centres, u, v = (x * part[0] + y * part[1] + z * part[2] for part in PARTS[thing.shape])
    if thing.shape in BALLS:
        return _touched(centres + middle, BALLS[thing.shape] * thing.scale)
    return centres + middle, u, v


def _touched(centre: Array, radius: float) -> Circles:
    """Where the rays from the camera touch balls."""
    x, y, z = centre
    flat = x * x + z * z
    squared = flat + y * y
    share = radius * radius / squared
    reach = radius * np.sqrt(1 - share)
    # Two unit vectors at right angles to the centre; no ball is straight above or below the camera.
    side, along = 1 / np.sqrt(flat), 1 / np.sqrt(flat * squared)
    u = np.stack([z * side, np.zeros(len(z)), -x * side])
    v = np.stack([-x * y * along, flat * along, -y * z * along])
    return centre * (1 - share), u * reach, v * reach


def _corners(points: Array) -> Circles:
    """Circles of radius zero around points [3, M]."""
    return points, np.zeros_like(points), np.zeros_like(points)


def _rims(*rims: tuple[float, float]) -> Circles:
    """Circles around the z axis, given by height and radius."""
    heights, radii = (np.array(column) for column in zip(*rims, strict=True))
    zero = np.zeros(len(rims))
    return (
        np.stack([zero, zero, heights]),
        np.stack([radii, zero, zero]),
        np.stack([zero, radii, zero]),
    )


def _ring(count: int) -> Array:
    """Points around the ring of the torus, by halving angles: a sine is not the same everywhere."""
    x, y = np.array([1.0, 0.0, -1.0, 0.0]), np.array([0.0, 1.0, 0.0, -1.0])
    while len(x) < count:
        between_x, between_y = x + np.roll(x, -1), y + np.roll(y, -1)
        length = np.sqrt(between_x * between_x + between_y * between_y)
        x = np.column_stack([x, between_x / length]).ravel()
        y = np.column_stack([y, between_y / length]).ravel()
    return np.stack([RING * x, RING * y, np.zeros(len(x))])


PARTS: dict[str, Circles] = {
    "cube": _corners(np.array(list(itertools.product((-CUBE_HALF, CUBE_HALF), repeat=3))).T),
    "sphere": _corners(np.zeros((3, 1))),
    "cylinder": _rims((-CYLINDER_HALF, CYLINDER_RADIUS), (CYLINDER_HALF, CYLINDER_RADIUS)),
    "cone": _rims((-CONE_HALF, CONE_RADIUS), (CONE_HALF, 0.0)),
    "torus": _corners(_ring(RING_BALLS)),
}
BALLS = {
    "sphere": 1.0,
    "torus": TUBE,
}  # the shapes whose parts are centres of balls, and their radius
