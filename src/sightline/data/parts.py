"""Shapes as labelling tools draw them, and several of them as the parts of one thing."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.data import runs
from sightline.ops import masks
from sightline.types import Polygons, Rle

_Shape = TypeVar("_Shape")
_FLAT = 0.05  # pixels by which the sides of a polygon may miss the arc of an ellipse


class Part(NamedTuple):
    """A thing or a part of one: a mere box, or with polygons, or with an RLE's counts."""

    box: tuple[float, float, float, float]  # xyxy
    polygons: tuple[list[float], ...] = ()  # flat: x, y, x, y
    counts: bytes = b""


def mask_area(polygons: Sequence[Sequence[float]], counts: bytes) -> float:
    """Of an RLE, or of all flat polygons, each filled by the even-odd rule."""
    if counts:
        return float(runs.expand(counts)[1::2].sum())
    return sum(map(_area, polygons))


def _area(polygon: Sequence[float]) -> float:
    """The parts and holes of a polygon that lines there and back join are loops: a loop in an odd
    number of others is a hole."""
    loops = [np.array(loop, np.float64) for loop in _loops(polygon) if len(loop) > 2]
    if len(loops) == 1:
        return abs(_signed(loops[0]))
    depths = [sum(_holds(other, loop[0]) for other in loops if other is not loop) for loop in loops]
    areas = [abs(_signed(loop)) for loop in loops]
    return math.fsum(-a if depth % 2 else a for a, depth in zip(areas, depths, strict=True))


def _loops(polygon: Sequence[float]) -> Iterator[list[tuple[float, float]]]:
    """A closed polygon cut where it comes back to a point that it has been at."""
    points = list(zip(polygon[::2], polygon[1::2], strict=True))
    path: list[tuple[float, float]] = []
    places: dict[tuple[float, float], int] = {}
    for point in [*points, points[0]]:
        if point in places:
            loop = path[places[point] :]
            yield loop
            del path[places[point] :]
            for left in loop:
                del places[left]
        places[point] = len(path)
        path.append(point)


def _signed(loop: NDArray[np.float64]) -> float:
    xs, ys = (loop - loop[0]).T
    return float(xs @ np.roll(ys, -1) - ys @ np.roll(xs, -1)) / 2


def _holds(loop: NDArray[np.float64], point: NDArray[np.float64]) -> bool:
    """Whether a ray from the point to the right crosses the loop an odd number of times."""
    (x, y), (xs, ys) = point, loop.T
    ends_x, ends_y = np.roll(xs, -1), np.roll(ys, -1)
    across = (ys > y) != (ends_y > y)
    crossing = xs[across] + (y - ys[across]) * (ends_x - xs)[across] / (ends_y - ys)[across]
    return bool(np.count_nonzero(crossing > x) % 2)


def rectangle(xs: Sequence[float], ys: Sequence[float]) -> Part:
    """Through corners that may come in any order."""
    return Part((min(xs), min(ys), max(xs), max(ys)))


def polygon(points: Sequence[float]) -> Part:
    """``points`` are flat: x, y, x, y."""
    return rectangle(points[::2], points[1::2])._replace(polygons=(list(points),))


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> Part:
    """About (x, y), its axis rx turned by so many degrees clockwise."""
    sides = round(np.clip(math.pi * math.sqrt(max(rx, ry, 0) / (2 * _FLAT)), 12, 1000))
    angles = 2 * np.pi * np.arange(sides) / sides
    return polygon(_turn(rx * np.cos(angles), ry * np.sin(angles), (x, y), degrees))


def turned(box: Sequence[float], degrees: float, about: tuple[float, float]) -> Part:
    """A box (xyxy) turned clockwise about a point: a mere box if it is not turned at all."""
    x1, y1, x2, y2 = map(float, box)
    xs, ys = np.array([x1, x2, x2, x1]), np.array([y1, y1, y2, y2])
    if degrees % 360 == 0:
        return rectangle(xs.tolist(), ys.tolist())
    return polygon(_turn(xs - about[0], ys - about[1], about, degrees))


def _turn(
    xs: NDArray[np.float64], ys: NDArray[np.float64], centre: tuple[float, float], degrees: float
) -> list[float]:
    """Points about a centre, flat. y points down, so a positive angle is clockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned = np.stack([centre[0] + xs * cos - ys * sin, centre[1] + xs * sin + ys * cos], axis=1)
    flat: list[float] = turned.flatten().tolist()
    return flat


def block(pixels: NDArray[np.bool_], corner: tuple[int, int], size: tuple[int, int]) -> Part:
    """A map whose upper left pixel lies at ``corner`` (top, left) of a picture of this height and
    width; what reaches outside is cut off. Without a pixel set, its box is without area."""
    top, left = corner
    inside = pixels[max(-top, 0) : size[0] - top, max(-left, 0) : size[1] - left]
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if len(rows) == 0:
        return Part((0.0, 0.0, 0.0, 0.0))
    counts = runs.compress(runs.of_block(inside, (max(top, 0), max(left, 0)), size))
    y, x = max(top, 0), max(left, 0)
    box = (x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1)
    x1, y1, x2, y2 = map(float, box)
    return Part((x1, y1, x2, y2), counts=counts)


def grouped(
    shapes: Iterable[tuple[int, _Shape]], of: Callable[[_Shape], tuple[str, str | None]]
) -> list[list[tuple[int, _Shape]]]:
    """The numbered shapes that are the parts of one thing, in the order of the first of each: those
    of one label and one group, as ``of`` tells them; each alone where there is no group."""
    groups: dict[tuple[str, str | None, int], list[tuple[int, _Shape]]] = {}
    for number, shape in shapes:
        label, group = of(shape)
        alone = number if group is None else 0
        groups.setdefault((label, group, alone), []).append((number, shape))
    return list(groups.values())


def join(parts: Sequence[Part], size: tuple[int, int]) -> Part:
    """One thing of all the parts, one at least: their polygons together, or, where one has an RLE,
    the RLE of their union. Boxes among them count as full; boxes alone make one box around all."""
    if len(parts) == 1:
        return parts[0]
    shown = [part for part in parts if part.box[2] > part.box[0] and part.box[3] > part.box[1]]
    corners = [part.box for part in shown or parts]
    lows, highs = np.min(corners, axis=0), np.max(corners, axis=0)
    box = (float(lows[0]), float(lows[1]), float(highs[2]), float(highs[3]))
    if not any(part.polygons or part.counts for part in shown):
        return Part(box)
    polygons = [outline for part in shown for outline in _outlines(part)]
    if not any(part.counts for part in shown):
        return Part(box, tuple(polygons))
    shapes: list[Rle | Polygons] = [
        {"size": list(size), "counts": part.counts} for part in shown if part.counts
    ]
    if polygons:
        shapes.append([torch.tensor(p, dtype=torch.float64).view(-1, 2) for p in polygons])
    union = masks.rasterise(shapes, size).any(0)
    return block(union.numpy(), (0, 0), size)._replace(box=box)


def _outlines(part: Part) -> tuple[list[float], ...]:
    """The polygons of a part; a mere box as one."""
    x1, y1, x2, y2 = part.box
    return part.polygons if part.polygons or part.counts else ([x1, y1, x2, y1, x2, y2, x1, y2],)
