"""What a scene is, in plain values, before anything is drawn.

The world is measured in units about as long as a large thing is high: x to the right, y away from
the camera, z up, the ground at z = 0. Everything the picture and its labels say follows from this
description, so sentences, meshes or another renderer can start from it too.
"""

from dataclasses import dataclass

from sightline.data.toybox.camera import Camera
from sightline.data.toybox.vectors import Axes, Point

SHAPES = ("cube", "sphere", "cylinder", "cone", "torus")
MATERIALS = ("rubber", "metal", "glazed")
SIZES = {"small": 0.42, "medium": 0.6, "large": 0.85}  # half a cube's side is 0.8 of it
COLOURS: dict[str, Point] = {  # sRGB in 0..1
    "grey": (0.48, 0.48, 0.49),
    "red": (0.76, 0.13, 0.13),
    "orange": (0.93, 0.48, 0.10),
    "yellow": (0.95, 0.80, 0.16),
    "green": (0.13, 0.52, 0.20),
    "cyan": (0.14, 0.66, 0.68),
    "blue": (0.13, 0.28, 0.76),
    "purple": (0.46, 0.18, 0.62),
    "brown": (0.42, 0.26, 0.14),
}
GROUNDS = ("checker", "planks", "sand", "grass", "cobbles")
SKIES = ("clear", "cloudy", "overcast", "sunset")


@dataclass(frozen=True)
class Thing:
    """One solid. A point of its own coordinates (see ``solids``) is in the world at
    ``centre + scale * (x * axes[0] + y * axes[1] + z * axes[2])``."""

    shape: str
    colour: str
    material: str
    size: str
    scale: float  # world units for one unit of the solid's own coordinates
    pose: str  # how it rests: "upright" (a torus on its rim) or "lying" (a torus flat)
    centre: Point
    axes: Axes  # its own x, y, z in the world
    tint: Point  # linear RGB: the named colour, slightly varied


@dataclass(frozen=True)
class Ground:
    """A textured plane."""

    kind: str
    dark: Point  # the two linear RGB colours that its texture mixes
    bright: Point
    turn: tuple[float, float]  # cosine and sine of the texture's direction
    shift: tuple[float, float]  # in tiles


@dataclass(frozen=True)
class Sky:
    """Colours are linear RGB."""

    kind: str
    zenith: Point
    horizon: Point
    glow: Point  # added around the sun
    clouds: Point
    cover: float  # share of the sky that clouds hide, 0..1
    shift: tuple[float, float]  # of the clouds' texture, in tiles


@dataclass(frozen=True)
class Light:
    """Sunlight from one direction, and light from the whole sky."""

    towards: Point  # unit vector to the sun
    sun: Point  # linear RGB
    ambient: Point  # linear RGB, on a surface that faces up


@dataclass(frozen=True)
class Description:
    """A scene: same seed and index, same description."""

    seed: int
    index: int
    camera: Camera
    ground: Ground
    sky: Sky
    light: Light
    things: tuple[Thing, ...]
