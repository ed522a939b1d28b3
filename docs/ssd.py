"""Draws docs/images/ssd.jpg: the default boxes of SSD300, and which of them learn what.

    python docs/ssd.py

Left the default boxes of one cell of the first five levels; right those that learn an object, whose
own box is white.
"""

from pathlib import Path

import torch
from PIL import ImageDraw
from PIL.Image import Image, new

import sightline
from sightline.data.toybox import toybox_splits
from sightline.draw import colour, to_pillow

SIDE = 300
SHOWN = 3  # the scene
ZOOM = 2
CELLS = ((0.1, 0.12), (0.22, 0.4), (0.7, 0.25), (0.3, 0.72), (0.7, 0.6))  # x, y of each level's


def outline(picture: Image, boxes: torch.Tensor, ink: tuple[int, int, int], width: int) -> None:
    pen = ImageDraw.Draw(picture)
    for box in (boxes * ZOOM).tolist():
        pen.rectangle(box, outline=ink, width=width)


def main() -> None:
    toys = toybox_splits(SHOWN + 1, 1, size=(SIDE, SIDE)).train
    model = sightline.create("ssd", toys.classes, backbone="test_resnet", side=SIDE)
    picture, scene = toys.picture(SHOWN), toys.scene(SHOWN)
    images, _ = model.preprocess([picture])
    with torch.no_grad():
        pyramid = model.outputs(images).pyramid
    levels = model.default_boxes(pyramid)
    size = (ZOOM * SIDE, ZOOM * SIDE)
    left = to_pillow(picture).resize(size)
    for level, (x, y) in enumerate(CELLS):
        rows, columns = pyramid[level].shape[-2:]
        cells = levels[level].unflatten(0, (rows, columns, -1))
        outline(left, cells[int(y * rows), int(x * columns)], colour(level), 2)
    right = to_pillow(picture).resize(size)
    boxes = torch.cat(levels)
    matches = model.match(boxes, scene)
    for row in range(len(scene.things)):
        outline(right, scene.things.boxes[row : row + 1], (255, 255, 255), 4)
        outline(right, boxes[matches == row], colour(row), 2)
    both = new("RGB", (2 * size[0] + 8, size[1]), "white")
    both.paste(left, (0, 0))
    both.paste(right, (size[0] + 8, 0))
    both.save(Path(__file__).parent / "images" / "ssd.jpg", quality=90)


if __name__ == "__main__":
    main()
