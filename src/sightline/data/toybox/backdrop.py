"""What lies behind the things: the ground in full light, and the sky.

The camera has no roll, so all pixels of a row see the ground, and the clouds, at one depth.
"""

import numpy as np
from numpy.typing import NDArray

from sightline.data.toybox.camera import Camera, centres
from sightline.data.toybox.description import Description, Ground, Light, Sky
from sightline.data.toybox.textures import SIDE, TILE, Values, look_up, texture
from sightline.data.toybox.vectors import Array, Point

HAZE = 1 / 100.0  # half of the light from so far off is lost (see ``clearness``)
FAR = 400.0  # a place further off than this many units looks as if it were this far
CLOUD_TILES = 0.12  # height of the clouds over the camera, in tiles of their texture


def backdrop(description: Description) -> Values:
    """The picture [3, H, W], linear RGB, as it would be without any thing."""
    camera = description.camera
    height, width = camera.size
    y = centres(height)
    first = int((y <= camera.horizon).sum())  # the ground's first row
    colours = np.empty((3, height, width), dtype=np.float32)
    colours[:, :first] = _sky_rows(camera, description.sky, description.light, y[:first])
    _ground_rows(description, y[first:], colours[:, first:])
    return colours


def clearness(depth: Array) -> Values:
    """The share of light from some depth that haze lets through."""
    far = depth.astype(np.float32) * np.float32(HAZE)
    return np.reciprocal(1 + far * far)


def mean_colour(ground: Ground) -> Point:
    """The ground's albedo, averaged."""
    mix = texture(ground.kind).mean
    red, green, blue = (
        dark + (bright - dark) * mix
        for dark, bright in zip(ground.dark, ground.bright, strict=True)
    )
    return red, green, blue


def sky_colour(sky: Sky, light: Light, x: Values, y: Values, z: Values) -> Values:
    """The cloudless sky in unit directions, z up and at least 0: [3, ...]."""
    up = np.minimum(z * np.float32(2.4), np.float32(1))
    up = up * (2 - up)
    sun = light.towards
    glow = x * np.float32(sun[0]) + y * np.float32(sun[1]) + z * np.float32(sun[2])
    glow = np.maximum(glow, np.float32(0))
    glow = glow * glow * glow
    colours = np.empty((3, *z.shape), dtype=np.float32)
    for i in range(3):
        low, high, more = sky.horizon[i], sky.zenith[i], sky.glow[i]
        colours[i] = np.float32(low) + np.float32(high - low) * up + np.float32(more) * glow
    return colours


def _ground_rows(description: Description, y: Array, colours: Values) -> None:
    camera, ground, light = description.camera, description.ground, description.light
    depth = np.minimum(camera.ground_depth(y), FAR)
    u, v = _on_plane(camera, y, depth, 1 / TILE, ground.turn, ground.shift)
    # A pixel covers depth / focal across, and depth / height times that along the ground.
    stretch = np.sqrt(np.maximum(depth / camera.position[2], 1.0))
    covered = depth / camera.focal * stretch * np.sqrt(stretch)
    mix = look_up(texture(ground.kind), u, v, _level(covered * (SIDE / TILE)))
    clear = clearness(depth)[:, None]
    for i in range(3):
        full = np.float32(light.sun[i] * light.towards[2] + light.ambient[i]) * clear
        dark, bright = np.float32(ground.dark[i]), np.float32(ground.bright[i])
        haze = np.float32(description.sky.horizon[i]) * (1 - clear)
        row = colours[i]
        np.multiply(mix, (bright - dark) * full, out=row)
        np.add(row, dark * full + haze, out=row)
        np.maximum(row, haze, out=row)  # joints are darker than dark, but not than black


def _sky_rows(camera: Camera, sky: Sky, light: Light, y: Array) -> Values:
    across, along = camera.slopes(centres(camera.size[1]), y)
    right, down, forward = camera.axes
    scale = (1 / np.sqrt(1 + along[:, None] ** 2 + across**2)).astype(np.float32)
    direction = [
        (forward[i] + along[:, None] * down[i] + across * right[i]).astype(np.float32) * scale
        for i in range(3)
    ]
    colours = sky_colour(sky, light, *direction)
    rise = np.maximum(forward[2] + along * down[2], 1e-4)
    depth = np.minimum(CLOUD_TILES / rise, FAR)
    u, v = _on_plane(camera, y, depth, 1.0, (1.0, 0.0), sky.shift)
    stretch = np.sqrt(np.maximum(depth / CLOUD_TILES, 1.0))
    mix = look_up(texture("clouds"), u, v, _level(depth / camera.focal * stretch * SIDE))
    low = np.float32(0.85 - 0.75 * sky.cover)
    thick = np.minimum(np.maximum((mix - low) / np.float32(0.3), np.float32(0)), np.float32(1))
    fade = np.minimum(rise * 9, 1.0).astype(np.float32)[:, None]
    for i in range(3):
        colours[i] += (np.float32(sky.clouds[i]) - colours[i]) * (thick * fade)
    return colours


def _on_plane(
    camera: Camera,
    y: Array,
    depth: Array,
    scale: float,
    turn: tuple[float, float],
    shift: tuple[float, float],
) -> tuple[Values, Values]:
    """Texture coordinates [rows, columns], in tiles, of a level plane at a depth for each row."""
    across, along = camera.slopes(centres(camera.size[1]), y)
    right, down, forward = camera.axes
    middle = [(forward[i] + along * down[i]) * depth + camera.position[i] for i in (0, 1)]
    step = [right[i] * depth for i in (0, 1)]
    columns = across.astype(np.float32)
    coordinates = []
    for (cosine, sine), moved in zip((turn, (-turn[1], turn[0])), shift, strict=True):
        start = (middle[0] * cosine + middle[1] * sine) * scale + moved
        slope = (step[0] * cosine + step[1] * sine) * scale
        coordinates.append(
            start.astype(np.float32)[:, None] + slope.astype(np.float32)[:, None] * columns
        )
    return coordinates[0], coordinates[1]


def _level(texels: Array) -> NDArray[np.intp]:
    """The mip level whose texels are about as large as so many of the finest; by comparison, since
    a logarithm is not the same everywhere."""
    return np.searchsorted(1.9 * 2.0 ** np.arange(9), texels)
