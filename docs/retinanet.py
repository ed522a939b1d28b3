"""Draws docs/images/retinanet.jpg: which anchors there are, and which learn what.

    python docs/retinanet.py

Left the nine anchors of one cell of three levels; right the middles of the positive anchors of each
object, in its colour, larger where the level is coarser, and of the neutral ones, in white.
"""

from pathlib import Path

import torch
from PIL import Image, ImageDraw

import sightline
from sightline.data.toybox import toybox_splits
from sightline.draw import colour, to_pillow
from sightline.ops.boxes import to_cxcywh
from sightline.ops.match import NEUTRAL

SIZE = (320, 480)
SHOWN = 3  # the scene
CELLS = ((0, 0.22, 0.5), (1, 0.42, 0.5), (2, 0.72, 0.5))  # level, where in the picture


def main() -> None:
    toys = toybox_splits(SHOWN + 1, 1, size=SIZE).train
    model = sightline.create(
        "retinanet", toys.classes, backbone="test_resnet", short=SIZE[0], long=SIZE[1]
    )
    picture, scene = toys.picture(SHOWN), toys.scene(SHOWN)
    images, _ = model.preprocess([picture])
    with torch.no_grad():
        outputs = model.outputs(images)
    anchors = model.anchors(outputs, images)
    shapes = [level.shape[-2:] for level in outputs.pyramid]
    left = to_pillow(picture).copy()
    pen = ImageDraw.Draw(left)
    for level, x, y in CELLS:
        rows, columns = shapes[level]
        first = 9 * (int(y * rows) * columns + int(x * columns))
        for box in anchors[level][first : first + 9].tolist():
            pen.rectangle(box, outline=colour(level), width=2)
    right = to_pillow(picture).copy()
    pen = ImageDraw.Draw(right)
    for row, box in enumerate(scene.things.boxes.tolist()):
        pen.rectangle(box, outline=colour(row), width=2)
    matches = model.match(torch.cat(anchors), scene).split([len(grid) for grid in anchors])
    for level, (grid, matched) in enumerate(zip(anchors, matches, strict=True)):
        for (x, y, _, _), match in zip(to_cxcywh(grid).tolist(), matched.tolist(), strict=True):
            if match >= 0 or match == NEUTRAL:
                ink = (235, 235, 235) if match == NEUTRAL else colour(match)
                radius = 1.5 + level if match >= 0 else 1
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    both = Image.new("RGB", (2 * SIZE[1] + 8, SIZE[0]), "white")
    both.paste(left, (0, 0))
    both.paste(right, (SIZE[1] + 8, 0))
    both.save(Path(__file__).parent / "images" / "retinanet.jpg", quality=88)


if __name__ == "__main__":
    main()
