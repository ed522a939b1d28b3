"""Runs of Faster R-CNN (``models/faster_rcnn.py``)."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sightline.recipes.building import build, model_of, parts_of
from sightline.recipes.recipe import AS_THE_RECIPE_SAYS, Recipe, Settings

if TYPE_CHECKING:
    from sightline.data.packed import Dataset


def faster_rcnn(
    data: Path | str,
    *,
    backbone: str | None = None,
    fpn: bool | None = None,
    class_agnostic: bool | None = None,
    objectness: Literal["logistic", "softmax"] | None = None,
    pretrained: bool = True,
    freeze_norm: bool | None = None,
    samples: int | None = None,
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
    class_weights: str | None = None,
    optimizer: Literal["sgd", "adamw"] = "sgd",
    weight_decay: float | None = None,
    schedule: Literal["stepped", "cosine", "one_cycle"] = "stepped",
    settings: Settings = AS_THE_RECIPE_SAYS,
) -> Recipe:
    """Faster R-CNN on a folder of labelled photos, with the schedule of its authors' library.

    The 1x schedule: 12 passes over COCO in batches of 16, learning rate 0.02 (in proportion to the
    batch) divided by ten after 8 and 11 passes, stem and first stage as trained on ImageNet.
    Published for it: AP 37.9 on COCO val2017 (Detectron2, R50-FPN 1x). Not run on COCO here so far;
    docs/log.md has what was run.

    Fine-tune a detector on your own classes:
    ``sightline train faster_rcnn --data DIR --weights fasterrcnn_resnet50_fpn --freeze 2``

    Args:
        data: Folder of labelled photos (formats: docs/data.md).
        backbone: Any network of timm, or vgg16 and resnets without a pyramid. Left out, resnet50;
            but with --weights and no choice of architecture, the model is built as theirs was.
        fpn: A feature pyramid; without it one level at stride 16, as first published.
        class_agnostic: One shift of each region for all classes, not one a class.
        objectness: One logistic score an anchor, or the paper's two with a softmax; left out,
            logistic with a pyramid, softmax without.
        pretrained: Start the backbone from ImageNet weights, unless --weights are given.
        freeze_norm: Keep BatchNorm as loaded; left out, where the backbone is loaded (with
            --weights, as they were trained).
        samples: Regions of a photo that train the second stage; left out, 512 with a pyramid, 128
            without. On a CPU 64 are much faster.
        val: Share of the photos to validate on, where the folder has no val split.
        val_seed: Which photos that share is; sightline evaluate has the same two options.
        short: Short side of the photos in pixels; left out, that of --weights, or the model's (800;
            600 without pyramid).
        long: The long side is never brought beyond so many pixels.
        size: Height and width to stretch every photo to, instead.
        flip: Probability of a mirrored photo.
        scale: Range of the zoom, such as 0.5 2.
        crop: Probability of a random crop.
        colour: Strength of colour changes, 0 to 1.
        repeat: Photos with a class that fewer than this share of them have come up more often, 0.1
            say; 0 for none. A pass then has more photos, the same number each time.
        class_weights: How much a class counts in the loss of the second stage, where background
            counts 1: NAME=3,OTHER=2, or balanced, by how many things of each there are; left out,
            all count 1.
        optimizer: sgd, or adamw with a learning rate of 0.0001 in proportion to the batch.
        weight_decay: Pull of the weights to zero; left out, 0.0001 with sgd, 0.05 with adamw.
        schedule: How the learning rate falls.
    """
    from sightline.data.transforms import Augment

    loaded = settings.weights is not None or pretrained
    batch = settings.batch or 16
    lr = {"sgd": 0.02, "adamw": 1e-4}[optimizer] * batch / 16
    settings = settings.otherwise(
        passes=12, batch=batch, lr=lr, clip=10.0, freeze=2 if loaded else 0
    )
    return Recipe(
        name="faster_rcnn",
        model=model_of(
            "faster_rcnn",
            {
                "model": {True: "faster_rcnn", False: "faster_rcnn_single", None: None}[fpn],
                "backbone": backbone,
                "class_agnostic": class_agnostic,
                "objectness": objectness,
            },
            settings.weights,
            pretrained,
            freeze_norm,
            samples=samples,
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
        prepare=partial(weigh, weights=read_weights(class_weights)) if class_weights else None,
    )


def faster_rcnn_toybox(data: Path | str, *, settings: Settings = AS_THE_RECIPE_SAYS) -> Recipe:
    """A small Faster R-CNN on generated scenes, from scratch: the demo.

    ``sightline demo`` (320 scenes, 60 unseen ones), two cores, 4.3 minutes: AP 0.476, AP50 0.702.

    Args:
        data: Folder that `sightline toybox` wrote.
    """
    from sightline import optim
    from sightline.data.folder import open_dataset
    from sightline.data.transforms import Augment

    settings = settings.otherwise(passes=8, batch=8, lr=0.001, clip=10.0, freeze=0)
    return Recipe(
        name="faster_rcnn_toybox",
        model=partial(
            build,
            model="faster_rcnn",
            backbone="resnet10t",
            freeze_norm=False,
            size=(160, 160),
            channels=64,
            hidden=256,
            samples=64,
            candidates=200,
            proposals=100,
            training_candidates=300,
            training_proposals=300,
            anchor_sizes=((16,), (32,), (64,), (128,), (256,)),
        ),
        data=partial(open_dataset, path=data),
        augment=Augment(flip=0.5),
        optimizer=optim.adamw,
        schedule=optim.one_cycle,
        settings=settings,
    )


def read_weights(text: str) -> dict[str, float] | Literal["balanced"]:
    """Class weights as they are written on the command line: ``balanced``, or a number for each
    class that does not weigh 1, ``NAME=3,OTHER=2``.

    Raises:
        SightlineError: neither of the two, or a class named twice.
    """
    from sightline.errors import SightlineError

    if text == "balanced":
        return "balanced"
    named = [part.rpartition("=") for part in text.split(",")]
    try:
        weights = {name.strip(): float(weight) for name, _, weight in named}
    except ValueError as error:
        raise SightlineError(
            f"class weights are balanced or a number for each class such as cat=3,dog=2, not {text}"
        ) from error
    if len(weights) < len(named):
        raise SightlineError(f"class weights {text} name a class twice")
    return weights


def weigh(
    model: Any, data: "Dataset", *, weights: Mapping[str, float] | Literal["balanced"]
) -> None:
    """Let the loss of the second stage count each class as named, or by how many things of it
    there are.

    Raises:
        SightlineError: see ``named_weights``.
    """
    from sightline.data.balance import balanced_weights, named_weights

    if isinstance(weights, str):
        model.box_head.weigh(balanced_weights(data))
    else:
        model.box_head.weigh(named_weights(data.classes, weights))
