"""How the things look: what their materials make of the light of sun, sky and ground."""

from typing import NamedTuple

import numpy as np

from sightline.data.toybox.backdrop import clearness, mean_colour, sky_colour
from sightline.data.toybox.description import Description, Thing
from sightline.data.toybox.shadow import Patch
from sightline.data.toybox.textures import Values
from sightline.data.toybox.vectors import Vector, subtract, unit


class Finish(NamedTuple):
    """A material: shares of the light that it scatters, mirrors and gathers in a highlight."""

    diffuse: float
    mirror: float  # seen straight on
    rim: float  # more mirroring where the surface is seen edge on
    highlight: float
    squarings: int  # the highlight is the cosine squared so many times: sharper
    coloured: float  # 1: what is mirrored takes the thing's colour, 0: it keeps its own


FINISHES = {
    "rubber": Finish(1.0, 0.0, 0.05, 0.10, 3, 0.3),
    "metal": Finish(0.30, 0.75, 0.25, 1.2, 5, 0.85),
    "glazed": Finish(0.90, 0.05, 0.45, 1.0, 7, 0.0),
}


def shade(description: Description, thing: Thing, patch: Patch, lit: Values) -> Values:
    """The linear RGB [3, N] of a thing where it shows; ``lit`` is 1 in the sun, 0 in the shade."""
    finish, light = FINISHES[thing.material], description.light
    normal = _thin(patch.normal)
    view = _thin(unit(subtract(patch.place, description.camera.position)))
    into = sum(n * v for n, v in zip(normal, view, strict=True))  # negative: it faces the camera
    mirrored = [v - 2 * into * n for n, v in zip(normal, view, strict=True)]
    sun = np.maximum(patch.facing, 0.0).astype(np.float32) * lit
    highlight = finish.highlight * _highlight(mirrored, light.towards, finish.squarings) * lit
    edge = 1 + np.minimum(into, np.float32(0))
    edge = edge * edge
    mirror = finish.mirror + finish.rim * edge * edge
    around = _surroundings(description, mirrored)
    up, height = normal[2], np.asarray(patch.place[2], dtype=np.float32) / np.float32(thing.scale)
    sky = 0.5 + 0.5 * up
    near = 1 - 0.5 * (1 - np.minimum(height, np.float32(1))) * (1 - sky)  # the ground's own shade
    round_off = 0.7 - 0.4 * into  # light from all around still shows a form: less of it at its rim
    clear = clearness(patch.depth)
    colours = np.empty((3, len(lit)), dtype=np.float32)
    for i, bounce in enumerate(_bounce(description)):
        tint = thing.tint[i]
        gloss = 1 + (tint - 1) * finish.coloured
        ambient = (light.ambient[i] * sky + bounce * (1 - sky)) * near * round_off
        scattered = tint * finish.diffuse * (ambient + light.sun[i] * sun)
        colours[i] = scattered + gloss * (mirror * around[i] + highlight * light.sun[i])
        haze = description.sky.horizon[i]
        colours[i] = haze + (colours[i] - haze) * clear
    return colours


def _thin(vector: Vector) -> list[Values]:
    return [np.asarray(part, dtype=np.float32) for part in vector]


def _highlight(mirrored: list[Values], sun: Vector, squarings: int) -> Values:
    shine = sum(part * np.float32(towards) for part, towards in zip(mirrored, sun, strict=True))
    shine = np.maximum(shine, np.float32(0))
    for _ in range(squarings):
        shine = shine * shine
    return shine


def _surroundings(description: Description, direction: list[Values]) -> Values:
    """What a mirror shows in some directions: the sky above, the ground's mean colour below."""
    x, y, z = direction
    sky = sky_colour(description.sky, description.light, x, y, np.maximum(z, np.float32(0)))
    share = np.minimum(np.maximum(0.5 + 6 * z, np.float32(0)), np.float32(1))
    ground = np.array(_bounce(description), dtype=np.float32)[:, None]
    return ground + (sky - ground) * share


def _bounce(description: Description) -> list[float]:
    """The light that the ground sends up."""
    light = description.light
    return [
        0.75 * albedo * (ambient + sun * light.towards[2])
        for albedo, ambient, sun in zip(
            mean_colour(description.ground), light.ambient, light.sun, strict=True
        )
    ]
