"""Draws docs/images/label_maps.jpg: what cells of 32, 16 and 8 pixels keep of generated scenes.

    python docs/images/label_maps.py

The truth itself, averaged over cells and scaled up again.
"""

from dataclasses import replace
from pathlib import Path

import torch.nn.functional as F

from sightline.data.toybox import Toybox
from sightline.draw import contact_sheet, draw
from sightline.metrics.semantic import semantic_numbers
from sightline.ops.maps import to_maps
from sightline.types import Instances, Placement, Scene

SIZE = (256, 320)
CELLS = (32, 16, 8)
SHOWN = (2, 17)


def of_cells(scene: Scene, cell: int) -> Scene:
    assert scene.semantic is not None
    sure = F.one_hot(scene.semantic, len(Toybox.classes.in_maps)).permute(2, 0, 1)[None].float()
    (answer,) = to_maps(
        F.avg_pool2d(sure, cell), [Placement(SIZE, (SIZE[0] // cell, SIZE[1] // cell))]
    )
    return replace(answer, image_id=scene.image_id)


def main() -> None:
    data = Toybox(60, seed=0, size=SIZE)
    scenes = [data.scene(index) for index in range(len(data))]
    columns, captions = [scenes], ["truth"]
    for cell in CELLS:
        columns.append([of_cells(scene, cell) for scene in scenes])
        found = semantic_numbers(scenes, columns[-1], Toybox.classes)
        captions.append(f"cells of {cell}: mIoU {found['mIoU']:.2f}")
    drawn = [
        draw(
            data.picture(index),
            replace(column[index], things=Instances.empty(), panoptic=None),
            Toybox.classes,
        )
        for index in SHOWN
        for column in columns
    ]
    contact_sheet(drawn, len(columns), captions).save(
        Path(__file__).with_suffix(".jpg"), quality=88
    )


if __name__ == "__main__":
    main()
