"""What a run is: a model, data, an optimiser, a schedule and the settings of the loop.

A recipe holds plain values and callables, so that nothing is built before the seed is set, and it
is saved as JSON with the run: a function is written as its dotted name and its arguments.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_type_hints

from sightline.errors import SightlineError

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from sightline.data.packed import Splits
    from sightline.data.transforms import Augment
    from sightline.types import Classes


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every knob of the training loop.

    Raises:
        SightlineError: a value outside its range.
    """

    out: Path | str | None = None
    """Folder of the run; left out, runs/NAME with the name of the recipe."""
    passes: int | None = None
    """How many times every picture is seen; left out, as the recipe says."""
    batch: int | None = None
    """Pictures a step, over all processes; left out, as the recipe says."""
    lr: float | None = None
    """Learning rate where the schedule is at its height; left out, as the recipe says."""
    clip: float | None = None
    """Largest norm of the gradient, 0 for no limit; left out, as the recipe says."""
    weights: str | None = None
    """Fine-tune from these: a public name or a checkpoint file."""
    freeze: int | None = None
    """Stages of the backbone kept as they are, 1 for the stem; left out, as the recipe says."""
    seed: int = 0
    """Of the first weights and of every random choice."""
    accumulate: int = 1
    """Work through a batch in so many parts: less memory, the same gradient (where BatchNorm is
    frozen: otherwise it sees each part alone), a third slower."""
    ema: float = 0.0
    """Decay of the moving average of the weights, such as 0.999; 0 for none."""
    bf16: bool = False
    """Compute in bfloat16 where it is safe."""
    compile: bool = False
    """Compile the dense part of the model: slow to start, faster on a GPU."""
    device: str = "auto"
    """auto, cpu, cuda, or cuda:1 for the second GPU."""
    deterministic: bool = False
    """On a GPU, only operations that give the same bits each time; a CPU always does."""
    workers: int = 2
    """Processes that read pictures, for each process that trains."""
    evaluate_every: int = 1
    """Passes from one validation to the next; the last pass is always validated."""
    save_every: int = 500
    """Steps from one checkpoint to the next within a pass; 0 for one at each pass alone."""
    log_every: int = 20
    """Steps from one line of the log to the next."""
    patience: int = 0
    """Stop after so many validations without a better AP; 0 to go on to the end."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(Settings).items():
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not isinstance(value, kind) and not (whole and isinstance(0.5, kind)):
                raise SightlineError(f"{name} is set to a {type(value).__name__}: {value!r:.40}")
        least = {"passes": 1, "batch": 1, "accumulate": 1, "evaluate_every": 1, "log_every": 1}
        least |= dict.fromkeys(("clip", "freeze", "seed", "workers"), 0)
        least |= dict.fromkeys(("save_every", "patience"), 0)
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and not value >= lowest:  # NaN is not
                raise SightlineError(f"{name} must be at least {lowest}, not {value}")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise SightlineError(f"lr must be above 0 and finite, not {self.lr}")
        if not 0 <= self.ema < 1:
            raise SightlineError(f"ema must be at least 0 and below 1, not {self.ema}")
        if not re.fullmatch(r"auto|(cpu|cuda)(:(0|[1-9]\d?))?", self.device):
            raise SightlineError(f"device must be auto, cpu or cuda, not {self.device}")

    def otherwise(self, **chosen: float) -> "Settings":
        """These settings, with the recipe's choice for each that was left out (None)."""
        missing = {name: value for name, value in chosen.items() if getattr(self, name) is None}
        return replace(self, **missing)  # type: ignore[arg-type]


AS_THE_RECIPE_SAYS = Settings()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One run, before anything of it is built. Functions must be importable by name, with
    ``functools.partial`` for their arguments, which must be plain values."""

    name: str
    model: Callable[["Classes"], "nn.Module"]
    data: Callable[[], "Splits"]
    augment: "Augment | None"
    optimizer: Callable[..., "Optimizer"]  # (model, lr=) -> Optimizer
    schedule: Callable[[int, int], float]  # (step, steps) -> factor on the learning rate
    settings: Settings

    def __post_init__(self) -> None:
        missing = [n for n in ("passes", "batch", "lr") if getattr(self.settings, n) is None]
        if missing:
            raise SightlineError(f"recipe {self.name}: its settings lack {', '.join(missing)}")
        for name in ("model", "data", "optimizer", "schedule"):
            if not callable(getattr(self, name)):
                raise SightlineError(f"recipe {self.name}: its {name} is no function")

    @property
    def passes(self) -> int:
        return cast(int, self.settings.passes)

    @property
    def batch(self) -> int:
        return cast(int, self.settings.batch)

    @property
    def folder(self) -> Path:
        return Path(self.settings.out or f"runs/{self.name}")

    def to_json(self) -> dict[str, Any]:
        """JSON values alone.

        Raises:
            SightlineError: a function without a name to import it by, or an argument that is no
                plain value.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        settings = {f.name: getattr(self.settings, f.name) for f in fields(Settings)}
        encoded = {name: _encode(value, name) for name, value in values.items()}
        return encoded | {"settings": _encode(settings, "settings")}

    @classmethod
    def from_json(cls, values: Any) -> "Recipe":
        """The inverse of ``to_json``, of a document in which anything may stand. It imports the
        functions that are named: read only files you would also run.

        Raises:
            SightlineError: a field that a recipe does not have or lacks; a function that is gone.
        """
        settings = values.get("settings") if isinstance(values, Mapping) else None
        if not isinstance(settings, Mapping):
            raise SightlineError("recipe: not the fields of one, settings among them")
        _check_names("recipe", set(values), {f.name for f in fields(cls)}, complete=True)
        _check_names("settings", set(settings), {f.name for f in fields(Settings)})
        try:
            built = {name: _decode(v) for name, v in values.items() if name != "settings"}
            chosen = Settings(**{k: _decode(v) for k, v in settings.items()})
            return cls(**built, settings=chosen)
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
            raise SightlineError(f"recipe: a value that fits nothing ({error!r:.200})") from error


def _encode(value: Any, where: str) -> Any:
    """A function as ``{"function": name, "arguments": {...}}``, a dataclass as ``{"value": name,
    "fields": {...}}``, tuples as lists, paths as text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_encode(item, where) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _encode(item, f"{where}.{name}") for name, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        named = {f.name: getattr(value, f.name) for f in fields(value)}
        return {"value": _dotted(type(value), where), "fields": _encode(named, where)}
    function = value.func if isinstance(value, partial) else value
    if not callable(function):
        raise SightlineError(f"recipe: {where} holds a {type(value).__name__}, no plain value")
    if isinstance(value, partial) and value.args:
        raise SightlineError(f"recipe: give the arguments of {where} by name")
    arguments = value.keywords if isinstance(value, partial) else {}
    return {"function": _dotted(function, where), "arguments": _encode(arguments, where)}


def _dotted(function: Any, where: str) -> str:
    name = getattr(function, "__qualname__", "<nameless>")
    if "<" in name:
        raise SightlineError(f"recipe: {where} is {name}, which cannot be imported by name")
    return f"{function.__module__}.{name}"


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decode(item) for item in value)
    if not isinstance(value, dict):
        return value
    if set(value) == {"function", "arguments"}:
        arguments = {name: _decode(item) for name, item in value["arguments"].items()}
        function = _imported(value["function"])
        return partial(function, **arguments) if arguments else function
    if set(value) == {"value", "fields"}:
        kind, named = _imported(value["value"]), value["fields"]
        _check_names(value["value"], set(named), {f.name for f in fields(kind)})
        return kind(**{name: _decode(item) for name, item in named.items()})
    return {name: _decode(item) for name, item in value.items()}


def _imported(dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SightlineError(f"recipe: there is no {dotted} to import") from error


def _check_names(what: str, given: set[str], known: set[str], complete: bool = False) -> None:
    if given - known:
        raise SightlineError(f"{what}: unknown field {', '.join(sorted(given - known))}")
    if complete and known - given:
        raise SightlineError(f"{what}: missing field {', '.join(sorted(known - given))}")
