"""One file a paper. ``create`` builds a model by name and gives it a card, which a checkpoint
keeps."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from inspect import signature
from typing import Any

from torch import nn

from sightline.errors import SightlineError
from sightline.models.fast_rcnn import fast_rcnn
from sightline.models.faster_rcnn import faster_rcnn, faster_rcnn_single
from sightline.models.faster_rcnn_detectron2 import faster_rcnn_detectron2
from sightline.models.faster_rcnn_v2 import faster_rcnn_v2
from sightline.models.fcn import fcn
from sightline.models.fcos import fcos
from sightline.models.retinanet import retinanet
from sightline.models.ssd import ssd
from sightline.models.ssdlite import ssdlite
from sightline.models.unet import unet
from sightline.types import Classes

MODELS: dict[str, Callable[..., nn.Module]] = {
    "fast_rcnn": fast_rcnn,
    "faster_rcnn": faster_rcnn,
    "faster_rcnn_detectron2": faster_rcnn_detectron2,
    "faster_rcnn_single": faster_rcnn_single,
    "faster_rcnn_v2": faster_rcnn_v2,
    "fcn": fcn,
    "fcos": fcos,
    "retinanet": retinanet,
    "ssd": ssd,
    "ssdlite": ssdlite,
    "unet": unet,
}


@dataclass(frozen=True)
class Card:
    """What a checkpoint says of its model: how to build it again and what its labels mean."""

    model: str  # name in MODELS
    options: dict[str, Any]  # keyword arguments of the builder, JSON values
    classes: Classes
    history: tuple[dict[str, Any], ...] = field(default=())  # what it was trained on, oldest first


def create(name: str, classes: int | Sequence[str] | Classes, **options: Any) -> Any:
    """Build a model: ``create("faster_rcnn", classes=["cat", "dog"], backbone="resnet18")``.

    The builder is given the number of classes and, where it has a parameter ``stuff``, that of the
    stuff classes. ``options`` go to the builder in the model's file. The card leaves out
    ``pretrained``: once built, the weights are the model's own.

    Raises:
        SightlineError: an unknown model or option, classes that are none, or none but stuff for a
            model that finds things.
    """
    if name not in MODELS:
        near = get_close_matches(name, MODELS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(MODELS))}"
        raise SightlineError(f"unknown model {name!r}; {hint}")
    builder = MODELS[name]
    parameters = signature(builder).parameters
    known = set(parameters) - {"classes", "stuff"}
    if unknown := sorted(set(options) - known):
        raise SightlineError(
            f"{name} has no option {', '.join(unknown)}; known: {', '.join(sorted(known))}"
        )
    meaning = as_classes(classes)
    stuff = {"stuff": len(meaning.stuff)} if "stuff" in parameters else {}
    if not stuff and not meaning.names:
        mappers = [other for other in MODELS if "stuff" in signature(MODELS[other]).parameters]
        raise SightlineError(
            f"{name} finds things, and there is no class of things, only label maps "
            f"({', '.join(meaning.stuff[:3])}): take {' or '.join(mappers)}"
        )
    model: Any = builder(len(meaning), **stuff, **options)
    kept = {key: value for key, value in options.items() if key != "pretrained"}
    model.card = Card(name, kept, meaning)
    return model


def as_classes(classes: int | Sequence[str] | Classes) -> Classes:
    """A number becomes ``class 0``, ``class 1``, ...

    Raises:
        SightlineError: no class at all, one name twice, or a name where a list of names is wanted.
    """
    if isinstance(classes, str):
        raise SightlineError(f"classes must be a list of names or their number, not {classes!r}")
    if isinstance(classes, int):
        classes = [f"class {number}" for number in range(classes)]
    meaning = classes if isinstance(classes, Classes) else Classes(tuple(classes))
    if len(meaning) + len(meaning.stuff) == 0:
        raise SightlineError("a model needs one class or more")
    twice = [name for name, times in Counter(meaning.names).items() if times > 1]
    if twice:
        raise SightlineError(f"the class {twice[0]!r} is named twice")
    return meaning
