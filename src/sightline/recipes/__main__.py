"""``python -m sightline.recipes NAME --data DIR --passes 12``: train without the command line's
package, as on a bare machine, or under torchrun (``torchrun -m sightline.recipes NAME ...``).
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib import import_module
from inspect import signature
from typing import Any

from sightline.errors import SightlineError
from sightline.recipes import RECIPES
from sightline.recipes.recipe import Recipe, Settings


def read_recipe(arguments: Sequence[str]) -> Recipe:
    """The recipe that the arguments name, spelled as on the command line.

    Raises:
        SightlineError: no such recipe or option.
    """
    name = arguments[0] if arguments else "none"
    if name not in RECIPES:
        raise SightlineError(f"unknown recipe {name}; known: {', '.join(RECIPES)}")
    module, _, function_name = RECIPES[name][0].partition(":")
    function: Callable[..., Recipe] = getattr(import_module(module), function_name)
    options = _options(arguments[1:])
    own = set(signature(function).parameters) - {"settings"}
    loop = {field.name for field in fields(Settings)}
    if unknown := set(options) - own - loop:
        raise SightlineError(f"{name} has no option {', '.join(sorted(unknown))}")
    if "data" not in options:
        raise SightlineError(f"{name} needs --data DIR, a folder of labelled pictures")
    settings = Settings(**{key: value for key, value in options.items() if key in loop})
    return function(**{k: v for k, v in options.items() if k in own}, settings=settings)


def _options(arguments: Sequence[str]) -> dict[str, Any]:
    """``--lr 0.1 --size 240 320 --bf16 --no-fpn`` as values by name."""
    given: dict[str, list[Any]] = {}
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            given[name.replace("-", "_")] = [_value(value)] if equals else []
        elif not given:
            raise SightlineError(f"{argument}: give every value a name, such as --data")
        else:
            given[list(given)[-1]].append(_value(argument))
    options: dict[str, Any] = {}
    for name, values in given.items():
        if not values:
            options[name.removeprefix("no_")] = not name.startswith("no_")
        else:
            options[name] = values[0] if len(values) == 1 else tuple(values)
    return options


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def main() -> int:
    from sightline.train import train

    try:
        train(read_recipe(sys.argv[1:]))
    except SightlineError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
