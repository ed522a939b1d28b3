"""From (seed, index) to a scene's description."""

import math

import numpy as np

from sightline.data.toybox.camera import Camera
from sightline.data.toybox.description import (
    COLOURS,
    GROUNDS,
    MATERIALS,
    SHAPES,
    SIZES,
    SKIES,
    Description,
    Ground,
    Light,
    Sky,
    Thing,
)
from sightline.data.toybox.draws import Draws
from sightline.data.toybox.palettes import GROUND_COLOURS, WEATHER
from sightline.data.toybox.solids import (
    CONE_HALF,
    CONE_RADIUS,
    CUBE_HALF,
    CYLINDER_HALF,
    CYLINDER_RADIUS,
    SOLIDS,
)
from sightline.data.toybox.torus import RING, TUBE
from sightline.data.toybox.vectors import Axes, Point

TRIES = 40  # places tried for a thing before it is left out
FARTHEST = 14.0  # depth in world units of the farthest thing, unless the camera is farther off
GAP = 0.15  # least distance between two things' balls, as a share of their radii
RESTING = {  # height of the centre, for scale 1, of a solid that stands on its base (or lies flat)
    "cube": CUBE_HALF,
    "sphere": 1.0,
    "cylinder": CYLINDER_HALF,
    "cone": CONE_HALF,
    "torus": TUBE,
}


def compose(seed: int, index: int, size: tuple[int, int], things: tuple[int, int]) -> Description:
    """The scene that belongs to (seed, index), for a picture of height and width ``size`` with
    ``things`` = least and most solids. Those that hide behind others or find no room are left out
    later or now, so there may be fewer."""
    draws = Draws(seed, index)
    camera = _camera(draws, size)
    ground, (sky, light) = _ground(draws), _sky(draws)
    count = draws.integer(*things)
    placed: list[Thing] = []
    for _ in range(count):
        thing = _thing(draws, camera, placed)
        if thing is not None:
            placed.append(thing)
    return Description(seed, index, camera, ground, sky, light, tuple(placed))


def _camera(draws: Draws, size: tuple[int, int]) -> Camera:
    """Above the ground, looking along y and down; the horizon is in the upper third of most
    pictures and beyond the edge of the others."""
    focal = draws.uniform(1.15, 1.5) * max(size)
    above = draws.chance(0.08)
    horizon = draws.uniform(-0.25, -0.08) if above else draws.uniform(0.10, 0.32)
    down = (0.5 - horizon) * size[0] / focal
    length = math.sqrt(1 + down * down)
    sine, cosine = down / length, 1 / length
    axes = ((1.0, 0.0, 0.0), (0.0, -sine, -cosine), (0.0, cosine, -sine))
    height = draws.uniform(2.4, 4.2)
    return Camera(size, (0.0, 0.0, height), axes, focal)


def _ground(draws: Draws) -> Ground:
    kind = draws.choice(GROUNDS)
    dark, bright = draws.choice(GROUND_COLOURS[kind])
    brightness = draws.uniform(0.85, 1.1)
    return Ground(
        kind=kind,
        dark=_scaled(dark, brightness),
        bright=_scaled(bright, brightness),
        turn=draws.direction(),
        shift=(draws.uniform(), draws.uniform()),
    )


def _sky(draws: Draws) -> tuple[Sky, Light]:
    kind = draws.choice(SKIES)
    weather = WEATHER[kind]
    cover = draws.uniform(*weather.cover)
    shift = (draws.uniform(), draws.uniform())
    sky = Sky(kind, weather.zenith, weather.horizon, weather.glow, weather.clouds, cover, shift)
    return sky, Light(_towards(draws, *weather.elevation), weather.sun, weather.ambient)


def _towards(draws: Draws, low: float, high: float) -> Point:
    """To the sun, with a sine of its elevation in low..high and a random azimuth."""
    sine = draws.uniform(low, high)
    x, y = draws.direction()
    flat = math.sqrt(1 - sine * sine)
    return x * flat, y * flat, sine


def _thing(draws: Draws, camera: Camera, others: list[Thing]) -> Thing | None:
    """A solid at a free place in view; None where no place was found."""
    shape, size = draws.choice(SHAPES), draws.choice(tuple(SIZES))
    colour, material = draws.choice(tuple(COLOURS)), draws.choice(MATERIALS)
    scale = SIZES[size] * draws.uniform(0.92, 1.08)
    shade = draws.uniform(0.85, 1.12)
    red, green, blue = (shade * linear(value) for value in COLOURS[colour])
    pose, height, axes = _pose(draws, shape)
    for _ in range(TRIES):
        x, y = _place(draws, camera)
        centre = (x, y, height * scale)
        if _free(centre, scale * SOLIDS[shape].radius, others):
            return Thing(
                shape, colour, material, size, scale, pose, centre, axes, (red, green, blue)
            )
    return None


def _place(draws: Draws, camera: Camera) -> tuple[float, float]:
    """A spot on the ground in view: uniform in the picture across, and nearly so down."""
    height, width = camera.size
    rows = np.array([0.92 * height, max(0.0, camera.horizon) + 0.14 * height])
    near, far = camera.ground_depth(rows).tolist()
    depth = 1 / draws.uniform(1 / max(min(far, FARTHEST), 1.5 * near), 1 / near)
    across = draws.uniform(-0.45, 0.45) * width / camera.focal
    _, down, forward = camera.axes
    along = (camera.position[2] / depth + forward[2]) / -down[2]
    return across * depth, (forward[1] + along * down[1]) * depth


def _free(centre: Point, radius: float, others: list[Thing]) -> bool:
    for other in others:
        x, y = centre[0] - other.centre[0], centre[1] - other.centre[1]
        room = (radius + other.scale * SOLIDS[other.shape].radius) * (1 + GAP)
        if x * x + y * y < room * room:
            return False
    return True


def _pose(draws: Draws, shape: str) -> tuple[str, float, Axes]:
    """How a solid rests: its pose, the height of its centre for scale 1, its axes in the world."""
    x, y = draws.direction()
    turned = shape in ("cylinder", "cone", "torus") and draws.chance(0.35)
    if not turned:
        axes = ((x, y, 0.0), (-y, x, 0.0), (0.0, 0.0, 1.0))
        return "lying" if shape == "torus" else "upright", RESTING[shape], axes
    level = (-y, x, 0.0)
    if shape == "cone":  # on its side: its axis falls towards the apex
        side = math.sqrt(CONE_RADIUS * CONE_RADIUS + 4 * CONE_HALF * CONE_HALF)
        fall, out = CONE_RADIUS / side, 2 * CONE_HALF / side
        return "lying", CONE_HALF * fall, _around((out * x, out * y, -fall), level)
    if shape == "cylinder":
        return "lying", CYLINDER_RADIUS, _around((x, y, 0.0), level)
    return "upright", RING + TUBE, _around((x, y, 0.0), level)


def _around(axis: Point, level: Point) -> Axes:
    """The solid's x, y, z in the world, its z along ``axis`` and its x along ``level``."""
    y = (
        axis[1] * level[2] - axis[2] * level[1],
        axis[2] * level[0] - axis[0] * level[2],
        axis[0] * level[1] - axis[1] * level[0],
    )
    return level, y, axis


def _scaled(colour: Point, factor: float) -> Point:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def linear(value: float) -> float:
    """sRGB in 0..1 to linear light."""
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
