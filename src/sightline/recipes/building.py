"""What recipes build alike: the model of a run, new or as that of given weights was, and what they
make of plain values for its data and its optimiser."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from sightline.types import Classes


def model_of(
    family: str,
    architecture: dict[str, Any],
    weights: str | None,
    pretrained: bool,
    freeze_norm: bool | None,
    **rest: Any,
) -> "Callable[[Classes], Any]":
    """What builds the model of a recipe. With weights and no choice of architecture (its options
    are all None; ``model`` is a variant of the family) it is built as theirs was; otherwise its
    BatchNorm is kept as loaded where something is loaded, unless ``freeze_norm`` says. ``rest`` are
    sizes and options that do not change which weights fit."""
    chosen = {option: value for option, value in architecture.items() if value is not None}
    if weights is not None and not chosen:
        like = partial(build_like, weights=str(weights), family=family)
        return partial(like, freeze_norm=freeze_norm, **rest)
    loaded = weights is not None or pretrained
    return partial(
        build,
        **{"model": family, "backbone": "resnet50", **chosen},
        pretrained=pretrained and weights is None,
        freeze_norm=loaded if freeze_norm is None else freeze_norm,
        **rest,
    )


def parts_of(
    data: "Path | str",
    *,
    val: float,
    val_seed: int,
    optimizer: str,
    weight_decay: float | None,
    schedule: str,
    repeat: float = 0.0,
) -> dict[str, Any]:
    """Fields of a ``Recipe``: data, optimizer, schedule and repeats."""
    from sightline import optim
    from sightline.data.balance import repeat_factors
    from sightline.data.folder import open_dataset

    decay = {} if weight_decay is None else {"weight_decay": weight_decay}
    return {
        "data": partial(open_dataset, path=data, val=val, seed=val_seed),
        "optimizer": partial(getattr(optim, optimizer), **decay),
        "schedule": getattr(optim, schedule),
        "repeats": partial(repeat_factors, threshold=repeat) if repeat else None,
    }


def build(
    classes: "Classes",
    *,
    model: str,
    short: int | None = None,
    long: int | None = None,
    size: tuple[int, int] | None = None,
    **options: Any,
) -> Any:
    """The model of that name for these classes. Sizes and options of its builder that are None are
    as the builder has them."""
    from sightline.models import create

    return _resized(create(model, classes, **_given(options)), short, long, size)


def build_like(
    classes: "Classes",
    *,
    weights: str,
    family: str,
    short: int | None = None,
    long: int | None = None,
    size: tuple[int, int] | None = None,
    **options: Any,
) -> Any:
    """The model of a checkpoint, for these classes and with its preprocessing; sizes and options
    that are not None take the place of its own.

    Raises:
        SightlineError: the checkpoint is of no model of the family: ``family`` itself, or a name
            that goes on behind it with ``_``.
    """
    from sightline.errors import SightlineError
    from sightline.models import create
    from sightline.weights import read

    file = read(weights)
    if not f"{file.card.model}_".startswith(f"{family}_"):
        raise SightlineError(f"{weights} is a {file.card.model}, not a {family}")
    model = create(file.card.model, classes, **{**file.card.options, **_given(options)})
    model.preprocess = file.preprocess
    return _resized(model, short, long, size)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _resized(model: Any, short: int | None, long: int | None, size: tuple[int, int] | None) -> Any:
    """The model with those sizes of its preprocessing that are not None.

    Raises:
        SightlineError: a fixed size and the rule for another.
    """
    from dataclasses import replace

    from sightline.errors import SightlineError

    sides = _given({"short": short, "long": long})
    if size is not None and sides:
        raise SightlineError(f"size excludes {' and '.join(sides)}: give one or the other")
    if size is not None:
        model.preprocess = replace(model.preprocess, fixed=size)
    elif sides:
        model.preprocess = replace(model.preprocess, fixed=None, **sides)
    return model
