"""The colours of grounds, skies and light, in linear RGB."""

from typing import NamedTuple

from sightline.data.toybox.vectors import Point

# Each kind of ground mixes two colours; a scene takes one of its pairs.
GROUND_COLOURS: dict[str, tuple[tuple[Point, Point], ...]] = {
    "checker": (
        ((0.10, 0.11, 0.13), (0.62, 0.61, 0.58)),
        ((0.25, 0.08, 0.06), (0.66, 0.58, 0.48)),
        ((0.07, 0.14, 0.22), (0.58, 0.62, 0.66)),
        ((0.09, 0.17, 0.13), (0.60, 0.62, 0.54)),
    ),
    "planks": (
        ((0.24, 0.12, 0.05), (0.46, 0.27, 0.13)),
        ((0.13, 0.07, 0.04), (0.27, 0.15, 0.08)),
        ((0.36, 0.26, 0.16), (0.60, 0.46, 0.30)),
    ),
    "sand": (
        ((0.50, 0.36, 0.20), (0.72, 0.57, 0.36)),
        ((0.56, 0.48, 0.36), (0.78, 0.71, 0.58)),
    ),
    "grass": (
        ((0.035, 0.11, 0.02), (0.15, 0.29, 0.05)),
        ((0.07, 0.12, 0.02), (0.27, 0.31, 0.08)),
    ),
    "cobbles": (
        ((0.13, 0.13, 0.14), (0.36, 0.35, 0.33)),
        ((0.17, 0.12, 0.10), (0.42, 0.32, 0.26)),
    ),
}


class Weather(NamedTuple):
    """A kind of sky and the light that comes from it; ranges are (least, most)."""

    zenith: Point
    horizon: Point
    glow: Point  # added around the sun
    clouds: Point
    cover: tuple[float, float]  # share of the sky behind clouds
    sun: Point
    ambient: Point
    elevation: tuple[float, float]  # sine of the sun's height above the horizon


WEATHER: dict[str, Weather] = {
    "clear": Weather(
        zenith=(0.08, 0.22, 0.62),
        horizon=(0.56, 0.71, 0.88),
        glow=(0.20, 0.18, 0.12),
        clouds=(0.95, 0.96, 0.98),
        cover=(0.05, 0.15),
        sun=(1.55, 1.45, 1.25),
        ambient=(0.30, 0.37, 0.50),
        elevation=(0.45, 0.85),
    ),
    "cloudy": Weather(
        zenith=(0.09, 0.23, 0.58),
        horizon=(0.62, 0.72, 0.82),
        glow=(0.16, 0.15, 0.12),
        clouds=(0.92, 0.93, 0.95),
        cover=(0.45, 0.60),
        sun=(1.25, 1.20, 1.10),
        ambient=(0.40, 0.46, 0.54),
        elevation=(0.45, 0.85),
    ),
    "overcast": Weather(
        zenith=(0.36, 0.39, 0.43),
        horizon=(0.62, 0.64, 0.66),
        glow=(0.05, 0.05, 0.05),
        clouds=(0.50, 0.52, 0.54),
        cover=(0.75, 0.90),
        sun=(0.42, 0.42, 0.41),
        ambient=(0.66, 0.69, 0.72),
        elevation=(0.60, 0.90),
    ),
    "sunset": Weather(
        zenith=(0.12, 0.14, 0.36),
        horizon=(0.88, 0.42, 0.22),
        glow=(0.55, 0.24, 0.05),
        clouds=(0.85, 0.38, 0.28),
        cover=(0.30, 0.50),
        sun=(1.55, 0.86, 0.42),
        ambient=(0.30, 0.27, 0.40),
        elevation=(0.30, 0.45),
    ),
}
