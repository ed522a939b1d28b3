"""Runs of FCOS (``models/fcos.py``)."""

from pathlib import Path
from typing import Literal

from sightline.recipes.building import model_of, parts_of
from sightline.recipes.recipe import AS_THE_RECIPE_SAYS, Recipe, Settings


def fcos(
    data: Path | str,
    *,
    backbone: str | None = None,
    distances: Literal["relu", "exp"] | None = None,
    box_loss: Literal["giou", "l2"] | None = None,
    radius: float | None = None,
    pretrained: bool = True,
    freeze_norm: bool | None = None,
    val: float = 0.2,
    val_seed: int = 0,
    short: int | None = None,
    long: int | None = None,
    size: tuple[int, int] | None = None,
    flip: float = 0.5,
    scale: tuple[float, float] = (1.0, 1.0),
    crop: float = 0.0,
    colour: float = 0.0,
    repeat: float = 0.0,
    optimizer: Literal["sgd", "adamw"] = "sgd",
    weight_decay: float | None = None,
    schedule: Literal["stepped", "cosine", "one_cycle"] = "stepped",
    settings: Settings = AS_THE_RECIPE_SAYS,
) -> Recipe:
    """FCOS on a folder of labelled photos, with the schedule of its paper.

    The paper's: 90,000 steps, which are 12 passes over COCO in batches of 16, learning rate 0.01
    (in proportion to the batch) divided by ten after 8 and 11 passes. Published for torchvision's
    weights: AP 39.2 on COCO val2017 (R50-FPN, 26 passes). Not run on COCO here so far; docs/log.md
    has what was run.

    Fine-tune a detector on your own classes:
    ``sightline train fcos --data DIR --weights fcos_resnet50_fpn --freeze 2``

    Args:
        data: Folder of labelled photos (formats: docs/data.md).
        backbone: Any network of timm. Left out, resnet50; but with --weights and no choice of
            architecture, the model is built as theirs was.
        distances: What a point says of a side: relu(x) strides, or exp(s x) strides with s learnt
            for each level, as in the paper; left out, relu.
        box_loss: giou, or l2, the squared error of the distances; left out, giou.
        radius: A thing is learnt by the points within so many strides of its middle; 0 for all in
            its box, as in the paper; left out, 1.5.
        pretrained: Start the backbone from ImageNet weights, unless --weights are given.
        freeze_norm: Keep BatchNorm as loaded; left out, where the backbone is loaded (with
            --weights, as they were trained).
        val: Share of the photos to validate on, where the folder has no val split.
        val_seed: Which photos that share is; sightline evaluate has the same two options.
        short: Short side of the photos in pixels; left out, that of --weights, or 800.
        long: The long side is never brought beyond so many pixels.
        size: Height and width to stretch every photo to, instead.
        flip: Probability of a mirrored photo.
        scale: Range of the zoom, such as 0.5 2.
        crop: Probability of a random crop.
        colour: Strength of colour changes, 0 to 1.
        repeat: Photos with a class that fewer than this share of them have come up more often, 0.1
            say; 0 for none. A pass then has more photos, the same number each time.
        optimizer: sgd, or adamw with a learning rate of 0.0001 in proportion to the batch.
        weight_decay: Pull of the weights to zero; left out, 0.0001 with sgd, 0.05 with adamw.
        schedule: How the learning rate falls.
    """
    from sightline.data.transforms import Augment

    loaded = settings.weights is not None or pretrained
    batch = settings.batch or 16
    lr = {"sgd": 0.01, "adamw": 1e-4}[optimizer] * batch / 16
    settings = settings.otherwise(
        passes=12, batch=batch, lr=lr, clip=10.0, freeze=2 if loaded else 0
    )
    return Recipe(
        name="fcos",
        model=model_of(
            "fcos",
            {"backbone": backbone, "distances": distances},
            settings.weights,
            pretrained,
            freeze_norm,
            box_loss=box_loss,
            radius=radius,
            short=short,
            long=long,
            size=size,
        ),
        augment=Augment(flip=flip, scale=scale, crop=crop, colour=colour),
        settings=settings,
        **parts_of(
            data,
            val=val,
            val_seed=val_seed,
            optimizer=optimizer,
            weight_decay=weight_decay,
            schedule=schedule,
            repeat=repeat,
        ),
    )
