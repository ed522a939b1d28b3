"""Runs, one file a family, one function a run; docs/log.md has those that were made.

A recipe function takes a folder of labelled pictures and plain values, and gives a ``Recipe``.
``sightline train NAME --data DIR`` makes the run, and so does ``python -m sightline.recipes`` on a
machine without the command line's package.
"""

# Name of the command: where the function is, and a line of help. No recipe is imported before it is
# asked for.
RECIPES = {
    "faster_rcnn": (
        "sightline.recipes.faster_rcnn:faster_rcnn",
        "Faster R-CNN on any folder: 12 passes, batch 16, lr 0.02, unless told otherwise.",
    ),
    "fcn": (
        "sightline.recipes.segmentation:fcn",
        "FCN on any folder with label maps: 30 passes, batch 16, lr 0.01, unless told otherwise.",
    ),
    "unet": (
        "sightline.recipes.segmentation:unet",
        "U-Net on any folder with label maps: 30 passes, batch 16, adamw with lr 0.001.",
    ),
    "faster_rcnn_toybox": (
        "sightline.recipes.faster_rcnn:faster_rcnn_toybox",
        "A small Faster R-CNN on generated scenes, from scratch: what `sightline demo` trains.",
    ),
    "retinanet": (
        "sightline.recipes.retinanet:retinanet",
        "RetinaNet on any folder: 12 passes, batch 16, lr 0.01, unless told otherwise.",
    ),
}
