"""Draws docs/images/fcos.jpg: what FCOS learns from one generated scene.

    python docs/fcos.py

Left, the points that learn a box, in the colour of their level: P3 yellow, P4 orange.
Right, the centreness that they are to say where every point in a box learns: black 0, white 1.
"""

from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from sightline.data.toybox import Toybox
from sightline.draw import to_pillow
from sightline.models.fcos import Points, centreness_of, distances_to, level_ranges, match_points
from sightline.ops.anchors import point_grid
from sightline.types import Instances

HEIGHT, WIDTH, ZOOM = 384, 512, 2
SCENE = 12
STRIDES = (8, 16, 32, 64, 128)
COLOURS = ("#ffe000", "#ff7a1a", "#ff2fa0", "#8a5cff", "#22d3ff")  # P3 to P7


def points_of_levels() -> Points:
    grids = [point_grid((-(-HEIGHT // s), -(-WIDTH // s)), (s, s)) for s in STRIDES]
    each = torch.tensor([len(grid) for grid in grids])
    ranges = torch.tensor(level_ranges(STRIDES))
    strides = torch.tensor(STRIDES).float()
    return Points(
        torch.cat(grids), strides.repeat_interleave(each), ranges.repeat_interleave(each, 0)
    )


def with_boxes(picture: Image.Image, things: Instances) -> Image.Image:
    pen = ImageDraw.Draw(picture)
    for box in (things.boxes * ZOOM).tolist():
        pen.rectangle(box, outline="white", width=2)
    return picture


def dots(picture: Image.Image, points: Points, things: Instances) -> Image.Image:
    """Positive points as large dots, all others as specks."""
    matches = match_points(points, things.boxes, things.ignore, radius=1.5)
    pen = ImageDraw.Draw(picture)
    for (x, y), stride, match in zip(*(v.tolist() for v in points[:2]), matches, strict=True):
        half = 1 + stride / 6 if match >= 0 else 1
        place = (ZOOM * x - half, ZOOM * y - half, ZOOM * x + half, ZOOM * y + half)
        colour = COLOURS[STRIDES.index(int(stride))]
        pen.ellipse(place, fill=colour, outline="black" if match >= 0 else None)
    return picture


def heat(points: Points, things: Instances) -> Image.Image:
    """A square the size of its cell for each point in a box, as bright as its centreness; those of
    fine levels over those of coarse ones."""
    matches = match_points(points, things.boxes, things.ignore, radius=0)
    positive = (matches >= 0).nonzero().flatten().flip(0)
    places, strides = points.places[positive], points.strides[positive]
    goals: Tensor = centreness_of(distances_to(things.boxes[matches[positive]], places))
    picture = Image.new("RGB", (WIDTH * ZOOM, HEIGHT * ZOOM), "#303a48")
    pen = ImageDraw.Draw(picture)
    for (x, y), stride, goal in zip(places.tolist(), strides.tolist(), goals.tolist(), strict=True):
        low, high = (x - stride / 2, y - stride / 2), (x + stride / 2 - 1, y + stride / 2 - 1)
        shade = round(255 * goal)
        square = [ZOOM * side for side in (*low, *high)]
        pen.rectangle(square, fill=(shade, shade, shade))
    return picture


def main() -> None:
    data = Toybox(SCENE + 1, size=(HEIGHT, WIDTH), things=(5, 8))
    picture, things, points = data.picture(SCENE), data.scene(SCENE).things, points_of_levels()
    photo = to_pillow(picture).resize((WIDTH * ZOOM, HEIGHT * ZOOM), Image.Resampling.BICUBIC)
    sheet = Image.new("RGB", (2 * WIDTH * ZOOM + 16, HEIGHT * ZOOM), "white")
    sheet.paste(dots(with_boxes(photo, things), points, things), (0, 0))
    sheet.paste(with_boxes(heat(points, things), things), (WIDTH * ZOOM + 16, 0))
    sheet.resize((sheet.width // 2, sheet.height // 2), Image.Resampling.LANCZOS).save(
        Path(__file__).parent / "images" / "fcos.jpg", quality=90
    )


main()
