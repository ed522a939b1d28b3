"""Runs of SSD (``models/ssd.py``) and SSDLite (``models/ssdlite.py``)."""

from pathlib import Path
from typing import Literal

from sightline.recipes.building import model_of, parts_of
from sightline.recipes.recipe import AS_THE_RECIPE_SAYS, Recipe, Settings


def ssd(
    data: Path | str,
    *,
    backbone: str | None = None,
    side: int | None = None,
    pretrained: bool = True,
    freeze_norm: bool = False,
    val: float = 0.2,
    val_seed: int = 0,
    flip: float = 0.5,
    expand: float = 0.5,
    overlap: float = 1.0,
    distort: float = 0.5,
    repeat: float = 0.0,
    optimizer: Literal["sgd", "adamw"] = "sgd",
    weight_decay: float | None = None,
    schedule: Literal["stepped", "cosine", "one_cycle"] = "stepped",
    settings: Settings = AS_THE_RECIPE_SAYS,
) -> Recipe:
    """SSD on a folder of labelled photos, with the paper's augmentation and torchvision's schedule.

    120 passes over COCO in batches of 32, learning rate 0.002 (in proportion to the batch) divided
    by ten after 80 and 110 passes, the first block of VGG16 as trained on ImageNet. Published for
    it: AP 25.1 on COCO val2017 (torchvision, SSD300). The paper has 23.2 and 26.8 on test-dev, for
    300 and 512 pixels. Not run on COCO here so far; docs/log.md has what was run.

    Fine-tune a detector on your own classes, in fewer passes:
    ``sightline train ssd --data DIR --weights ssd300_vgg16 --passes 30``

    Args:
        data: Folder of labelled photos (formats: docs/data.md).
        backbone: Any network of timm with maps at strides 8 and 16. Left out, vgg16; but with
            --weights the model is built as theirs was.
        side: Photos are stretched to so many pixels either way; the paper has 300 and 512. Left
            out, that of --weights, or 300.
        pretrained: Start the backbone from ImageNet weights, unless --weights are given.
        freeze_norm: Keep the backbone's BatchNorm, where it has any, as loaded.
        val: Share of the photos to validate on, where the folder has no val split.
        val_seed: Which photos that share is; sightline evaluate has the same two options.
        flip: Probability of a mirrored photo.
        expand: Probability of a photo laid on a canvas of up to four times its sides.
        overlap: Probability of a patch that a thing overlaps by a chosen IoU, 0 to 0.9, or of the
            whole.
        distort: Probability of a change of brightness, of contrast, of saturation and of hue.
        repeat: Photos with a class that fewer than this share of them have come up more often, 0.1
            say; 0 for none. A pass then has more photos, the same number each time.
        optimizer: sgd, or adamw with a learning rate of 0.0001 in proportion to the batch.
        weight_decay: Pull of the weights to zero; left out, 0.0005 with sgd, 0.05 with adamw.
        schedule: How the learning rate falls.
    """
    from sightline.data.transforms import Augment

    loaded = settings.weights is not None or pretrained
    batch = settings.batch or 32
    lr = {"sgd": 0.002, "adamw": 1e-4}[optimizer] * batch / 32
    decay = {"sgd": 5e-4, "adamw": 0.05}[optimizer] if weight_decay is None else weight_decay
    chosen = backbone if settings.weights is not None else backbone or "vgg16"
    return Recipe(
        name="ssd",
        model=model_of(
            "ssd",
            {"backbone": chosen},
            settings.weights,
            pretrained,
            freeze_norm,
            side=side,
            size=None if side is None else (side, side),
        ),
        augment=Augment(flip=flip, expand=expand, overlap=overlap, distort=distort),
        settings=settings.otherwise(
            passes=120, batch=batch, lr=lr, clip=10.0, freeze=1 if loaded else 0
        ),
        **parts_of(
            data,
            val=val,
            val_seed=val_seed,
            optimizer=optimizer,
            weight_decay=decay,
            schedule=schedule,
            repeat=repeat,
        ),
    )


def ssdlite(
    data: Path | str,
    *,
    backbone: str | None = None,
    side: int | None = None,
    pretrained: bool = True,
    freeze_norm: bool = False,
    val: float = 0.2,
    val_seed: int = 0,
    flip: float = 0.5,
    expand: float = 0.0,
    overlap: float = 1.0,
    distort: float = 0.0,
    repeat: float = 0.0,
    weight_decay: float = 4e-5,
    schedule: Literal["stepped", "cosine", "one_cycle"] = "cosine",
    settings: Settings = AS_THE_RECIPE_SAYS,
) -> Recipe:
    """SSDLite on a folder of labelled photos, with torchvision's schedule: small and quick.

    660 passes over COCO in batches of 192, SGD with learning rate 0.15 (in proportion to the
    batch) on a cosine, patches and flips alone. Published for it: AP 21.3 on COCO val2017
    (torchvision, SSDlite320 on MobileNetV3-Large). Not run on COCO here so far; docs/log.md has
    what was run.

    Fine-tune a detector on your own classes, in fewer passes and smaller batches:
    ``sightline train ssdlite --data DIR --weights ssdlite320_mobilenet_v3_large --batch 16``

    Args:
        data: Folder of labelled photos (formats: docs/data.md).
        backbone: Any network of timm with maps at strides 16 and 32. Left out, MobileNetV3-Large,
            from C4 on with half its channels where nothing is loaded; but with --weights the model
            is built as theirs was.
        side: Photos are stretched to so many pixels either way; left out, that of --weights, or
            320.
        pretrained: Start the backbone from ImageNet weights, unless --weights are given.
        freeze_norm: Keep the backbone's BatchNorm as loaded.
        val: Share of the photos to validate on, where the folder has no val split.
        val_seed: Which photos that share is; sightline evaluate has the same two options.
        flip: Probability of a mirrored photo.
        expand: Probability of a photo laid on a canvas of up to four times its sides.
        overlap: Probability of a patch that a thing overlaps by a chosen IoU, 0 to 0.9, or of the
            whole.
        distort: Probability of a change of brightness, of contrast, of saturation and of hue.
        repeat: Photos with a class that fewer than this share of them have come up more often, 0.1
            say; 0 for none. A pass then has more photos, the same number each time.
        weight_decay: Pull of the weights to zero.
        schedule: How the learning rate falls.
    """
    from sightline.data.transforms import Augment

    batch = settings.batch or 192
    chosen = backbone
    if backbone is None and settings.weights is None:
        chosen = "tv_mobilenet_v3_large_ssd" + ("" if pretrained else "_reduced")
    return Recipe(
        name="ssdlite",
        model=model_of(
            "ssdlite",
            {"backbone": chosen},
            settings.weights,
            pretrained,
            freeze_norm,
            side=side,
            size=None if side is None else (side, side),
        ),
        augment=Augment(flip=flip, expand=expand, overlap=overlap, distort=distort),
        settings=settings.otherwise(
            passes=660, batch=batch, lr=0.15 * batch / 192, clip=10.0, freeze=0
        ),
        **parts_of(
            data,
            val=val,
            val_seed=val_seed,
            optimizer="sgd",
            weight_decay=weight_decay,
            schedule=schedule,
            repeat=repeat,
        ),
    )
