"""The patterns of the ground and the clouds: made once from fixed random numbers, then looked up.

A texture is one map that repeats without a seam. A ground's says where between its dark and its
bright colour a place is, mostly in 0..1, beyond in joints and highlights; the clouds' says how
thick they are. It is kept at every halved resolution ("mip levels"), so that a distant place is
looked up where it has already been averaged.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.data.toybox.draws import Draws
from sightline.data.toybox.vectors import Array

Values = NDArray[np.float32]

SIDE = 512  # texels
TILE = 8.0  # world units that a ground texture spans


class Texture(NamedTuple):
    """All levels after one another, finest first, each flat."""

    texels: Values
    starts: NDArray[np.intp]  # where each level begins
    sides: NDArray[np.intp]  # texels along a side of each level
    mean: float


def look_up(texture: Texture, u: Values, v: Values, level: NDArray[np.intp]) -> Values:
    """The texture at places (u, v), in tiles, bilinear inside the given level of each row.

    ``u`` and ``v`` are [rows, columns], ``level`` is [rows].
    """
    side, start = texture.sides[level][:, None], texture.starts[level][:, None]
    u, v = (place * side.astype(np.float32) - np.float32(0.5) for place in (u, v))
    left, top = np.floor(u), np.floor(v)
    across, along = u - left, v - top
    wrap = side - 1  # sides are powers of two
    x, y = left.astype(np.intp), top.astype(np.intp)
    first, second = (y & wrap) * side + start, ((y + 1) & wrap) * side + start
    x, right = x & wrap, (x + 1) & wrap
    a, b = texture.texels.take(first + x), texture.texels.take(first + right)
    c, d = texture.texels.take(second + x), texture.texels.take(second + right)
    upper = a + (b - a) * across
    return upper + (c + (d - c) * across - upper) * along


@cache
def texture(kind: str) -> Texture:
    """By the name of a ground, or "clouds"."""
    levels = [PATTERNS[kind](Draws(sum(kind.encode()))).astype(np.float32)]
    while len(levels[-1]) > 1:
        levels.append(_halved(levels[-1]))
    sides = np.array([len(level) for level in levels])
    starts = np.cumsum(sides * sides) - sides * sides
    texels = np.concatenate([level.ravel() for level in levels])
    return Texture(texels, starts, sides, float(levels[-1][0, 0]))


def _halved(values: Values) -> Values:
    quarter = (values[::2, ::2] + values[1::2, ::2]) + (values[::2, 1::2] + values[1::2, 1::2])
    return quarter * np.float32(0.25)


def _noise(draws: Draws, rows: int, columns: int, octaves: int) -> Array:
    """Seamless cloudy noise in 0..1: ``rows`` x ``columns`` random values joined smoothly, and on
    them twice as many each way at half the strength, and so on."""
    total, weight, weights = np.zeros((SIDE, SIDE)), 1.0, 0.0
    for _ in range(octaves):
        total += weight * _smooth(draws.array(rows, columns))
        weights += weight
        rows, columns, weight = min(2 * rows, SIDE), min(2 * columns, SIDE), weight / 2
    spread = total / weights
    return _clip(0.5 + 1.6 * (spread - 0.5))


def _smooth(grid: Array) -> Array:
    """Random values on a grid joined to a seamless map, first down, then across."""
    return _joined(_joined(grid).T).T


def _joined(grid: Array) -> Array:
    place = np.arange(SIDE) * (len(grid) / SIDE)
    before = place.astype(np.intp)
    share = place - before
    share = (share * share * (3 - 2 * share))[:, None]
    return grid[before] * (1 - share) + grid[(before + 1) % len(grid)] * share


def _clip(values: Array) -> Array:
    return np.minimum(np.maximum(values, 0.0), 1.0)


def _step(low: float, high: float, values: Array) -> Array:
    """0 below ``low``, 1 above ``high``, smooth between."""
    share = _clip((values - low) / (high - low))
    return share * share * (3 - 2 * share)


def _checker(draws: Draws) -> Array:
    """Tiles of one world unit with a thin joint."""
    place = (np.arange(SIDE) + 0.5) * (TILE / SIDE)
    cell = place.astype(np.intp)
    odd = (cell[:, None] + cell[None, :]) % 2
    tone = draws.array(int(TILE), int(TILE))[cell][:, cell]
    edge = np.minimum(place - cell, 1 - (place - cell))
    joint = _step(0.008, 0.02, np.minimum(edge[:, None], edge[None, :]))
    veins = _noise(draws, 12, 12, 5)
    return (0.84 * odd + 0.08 * tone + 0.12 * veins) * joint + 0.25 * (1 - joint)


def _planks(draws: Draws) -> Array:
    """Boards along the columns, half a unit wide, each cut and toned by chance."""
    boards, width = 16, SIDE // 16
    place = np.arange(SIDE)
    board = place // width
    cut = (draws.array(boards) * SIDE).astype(np.intp)
    along = (place[None, :] + cut[board][:, None]) % SIDE
    tone = draws.array(boards, 2)[board[:, None], along // (SIDE // 2)]
    grain = _noise(draws, 128, 4, 3)
    across = (place % width + 0.5) / width
    gap = _step(0.0, 0.07, np.minimum(across, 1 - across))[:, None]
    end = along % (SIDE // 2)
    gap = gap * _step(0.0, 3.0, np.minimum(end, SIDE // 2 - end) + 0.5)
    return 0.65 * tone + 0.75 * (grain - 0.5) + 0.2 - 0.9 * (1 - gap)


def _sand(draws: Draws) -> Array:
    """Soft patches, ripples bent by noise, and grains."""
    patches = _noise(draws, 6, 6, 5)
    phase = np.arange(SIDE)[:, None] * (22 / SIDE) + 2.2 * _noise(draws, 4, 4, 3)
    wave = np.abs(2 * (phase - np.floor(phase)) - 1)
    ripple = wave * wave * (3 - 2 * wave)
    return 0.7 * patches + 0.45 * ripple + 0.5 * (draws.array(SIDE, SIDE) - 0.5) - 0.1


def _grass(draws: Draws) -> Array:
    """Blades at two scales over lighter and darker patches."""
    patches, tufts = _noise(draws, 5, 5, 4), _noise(draws, 80, 80, 3)
    blades = _noise(draws, 256, 96, 2)
    return 0.45 * patches + 0.45 * tufts + 0.75 * (blades - 0.4)


def _cobbles(draws: Draws) -> Array:
    """Stones around random points, one in each cell of a grid; dark where two are equally near."""
    cells = 18
    points = 0.15 + 0.7 * draws.array(2, cells, cells)
    tone = draws.array(cells, cells)
    place = (np.arange(SIDE) + 0.5) * (cells / SIDE)
    cell = place.astype(np.intp)
    nearest, second = np.full((2, SIDE, SIDE), np.inf)
    tones = np.zeros((SIDE, SIDE))
    for row, column in ((cell + down, cell + right) for down in STEPS for right in STEPS):
        at = np.ix_(row % cells, column % cells)
        y = points[0][at] + (row - place)[:, None]
        x = points[1][at] + (column - place)[None, :]
        distance = np.sqrt(x * x + y * y)
        closer = distance < nearest
        second = np.where(closer, nearest, np.minimum(second, distance))
        tones = np.where(closer, tone[at], tones)
        nearest = np.where(closer, distance, nearest)
    stone = _step(0.02, 0.22, second - nearest)
    return 0.1 + 0.6 * tones + 0.6 * (_noise(draws, 48, 48, 4) - 0.5) - 0.5 * (1 - stone)


def _clouds(draws: Draws) -> Array:
    return _noise(draws, 4, 4, 7)


STEPS = (-1, 0, 1)  # to the neighbouring cells
PATTERNS: dict[str, Callable[[Draws], Array]] = {
    "checker": _checker,
    "planks": _planks,
    "sand": _sand,
    "grass": _grass,
    "cobbles": _cobbles,
    "clouds": _clouds,
}
