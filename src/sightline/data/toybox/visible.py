"""Which thing each point of the picture shows, and how far away that is."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.data.toybox.camera import Camera, Dots, Pixels, Rectangle
from sightline.data.toybox.description import Thing
from sightline.data.toybox.outline import Outline
from sightline.data.toybox.solids import SOLIDS
from sightline.data.toybox.vectors import Array, Vector, add, into, subtract, times

GROUND, SKY = -1, -2  # what a point shows where it shows no thing


class Seen(NamedTuple):
    """For each point: the thing it shows (its index, or GROUND or SKY), and the depth of that
    thing, infinite where there is none."""

    what: NDArray[np.int16]
    depth: Array


def look(
    camera: Camera, things: tuple[Thing, ...], outlines: list[Outline], points: Pixels | Dots
) -> Seen:
    """Cast a ray through each point, at each thing only inside the rectangle of its outline."""
    what = np.where(points.y > camera.horizon, np.int16(GROUND), np.int16(SKY))
    depth = np.full(len(what), np.inf)
    for number, (thing, outline) in enumerate(zip(things, outlines, strict=True)):
        rows = points.inside(rectangle(outline))
        rays = camera.rays(points.x[rows], points.y[rows])
        distance = SOLIDS[thing.shape].hit(*into_thing(thing, camera.position, rays))
        nearer = distance < depth[rows]
        rows = rows[nearer]
        depth[rows] = distance[nearer]
        what[rows] = number  # whatever is hit is above the ground, so in front of it
    return Seen(what, depth)


def rectangle(outline: Outline) -> Rectangle:
    """Around the extreme points of an outline, with half a pixel to spare."""
    left, top, right, bottom = outline
    return left[0] - 0.5, top[1] - 0.5, right[0] + 0.5, bottom[1] + 0.5


def into_thing(thing: Thing, origin: Vector, direction: Vector) -> tuple[Vector, Vector]:
    """A ray in the thing's own coordinates, where distances along it stay what they are."""
    shrink = 1 / thing.scale
    moved = into(subtract(origin, thing.centre), thing.axes)
    return times(moved, shrink), times(into(direction, thing.axes), shrink)


def on_ground(camera: Camera, points: Pixels | Dots, rows: NDArray[np.intp]) -> Vector:
    """The world points where some points of the picture show the ground."""
    x, y = points.x[rows], points.y[rows]
    return add(camera.position, times(camera.rays(x, y), camera.ground_depth(y)))
