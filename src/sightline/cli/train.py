"""``sightline train``: a subcommand for each recipe, whose signature is its interface."""

import functools
from collections.abc import Callable
from importlib import import_module

from cyclopts import App, Parameter

from sightline.recipes import RECIPES
from sightline.recipes.recipe import Recipe, Settings

# The settings of the loop stand beside a recipe's own options: --lr, not --settings.lr.
Parameter(name="*")(Settings)


def making(recipe: Callable[..., Recipe]) -> Callable[..., None]:
    """A command with the signature of a recipe function, which also makes the run."""

    @functools.wraps(recipe)
    def command(*values: object, **named: object) -> None:
        from sightline.train import train

        train(recipe(*values, **named))

    return command


train = App(
    name="train",
    help="Train a model on a folder of labelled photos, from scratch or from given weights.",
    default_parameter=Parameter(negative_iterable=()),
)
for name, (place, help_line) in RECIPES.items():
    module, _, function = place.partition(":")
    train.command(making(getattr(import_module(module), function)), name=name, help=help_line)
