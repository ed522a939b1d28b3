"""``python -m sightline.recipes NAME --data DIR --passes 12``: train without the command line's
package, as on a bare machine, or under torchrun (``torchrun -m sightline.recipes NAME ...``).
Options are those of the recipe function and of ``Settings``, and are read by their types.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib import import_module
from inspect import Parameter, getdoc, signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sightline.errors import SightlineError, as_command
from sightline.recipes import RECIPES
from sightline.recipes.recipe import Recipe, Settings


def read_recipe(arguments: Sequence[str]) -> Recipe:
    """The recipe that the arguments name, spelled as on the command line.

    Raises:
        SightlineError: no such recipe or option, or a value of another type.
    """
    function = _function(arguments)
    own, loop = _own(function), [field.name for field in fields(Settings)]
    kinds = get_type_hints(Settings) | get_type_hints(function)
    options = _options(arguments[1:], {name: kinds[name] for name in [*own, *loop]}, arguments[0])
    if "data" not in options:
        raise SightlineError(f"{arguments[0]} needs --data DIR, a folder of labelled pictures")
    settings = Settings(**{name: value for name, value in options.items() if name in loop})
    return function(**{k: v for k, v in options.items() if k in own}, settings=settings)


def explain(arguments: Sequence[str]) -> str:
    """What a recipe is and all its options; of no recipe, which there are.

    Raises:
        SightlineError: no such recipe.
    """
    if not arguments or arguments[0].startswith("-"):
        return "\n".join(f"{name}: {help_line}" for name, (_, help_line) in RECIPES.items())
    function = _function(arguments)
    options = list(_own(function).values()) + list(signature(Settings).parameters.values())
    return "\n".join([getdoc(function) or "", "", "Options:", *(f"  --{o}" for o in options)])


def _function(arguments: Sequence[str]) -> Callable[..., Recipe]:
    name = arguments[0] if arguments else "none"
    if name not in RECIPES:
        raise SightlineError(f"unknown recipe {name}; known: {', '.join(RECIPES)}")
    module, _, function = RECIPES[name][0].partition(":")
    recipe: Callable[..., Recipe] = getattr(import_module(module), function)
    return recipe


def _own(function: Callable[..., Recipe]) -> dict[str, Parameter]:
    """A recipe's options beside those of the loop."""
    return {n: value for n, value in signature(function).parameters.items() if n != "settings"}


def _options(arguments: Sequence[str], kinds: dict[str, Any], recipe: str) -> dict[str, Any]:
    """``--lr 0.1 --size 240 320 --bf16 --no-fpn`` as values by name."""
    given: dict[str, list[str]] = {}
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            given[name.replace("-", "_")] = [value] if equals else []
        elif not given:
            raise SightlineError(f"{argument}: give every value a name, such as --data")
        else:
            given[list(given)[-1]].append(argument)
    options: dict[str, Any] = {}
    for name, texts in given.items():
        plain = name.removeprefix("no_")
        if plain != name and kinds.get(plain) in (bool, bool | None) and not texts:
            options[plain] = False
            continue
        if name not in kinds:
            raise SightlineError(f"{recipe} has no option {name}")
        try:
            options[name] = convert(kinds[name], texts)
        except ValueError as error:
            shown = " ".join(texts) or "nothing"
            raise SightlineError(
                f"--{name.replace('_', '-')} takes {_told(kinds[name])}, not {shown}"
            ) from error
    return options


def convert(kind: Any, texts: Sequence[str]) -> Any:
    """The words behind an option as a value of a type.

    Raises:
        ValueError: they are none.
    """
    inner = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return _first(inner, texts)
    if get_origin(kind) is tuple and len(texts) == len(inner):
        return tuple(convert(k, [text]) for k, text in zip(inner, texts, strict=True))
    if kind is bool and list(texts) in ([], ["true"], ["false"]):
        return list(texts) != ["false"]
    if len(texts) != 1:
        raise ValueError("not one word")
    if get_origin(kind) is Literal and texts[0] in inner:
        return texts[0]
    if kind in (int, float, str, Path):
        return kind(texts[0])
    raise ValueError("of no such type")


def _first(kinds: Sequence[Any], texts: Sequence[str]) -> Any:
    for kind in kinds:
        if kind is not NoneType:
            try:
                return convert(kind, texts)
            except ValueError:
                continue
    raise ValueError("of none of the types")


def _told(kind: Any) -> str:
    """A type in words."""
    inner = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        words = (_told(k) for k in inner if k is not NoneType)
        return " or ".join(dict.fromkeys(words))
    if get_origin(kind) is tuple:
        return f"{len(inner)} values, each {_told(inner[0])}"
    if get_origin(kind) is Literal:
        return " or ".join(map(str, inner))
    words_of = {int: "a whole number", float: "a number", bool: "no value (or true or false)"}
    return words_of.get(kind, "a word")


def main() -> int:
    return as_command(lambda: _run(sys.argv[1:]))


def _run(arguments: Sequence[str]) -> int:
    if "--help" in arguments:
        print(explain(arguments))
        return 0
    from sightline.train import train

    train(read_recipe(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
