"""Sightline: object detection and image segmentation in PyTorch.

The public names are found on first use, so that ``import sightline`` costs nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sightline.data.convert import convert
    from sightline.data.doctor import doctor
    from sightline.ensemble import ensemble
    from sightline.errors import SightlineError
    from sightline.evaluate import evaluate
    from sightline.export import export
    from sightline.fuse import fuse
    from sightline.models import create
    from sightline.predict import predict, predict_stream
    from sightline.preprocess import Preprocess
    from sightline.recipes.recipe import Recipe
    from sightline.report.page import report
    from sightline.train import train
    from sightline.types import (
        Classes,
        Images,
        Instances,
        Loss,
        Panoptic,
        Placement,
        Scene,
        Segment,
    )
    from sightline.weights import load, save

__version__ = "0.1.0"

__all__ = [
    "Classes",
    "Images",
    "Instances",
    "Loss",
    "Panoptic",
    "Placement",
    "Preprocess",
    "Recipe",
    "Scene",
    "Segment",
    "SightlineError",
    "convert",
    "create",
    "doctor",
    "ensemble",
    "evaluate",
    "export",
    "fuse",
    "load",
    "predict",
    "predict_stream",
    "report",
    "save",
    "train",
]

_HOMES = {
    "Classes": "types",
    "Images": "types",
    "Instances": "types",
    "Loss": "types",
    "Panoptic": "types",
    "Placement": "types",
    "Preprocess": "preprocess",
    "Recipe": "recipes.recipe",
    "Scene": "types",
    "Segment": "types",
    "SightlineError": "errors",
    "convert": "data.convert",
    "create": "models",
    "doctor": "data.doctor",
    "ensemble": "ensemble",
    "evaluate": "evaluate",
    "export": "export",
    "fuse": "fuse",
    "load": "weights",
    "predict": "predict",
    "predict_stream": "predict",
    "report": "report.page",
    "save": "weights",
    "train": "train",
}


def __getattr__(name: str) -> Any:
    """A public name, imported from its home on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sightline' has no attribute {name!r}")
    value = getattr(import_module(f"sightline.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Importing ``sightline.train`` binds the module over the public function of the same name;
    this keeps the function. (``from sightline.train import ...`` does not need the binding.)"""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
