"""A pinhole camera without roll, and the pixels that look into the world through it."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from sightline.data.toybox.vectors import Array, Axes, Number, Point, Vector, into, subtract

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class Camera:
    """``axes`` are right, down and forward in the world; right is horizontal (no roll).

    A pixel (x, y), in continuous coordinates, looks along
    ``forward + (x - width / 2) / focal * right + (y - height / 2) / focal * down``, so that the
    distance along a ray is the depth in front of the camera.
    """

    size: tuple[int, int]  # height, width
    position: Point
    axes: Axes
    focal: float  # pixels

    @property
    def horizon(self) -> float:
        """The height of the horizon in the picture, in pixels from the top, inside it or not."""
        _, down, forward = self.axes
        return self.size[0] / 2 - self.focal * forward[2] / down[2]

    def slopes(self, x: Array, y: Array) -> tuple[Array, Array]:
        """How far a ray goes right and down for each unit forward."""
        height, width = self.size
        return (x - width / 2) / self.focal, (y - height / 2) / self.focal

    def rays(self, x: Array, y: Array) -> Vector:
        """World directions of the rays through pixels; their third camera coordinate is one."""
        across, along = self.slopes(x, y)
        right, down, forward = self.axes
        return (
            forward[0] + along * down[0] + across * right[0],
            forward[1] + along * down[1] + across * right[1],
            forward[2] + along * down[2] + across * right[2],
        )

    def ground_depth(self, y: Array) -> Array:
        """Depth of the ground at heights in the picture below the horizon."""
        _, down, forward = self.axes
        falls = -(forward[2] + (y - self.size[0] / 2) / self.focal * down[2])
        return self.position[2] / np.maximum(falls, 1e-9)

    def to_camera(self, point: Vector) -> Vector:
        """World points in camera coordinates: right, down, forward."""
        return into(subtract(point, self.position), self.axes)

    def project(self, point: Vector) -> tuple[Number, Number, Number]:
        """x and y in the picture and depth; the depth must be positive."""
        right, down, depth = self.to_camera(point)
        height, width = self.size
        return right / depth * self.focal + width / 2, down / depth * self.focal + height / 2, depth


def centres(count: int) -> Array:
    """Where the centres of so many pixels lie."""
    return np.arange(count) + np.float64(0.5)


class Pixels:
    """The centre of every pixel of a picture, row by row; ``x`` and ``y`` are flat."""

    def __init__(self, size: tuple[int, int]) -> None:
        height, width = size
        self.size = size
        self.order = np.arange(height * width).reshape(height, width)
        self.x: Array = np.tile(centres(width), height)
        self.y: Array = np.repeat(centres(height), width)

    def inside(self, box: Rectangle) -> NDArray[np.intp]:
        """Which pixels have their centre in the rectangle, or touch it by less than one pixel."""
        height, width = self.size
        left, right = (int(min(max(v, 0), width)) for v in (box[0], box[2] + 1))
        top, bottom = (int(min(max(v, 0), height)) for v in (box[1], box[3] + 1))
        return self.order[top:bottom, left:right].ravel()


@cache
def pixels(size: tuple[int, int]) -> Pixels:
    """The pixels of pictures of this height and width, made once."""
    return Pixels(size)


class Dots:
    """Any points of the picture, as ``Pixels`` are the centres of its pixels."""

    def __init__(self, x: Array, y: Array) -> None:
        self.x, self.y = x, y

    def inside(self, box: Rectangle) -> NDArray[np.intp]:
        """Which points lie in the rectangle."""
        left, top, right, bottom = box
        x, y = self.x, self.y
        return np.flatnonzero((x >= left) & (x <= right) & (y >= top) & (y <= bottom))
