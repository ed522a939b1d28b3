"""From a description and what each pixel shows to a picture."""

import numpy as np
from numpy.typing import NDArray

from sightline.data.toybox.backdrop import backdrop, clearness
from sightline.data.toybox.camera import Dots, Pixels, pixels
from sightline.data.toybox.description import Description
from sightline.data.toybox.materials import shade
from sightline.data.toybox.outline import Outline
from sightline.data.toybox.shadow import patches, sky_open, sunlit
from sightline.data.toybox.textures import Values
from sightline.data.toybox.visible import Seen, look

# Where inside a pixel the smoother looks again: a turned square, no two in one row or column.
OFFSETS = ((-0.125, -0.375), (0.375, -0.125), (-0.375, 0.125), (0.125, 0.375))
CONTRAST = 0.12  # of direct light between neighbours, from which on their border is smoothed
LEVELS = 4096  # steps of linear light that become bytes by a table
BRIGHTEST = 2.0  # linear light that becomes white


def render(description: Description, outlines: list[Outline], seen: Seen) -> NDArray[np.uint8]:
    """RGB bytes [3, H, W]. ``seen`` is what every pixel's centre shows."""
    height, width = description.camera.size
    behind = backdrop(description).reshape(3, -1)
    colours, light = paint(description, outlines, pixels(description.camera.size), seen, behind)
    edges = _edges(seen.what.reshape(height, width), light.reshape(height, width))
    colours[:, edges] = _smooth(description, outlines, edges, behind[:, edges])
    return _to_bytes(colours).reshape(3, height, width)


def paint(
    description: Description,
    outlines: list[Outline],
    points: Pixels | Dots,
    seen: Seen,
    behind: Values,
) -> tuple[Values, Values]:
    """Linear RGB [3, N] of points of the picture, and the direct light [N] on what they show.

    ``behind`` [3, N] is what the backdrop has there.
    """
    shown = patches(description, outlines, points, seen)
    lit = sunlit(description, points, seen, shown)
    colours = behind.copy()
    _darken(description, points, lit, sky_open(description, points, seen), colours)
    for thing, patch in zip(description.things, shown, strict=True):
        colours[:, patch.rows] = shade(description, thing, patch, lit[patch.rows])
        lit[patch.rows] *= np.maximum(patch.facing, 0.0).astype(np.float32)
    return colours, lit


def _darken(
    description: Description, points: Pixels | Dots, lit: Values, share: Values, colours: Values
) -> None:
    """Take from the ground, in place, the light of sun and sky that does not reach it."""
    rows = np.flatnonzero((lit < 1) | (share < 1))
    lit, share = lit[rows], share[rows]
    hazy = 1 - clearness(description.camera.ground_depth(points.y[rows]))
    light = description.light
    for i in range(3):
        sun, ambient = light.sun[i] * light.towards[2], light.ambient[i]
        left = lit * np.float32(sun / (sun + ambient)) + share * np.float32(
            ambient / (sun + ambient)
        )
        haze = np.float32(description.sky.horizon[i]) * hazy
        colours[i, rows] = (colours[i, rows] - haze) * left + haze


def _edges(what: NDArray[np.int16], light: Values) -> NDArray[np.intp]:
    """Pixels that differ from a neighbour in what they show or in how bright the sun is on it."""
    edge = np.zeros(what.shape, dtype=bool)
    for one, other in (
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
    ):
        differs = (what[one] != what[other]) | (np.abs(light[one] - light[other]) > CONTRAST)
        edge[one] |= differs
        edge[other] |= differs
    return np.flatnonzero(edge)


def _smooth(
    description: Description, outlines: list[Outline], edges: NDArray[np.intp], behind: Values
) -> Values:
    """The mean of a few looks into each of the pixels."""
    width = description.camera.size[1]
    x, y = edges % width + 0.5, edges // width + 0.5
    dots = Dots(
        np.concatenate([x + right for right, _ in OFFSETS]),
        np.concatenate([y + down for _, down in OFFSETS]),
    )
    seen = look(description.camera, description.things, outlines, dots)
    behind = np.tile(behind, len(OFFSETS))
    colours, _ = paint(description, outlines, dots, seen, behind)
    return colours.reshape(3, len(OFFSETS), -1).mean(axis=1)


def _to_bytes(colours: Values) -> NDArray[np.uint8]:
    steps = np.minimum(np.maximum(colours, 0), np.float32(BRIGHTEST)) * np.float32(
        (LEVELS - 1) / BRIGHTEST
    )
    return TONES[steps.astype(np.uint16)]


def _tones() -> NDArray[np.uint8]:
    """sRGB bytes of linear light in 0..BRIGHTEST: what is brighter than 0.7 is compressed."""
    light = np.arange(LEVELS) * (BRIGHTEST / (LEVELS - 1))
    knee, room = 0.7, BRIGHTEST - 0.7
    above = np.maximum(light - knee, 0.0) / room
    light = np.minimum(light, knee) + (1 - knee) * above * (2 - above)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255 * srgb).astype(np.uint8)


TONES = _tones()
