"""Where the sun does not reach, by rays towards it, and where less of the sky does."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.data.toybox.camera import Camera, Dots, Pixels, Rectangle
from sightline.data.toybox.description import Description, Thing
from sightline.data.toybox.outline import Outline
from sightline.data.toybox.solids import SOLIDS
from sightline.data.toybox.vectors import (
    Array,
    Vector,
    add,
    dot,
    into,
    out_of,
    pick,
    subtract,
    times,
)
from sightline.data.toybox.visible import GROUND, Seen, into_thing, on_ground, rectangle

LIFT = 1e-6  # a shadow ray starts this far off its surface, in world units
REACH = 3.0  # a thing darkens the ground around it up to so many radii


class Patch(NamedTuple):
    """The points of the picture that show one thing."""

    rows: NDArray[np.intp]
    place: Vector  # in the world
    depth: Array  # in front of the camera
    normal: Vector
    facing: Array  # cosine of the angle to the sun; below 0 it faces away


def patches(
    description: Description, outlines: list[Outline], points: Pixels | Dots, seen: Seen
) -> list[Patch]:
    """One for each thing, empty where it shows nowhere."""
    camera, found = description.camera, []
    for number, (thing, outline) in enumerate(zip(description.things, outlines, strict=True)):
        rows = points.inside(rectangle(outline))
        rows = rows[seen.what[rows] == number]
        depth, rays = seen.depth[rows], camera.rays(points.x[rows], points.y[rows])
        place = add(camera.position, times(rays, depth))
        local = times(into(subtract(place, thing.centre), thing.axes), 1 / thing.scale)
        normal = out_of(SOLIDS[thing.shape].normal(local), thing.axes)
        facing = np.asarray(dot(normal, description.light.towards))
        found.append(Patch(rows, place, depth, normal, facing))
    return found


def sunlit(
    description: Description, points: Pixels | Dots, seen: Seen, shown: list[Patch]
) -> NDArray[np.float32]:
    """1 where the sun reaches the ground or a thing, 0 where something is in between."""
    lit = np.ones(len(points.x), dtype=np.float32)
    sun = description.light.towards
    for caster in description.things:
        rows = points.inside(_shadow_rectangle(description.camera, caster, sun))
        rows = rows[seen.what[rows] == GROUND]
        _cast(caster, sun, on_ground(description.camera, points, rows), rows, lit)
        for receiver, patch in zip(description.things, shown, strict=True):
            if not _may_shade(caster, receiver, sun):
                continue
            bright = np.flatnonzero(patch.facing > 0)
            place = add(pick(patch.place, bright), times(pick(patch.normal, bright), LIFT))
            _cast(caster, sun, place, patch.rows[bright], lit)
    return lit


def sky_open(description: Description, points: Pixels | Dots, seen: Seen) -> NDArray[np.float32]:
    """The share of the sky's light that reaches the ground, things taken for balls: one of radius r
    at distance d hides (r / d)^2 of it, times the cosine of its angle to the vertical."""
    share = np.ones(len(points.x), dtype=np.float32)
    for thing in description.things:
        radius = 0.8 * thing.scale
        rows = points.inside(_ground_rectangle(description.camera, thing, REACH * radius))
        rows = rows[seen.what[rows] == GROUND]
        x, y, _ = subtract(on_ground(description.camera, points, rows), thing.centre)
        height = thing.centre[2]
        squared = x * x + y * y + height * height
        hidden = height * radius * radius / (squared * np.sqrt(squared))
        fade = np.maximum(1 - squared / (REACH * radius) ** 2, 0.0)
        share[rows] *= (1 - np.minimum(hidden * fade, 0.8)).astype(np.float32)
    return share


def _cast(
    caster: Thing,
    sun: Vector,
    place: Vector,
    rows: NDArray[np.intp],
    lit: NDArray[np.float32],
) -> None:
    if len(rows) == 0:
        return
    origin, direction = into_thing(caster, place, sun)
    lit[rows[SOLIDS[caster.shape].blocks(origin, direction)]] = 0


def _may_shade(caster: Thing, receiver: Thing, sun: Vector) -> bool:
    """Whether a caster's ball comes between the sun and the receiver's ball; a convex solid does
    not shade itself, since what it turns away from the sun is dark anyway."""
    solid = SOLIDS[caster.shape]
    if caster is receiver:
        return not solid.convex
    between = subtract(caster.centre, receiver.centre)
    along = dot(between, sun)
    aside = dot(between, between) - along * along
    room = caster.scale * solid.radius + receiver.scale * SOLIDS[receiver.shape].radius
    return bool(along > -room and aside < room * room)


def _shadow_rectangle(camera: Camera, caster: Thing, sun: Vector) -> Rectangle:
    """Around the part of the ground that the caster's ball shades."""
    radius = caster.scale * SOLIDS[caster.shape].radius
    height = caster.centre[2]
    x, y = (caster.centre[i] - sun[i] / sun[2] * height for i in (0, 1))
    # The ball's shadow is an ellipse, longest along the sun's direction: radius / sin(elevation).
    long = radius / sun[2]
    reach = [
        float(np.sqrt(radius * radius + (long * long - radius * radius) * _share(sun, i)))
        for i in (0, 1)
    ]
    return _seen_rectangle(camera, (float(x), float(y)), (reach[0], reach[1]))


def _share(sun: Vector, axis: int) -> float:
    return float(sun[axis] ** 2 / (sun[0] ** 2 + sun[1] ** 2 + 1e-12))


def _ground_rectangle(camera: Camera, thing: Thing, reach: float) -> Rectangle:
    return _seen_rectangle(camera, (thing.centre[0], thing.centre[1]), (reach, reach))


def _seen_rectangle(
    camera: Camera, middle: tuple[float, float], reach: tuple[float, float]
) -> Rectangle:
    """Around the image of a rectangle on the ground; all of the picture where it comes too near."""
    corners = [
        camera.project((middle[0] + right * reach[0], middle[1] + away * reach[1], 0.0))
        for right in (-1, 1)
        for away in (-1, 1)
    ]
    if min(depth for _, _, depth in corners) < 0.1:
        height, width = camera.size
        return 0.0, 0.0, float(width), float(height)
    x, y = [float(corner[0]) for corner in corners], [float(corner[1]) for corner in corners]
    return min(x), min(y), max(x), max(y)
