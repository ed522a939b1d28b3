"""Several models and several views: what ``predict`` and ``evaluate`` can be told alike, and which
of the arguments are models."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from sightline.cli.computing import Computing
from sightline.errors import SightlineError

_CHECKPOINTS = (".safetensors", ".pth", ".pt", ".pkl")


@Parameter(name="*")
@dataclass(frozen=True)
class Looking:
    flips: Annotated[
        tuple[Literal["horizontal", "vertical"], ...],
        Parameter(consume_multiple=True, negative=()),
    ] = ()
    """Look at photos mirrored as well: horizontal (left and right exchanged), vertical, or both."""
    turns: Annotated[bool, Parameter(negative=())] = False
    """Look at photos turned by each quarter turn as well."""
    scales: Annotated[tuple[float, ...], Parameter(consume_multiple=True, negative=())] = ()
    """Look at photos so many times as large as well (0.8 1.25); every combination is one look."""
    weights: Annotated[tuple[float, ...], Parameter(consume_multiple=True, negative=())] = ()
    """How much each model counts, in their order; left out, all alike."""
    fuse: Literal["wbf", "soft-nms", "soft-nms-linear", "nms"] = "wbf"
    """How boxes of several looks become one answer, in docs/ensembles.md; maps are averaged."""

    def open(self, models: Sequence[str], computing: Computing) -> Any:
        """The one model, or all that is asked for as one."""
        if len(models) == 1 and self == PLAINLY:
            return computing.open(models[0])
        from sightline.ensemble import ensemble

        how = asdict(computing)
        del how["batch"]
        return ensemble(list(models), **asdict(self), **how)


PLAINLY = Looking()


def models_and_rest(first: str, others: Sequence[str]) -> tuple[list[str], list[str]]:
    """The first argument is a model, and so are those after it, up to the first that is none.

    Raises:
        SightlineError: a model comes later, or one argument could be either.
    """
    models = [first, *takewhile(is_model, others)]
    rest = list(others[len(models) - 1 :])
    if late := next(filter(is_model, rest), None):
        raise SightlineError(f"{late} is a model: name all models first")
    return models, rest


def is_model(argument: str) -> bool:
    """A public name, the folder of a run, or a file named as checkpoints and exported files are,
    whether it is there or not.

    Raises:
        SightlineError: it could be something else as well.
    """
    from sightline import weights
    from sightline.data.find import is_folder
    from sightline.runtime import SUFFIXES

    path = Path(argument)
    if argument in weights.NAMES:
        if path.exists():
            raise SightlineError(
                f"{argument} is the name of public weights, and here is a file or folder of that "
                f"name: write ./{argument} for that, or name the weights first"
            )
        return True
    if not is_folder(path):
        return path.suffix.lower() in (*_CHECKPOINTS, *SUFFIXES)
    found = weights.of_run(path)
    if found is not None and _holds_photos(path):
        raise SightlineError(
            f"{argument} is the folder of a run and holds photos: name {found}, or the photos "
            f'("{path / "*.jpg"}")'
        )
    return found is not None


def _holds_photos(folder: Path) -> bool:
    from sightline.data.sources import find_sources

    try:
        return any(True for _ in find_sources(folder))
    except SightlineError:  # there are none
        return False
