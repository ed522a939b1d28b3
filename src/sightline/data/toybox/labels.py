"""All that is known of a scene, from what each pixel shows."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.data import runs
from sightline.data.toybox.camera import Camera
from sightline.data.toybox.description import GROUNDS, SHAPES, SKIES, Description, Thing
from sightline.data.toybox.outline import Outline
from sightline.data.toybox.visible import GROUND, SKY, Seen
from sightline.types import Classes, Instances, Panoptic, Rle, Scene, Segment

FINEST = 64  # keypoints are given to one part in so many of a pixel

CLASSES = Classes(
    names=SHAPES,
    stuff=(*GROUNDS, *(f"{kind} sky" for kind in SKIES)),
    keypoints=("top", "left", "right", "bottom", "centre"),
    mirrored=(0, 2, 1, 3, 4),
    skeleton=((4, 0), (4, 1), (4, 2), (4, 3)),
)


def label(description: Description, outlines: list[Outline], seen: Seen) -> Scene:
    """Every thing must show in one pixel at least."""
    size = description.camera.size
    what = seen.what.reshape(size)
    things = description.things
    found = [_extent(what, number) for number in range(len(things))]
    keypoints = [
        _keypoints(description.camera, thing, outline, number, seen)
        for number, (thing, outline) in enumerate(zip(things, outlines, strict=True))
    ]
    return Scene(
        size=size,
        things=Instances(
            boxes=torch.tensor([box for box, _, _ in found]).float().reshape(-1, 4),
            labels=torch.tensor([SHAPES.index(thing.shape) for thing in things], dtype=torch.long),
            area=torch.tensor([float(area) for _, area, _ in found]),
            masks=[mask for _, _, mask in found],
            keypoints=torch.tensor(keypoints).reshape(-1, len(CLASSES.keypoints), 3),
            extra={
                "colour": [thing.colour for thing in things],
                "material": [thing.material for thing in things],
                "size": [thing.size for thing in things],
                "pose": [thing.pose for thing in things],
            },
        ),
        semantic=_semantic(description, what),
        panoptic=_panoptic(description, what),
        image_id=description.index,
    )


def _extent(what: NDArray[np.int16], number: int) -> tuple[tuple[int, int, int, int], int, Rle]:
    """Box, area and mask of the pixels that show one thing."""
    mask = what == number
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    block = mask[top:bottom, left:right]
    counts = runs.compress(runs.of_block(block, (top, left), what.shape))
    rle = {"size": list(what.shape), "counts": counts}
    return (left, top, right, bottom), int(np.count_nonzero(block)), rle


def _keypoints(
    camera: Camera, thing: Thing, outline: Outline, number: int, seen: Seen
) -> list[tuple[float, float, float]]:
    """In the order of ``CLASSES.keypoints``; visibility 0 outside the picture, 1 behind another
    thing, else 2."""
    height, width = camera.size
    left, top, right, bottom = outline
    points = []
    for x, y, depth in (top, left, right, bottom, camera.project(thing.centre)):
        x, y = (round(float(place) * FINEST) / FINEST for place in (x, y))
        if not (0 <= x < width and 0 <= y < height):
            points.append((0.0, 0.0, 0.0))
            continue
        pixel = int(y) * width + int(x)
        hidden = seen.what[pixel] != number and seen.depth[pixel] < depth
        points.append((x, y, 1.0 if hidden else 2.0))
    return points


def _semantic(description: Description, what: NDArray[np.int16]) -> Tensor:
    """Things by their shape, then the grounds, then the skies."""
    table = np.zeros(len(description.things) + 2, dtype=np.int64)
    for number, thing in enumerate(description.things):
        table[number] = SHAPES.index(thing.shape)
    table[GROUND], table[SKY] = _stuff(description)
    return torch.from_numpy(table[what])


def _stuff(description: Description) -> tuple[int, int]:
    """The labels of the ground and of the sky."""
    ground = len(SHAPES) + GROUNDS.index(description.ground.kind)
    return ground, len(SHAPES) + len(GROUNDS) + SKIES.index(description.sky.kind)


def _panoptic(description: Description, what: NDArray[np.int16]) -> Panoptic:
    """Segments are numbered from 1: the things in order, the ground and the sky if they show."""
    count = len(description.things)
    table = np.arange(1, count + 3)  # what = -1 is its last entry, -2 the one before
    segments = [
        Segment(id=number + 1, label=SHAPES.index(thing.shape), thing=True)
        for number, thing in enumerate(description.things)
    ]
    for kind, stuff in zip((GROUND, SKY), _stuff(description), strict=True):
        if (what == kind).any():
            segments.append(Segment(id=int(table[kind]), label=stuff, thing=False))
    return Panoptic(torch.from_numpy(table[what]), segments)
