"""Vectors as three numbers, each a float or an array: one formula for one ray or for thousands.

Only ``+ - * /`` and ``sqrt`` are used wherever an annotation depends on the result: IEEE 754 rounds
those the same way on every machine, which sine, a matrix product or a pairwise sum need not be.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Number: TypeAlias = float | Array
Vector: TypeAlias = tuple[Number, Number, Number]
Point: TypeAlias = tuple[float, float, float]  # one vector of plain floats
Axes: TypeAlias = tuple[Point, Point, Point]  # three orthonormal vectors


def dot(a: Vector, b: Vector) -> Number:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def add(a: Vector, b: Vector) -> Vector:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def subtract(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def times(a: Vector, factor: Number) -> Vector:
    return a[0] * factor, a[1] * factor, a[2] * factor


def unit(a: Vector) -> Vector:
    """Scaled to length one; a zero vector stays zero."""
    length = np.sqrt(dot(a, a))
    return times(a, 1 / np.where(length > 0, length, 1.0))


def into(vector: Vector, axes: Axes) -> Vector:
    """The coordinates of a world vector along three orthonormal axes."""
    return dot(vector, axes[0]), dot(vector, axes[1]), dot(vector, axes[2])


def out_of(vector: Vector, axes: Axes) -> Vector:
    """The inverse of ``into``: a world vector from its coordinates along the axes."""
    x, y, z = (times(axis, part) for axis, part in zip(axes, vector, strict=True))
    return add(add(x, y), z)


def pick(vector: Vector, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Vector:
    """The rows of each array; what is one number for all rays stays so."""
    x, y, z = (part if np.ndim(part) == 0 else np.asarray(part)[rows] for part in vector)
    return x, y, z
