"""Runs of models that label every pixel: FCN (``models/fcn.py``) and U-Net (``models/unet.py``)."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sightline.recipes.building import model_of, parts_of
from sightline.recipes.faster_rcnn import read_weights
from sightline.recipes.recipe import AS_THE_RECIPE_SAYS, Recipe, Settings

if TYPE_CHECKING:
    from sightline.data.packed import Dataset


def fcn(
    data: Path | str,
    *,
    backbone: str | None = None,
    output_stride: int | None = None,
    auxiliary: float | None = None,
    pretrained: bool = True,
    freeze_norm: bool = False,
    val: float = 0.2,
    val_seed: int = 0,
    short: int | None = None,
    long: int | None = None,
    size: tuple[int, int] | None = None,
    flip: float = 0.5,
    scale: tuple[float, float] = (0.5, 2.0),
    crop: float = 0.0,
    colour: float = 0.0,
    class_weights: str | None = None,
    optimizer: Literal["sgd", "adamw"] = "sgd",
    weight_decay: float | None = None,
    schedule: Literal["poly", "stepped", "cosine", "one_cycle"] = "poly",
    settings: Settings = AS_THE_RECIPE_SAYS,
) -> Recipe:
    """FCN on a folder of photos and label maps, with the schedule of torchvision's.

    That one: 30 passes over the photos of COCO with VOC's classes, learning rate 0.02 at 32 photos
    a step, falling to 0 as (1 - t)^0.9, photos scaled by 0.5 to 2 and mirrored. Published for it:
    mIoU 60.5 (R50) and 63.7 (R101) on COCO val2017. Not run on COCO here; docs/log.md has what was.

    Fine-tune on your own classes: ``sightline train fcn --data DIR --weights fcn_resnet50``

    Args:
        data: Folder of photos with label maps (formats: docs/data.md).
        backbone: A network of timm whose stages can be dilated. Left out, resnet50; but with
            --weights and no choice of architecture, the model is built as theirs was.
        output_stride: Pixels of a cell; left out, 8. 16 is faster and coarser.
        auxiliary: Weight of the second head's loss; left out, 0.4.
        pretrained: Start the backbone from ImageNet weights, unless --weights are given.
        freeze_norm: Keep the backbone's BatchNorm as loaded: for batches of a few photos.
        val: Share of the photos to validate on, where the folder has no val split.
        val_seed: Which photos that share is; sightline evaluate has the same two options.
        short: Short side of the photos in pixels; left out, that of --weights, or 520.
        long: The long side is never brought beyond so many pixels.
        size: Height and width to stretch every photo to, instead.
        flip: Probability of a mirrored photo.
        scale: Range of the zoom, such as 0.5 2; what is beyond a photo is unlabelled.
        crop: Probability of a random crop.
        colour: Strength of colour changes, 0 to 1.
        class_weights: How much a pixel of a class counts in the loss: NAME=3,OTHER=2, or balanced,
            by how many pixels of each there are; left out, all count 1.
        optimizer: sgd, or adamw with a learning rate of 0.0003 in proportion to the batch.
        weight_decay: Pull of the weights to zero; left out, 0.0001 with sgd, 0.05 with adamw.
        schedule: How the learning rate falls.
    """
    from sightline.data.transforms import Augment

    settings = _settings(settings, {"sgd": 0.01, "adamw": 3e-4}[optimizer])
    model = model_of(
        "fcn",
        {"backbone": backbone, "output_stride": output_stride},
        settings.weights,
        pretrained,
        freeze_norm,
        auxiliary=auxiliary,
        short=short,
        long=long,
        size=size,
    )
    parts = parts_of(
        data,
        val=val,
        val_seed=val_seed,
        optimizer=optimizer,
        weight_decay=weight_decay,
        schedule=schedule,
    )
    prepare = partial(weigh, weights=read_weights(class_weights)) if class_weights else None
    augment = Augment(flip=flip, scale=scale, crop=crop, colour=colour)
    return Recipe(
        name="fcn", model=model, augment=augment, settings=settings, prepare=prepare, **parts
    )


def unet(
    data: Path | str,
    *,
    backbone: str | None = None,
    pretrained: bool = True,
    freeze_norm: bool = False,
    val: float = 0.2,
    val_seed: int = 0,
    short: int | None = None,
    long: int | None = None,
    size: tuple[int, int] | None = None,
    flip: float = 0.5,
    scale: tuple[float, float] = (0.5, 2.0),
    crop: float = 0.0,
    colour: float = 0.0,
    class_weights: str | None = None,
    optimizer: Literal["sgd", "adamw"] = "adamw",
    weight_decay: float | None = None,
    schedule: Literal["poly", "stepped", "cosine", "one_cycle"] = "one_cycle",
    settings: Settings = AS_THE_RECIPE_SAYS,
) -> Recipe:
    """U-Net on a folder of photos and label maps.

    Its authors took one picture a step with momentum 0.99 and elastic deformations; this is how a
    U-Net on a public encoder is trained today. docs/log.md has what was run.

    From scratch: ``sightline train unet --data DIR --no-pretrained --passes 60``

    Args:
        data: Folder of photos with label maps (formats: docs/data.md).
        backbone: Any network of timm. Left out, resnet34; but with --weights, the model is built
            as theirs was.
        pretrained: Start the backbone from ImageNet weights, unless --weights are given.
        freeze_norm: Keep the backbone's BatchNorm as loaded: for batches of a few photos.
        val: Share of the photos to validate on, where the folder has no val split.
        val_seed: Which photos that share is; sightline evaluate has the same two options.
        short: Short side of the photos in pixels; left out, that of --weights, or 512.
        long: The long side is never brought beyond so many pixels.
        size: Height and width to stretch every photo to, instead.
        flip: Probability of a mirrored photo.
        scale: Range of the zoom, such as 0.5 2; what is beyond a photo is unlabelled.
        crop: Probability of a random crop.
        colour: Strength of colour changes, 0 to 1.
        class_weights: How much a pixel of a class counts in the loss: NAME=3,OTHER=2, or balanced,
            by how many pixels of each there are; left out, all count 1.
        optimizer: adamw, or sgd with a learning rate of 0.02 in proportion to the batch.
        weight_decay: Pull of the weights to zero; left out, 0.05 with adamw, 0.0001 with sgd.
        schedule: How the learning rate falls.
    """
    from sightline.data.transforms import Augment

    settings = _settings(settings, {"sgd": 0.02, "adamw": 1e-3}[optimizer])
    if settings.weights is None:
        backbone = backbone or "resnet34"
    model = model_of(
        "unet",
        {"backbone": backbone},
        settings.weights,
        pretrained,
        freeze_norm,
        short=short,
        long=long,
        size=size,
    )
    parts = parts_of(
        data,
        val=val,
        val_seed=val_seed,
        optimizer=optimizer,
        weight_decay=weight_decay,
        schedule=schedule,
    )
    prepare = partial(weigh, weights=read_weights(class_weights)) if class_weights else None
    augment = Augment(flip=flip, scale=scale, crop=crop, colour=colour)
    return Recipe(
        name="unet", model=model, augment=augment, settings=settings, prepare=prepare, **parts
    )


def _settings(settings: Settings, lr: float) -> Settings:
    """30 passes in batches of 16, nothing frozen; the learning rate is that of 16 photos."""
    batch = settings.batch or 16
    return settings.otherwise(passes=30, batch=batch, lr=lr * batch / 16, clip=10.0, freeze=0)


def weigh(
    model: Any, data: "Dataset", *, weights: Mapping[str, float] | Literal["balanced"]
) -> None:
    """Let a pixel of each class count as named, or by how many pixels of it there are.

    Raises:
        SightlineError: see ``named_weights``.
    """
    from sightline.data.balance import named_weights, pixel_weights
    from sightline.types import Classes

    if isinstance(weights, str):
        of_classes = pixel_weights(data)
    else:
        of_classes = named_weights(Classes(data.classes.in_maps), weights)
    model.weigh(of_classes)
