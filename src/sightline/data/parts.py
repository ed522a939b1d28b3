"""Shapes as labelling tools draw them, and several of them as the parts of one thing."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.data import runs
from sightline.ops import masks
from sightline.types import Polygons, Rle

_FLAT = 0.05  # pixels by which the sides of a polygon may miss the arc of an ellipse


class Part(NamedTuple):
    """A thing or a part of one: a mere box, or with polygons, or with an RLE's counts."""

    box: tuple[float, float, float, float]  # xyxy
    polygons: tuple[list[float], ...] = ()  # flat: x, y, x, y
    counts: bytes = b""
    area: float | None = None  # of the mask


def rectangle(xs: Sequence[float], ys: Sequence[float]) -> Part:
    """Through corners that may come in any order."""
    return Part((min(xs), min(ys), max(xs), max(ys)))


def polygon(points: Sequence[float]) -> Part:
    """``points`` are flat: x, y, x, y."""
    xs, ys = np.array(points[::2]), np.array(points[1::2])
    area = abs(float(xs @ np.roll(ys, -1) - ys @ np.roll(xs, -1))) / 2
    return rectangle(xs.tolist(), ys.tolist())._replace(polygons=(list(points),), area=area)


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
    return Part((x1, y1, x2, y2), counts=counts, area=float(inside.sum()))


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
        areas = [_area(part) for part in shown]
        return Part(box, tuple(polygons), area=sum(areas))
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


def _area(part: Part) -> float:
    x1, y1, x2, y2 = part.box
    return (x2 - x1) * (y2 - y1) if part.area is None else part.area
