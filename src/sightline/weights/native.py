"""Our own checkpoints: one safetensors file, the card of the model as JSON in its header."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.files import UNSEALED, is_sealed, replacing, seal
from sightline.models import Card, create
from sightline.preprocess import Preprocess
from sightline.types import Classes

FORMAT = "sightline.weights 1"
# What builders and layers raise for options of the wrong kind or size: those in a file are data.
_UNBUILDABLE = (
    *(TypeError, ValueError, AttributeError, LookupError, ArithmeticError),
    *(RuntimeError, AssertionError, MemoryError),
)


@dataclass(frozen=True)
class Weights:
    """A checkpoint in memory, from whichever library: what to build and what to fill it with."""

    source: str  # the name or file, for messages
    card: Card
    preprocess: Preprocess
    tensors: Mapping[str, Tensor]  # by our names


def save(model: nn.Module, path: str | Path) -> None:
    """Write the model's tensors with its card and preprocessing.

    The file is written beside its name and renamed: whoever opens it finds it whole. Tensors that
    share memory (tied weights) are written once.

    Raises:
        SightlineError: the model cannot be built again from plain values or is a fused one, or the
            folder cannot be written to.
    """
    path = Path(path)
    if getattr(model, "fused", False):
        raise SightlineError(f"{path}: a fused model is no checkpoint: save the one it was made of")
    tensors, tied = _untied(model.state_dict())
    metadata = {
        "format": FORMAT,
        "card": card_json(card_of(model), path),
        "preprocess": json.dumps(preprocess_of(model).to_json()),
        "tied": json.dumps(tied),
        "seal": UNSEALED,
    }
    write_tensors(path, tensors, metadata)


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file, whole or not at all, sealed where the metadata are to have a seal.

    Raises:
        SightlineError: it cannot be written.
    """
    with replacing(path) as beside:
        try:
            save_file(tensors, beside, metadata)
        except SafetensorError as error:  # how it reports a full disk
            raise SightlineError(f"{path}: cannot be written ({error})") from error
        seal(beside)


def read_native(path: Path) -> Weights:
    """Raises:
    SightlineError: not one of our checkpoints, or cut short.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            _check_format(path, metadata)
            is_sealed(path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise SightlineError(f"{path}: no checkpoint, or one cut short ({error})") from error
    with header_explained(path):
        for name, same in json.loads(metadata["tied"]).items():
            tensors[name] = tensors[same]
        card = card_from_json(json.loads(metadata["card"]))
        preprocess = Preprocess.from_json(json.loads(metadata["preprocess"]))
    return Weights(str(path), card, preprocess, tensors)


@contextmanager
def header_explained(path: Path) -> Iterator[None]:
    """Around the reading of a header, where anything may stand.

    Raises:
        SightlineError: in place of what its values raise.
    """
    try:
        yield
    except SightlineError as error:
        raise SightlineError(f"{path}: {error}") from error
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise SightlineError(f"{path}: its header is damaged ({error!r:.200})") from error


@contextmanager
def built_explained(source: str, name: str) -> Iterator[None]:
    """Around the building of a model with the options in a header.

    Raises:
        SightlineError: in place of what these raise.
    """
    try:
        yield
    except SightlineError as error:
        raise SightlineError(f"{source}: {error}") from error
    except _UNBUILDABLE as error:
        raise SightlineError(
            f"{source}: no {name} can be built with the options in its header ({error!r:.200})"
        ) from error


def card_from_json(fields: dict[str, Any]) -> Card:
    """The inverse of ``card_json``, read as JSON.

    Raises:
        KeyError, ValueError, TypeError, AttributeError: the JSON is not a card's.
    """
    classes: dict[str, Any] = {
        key: tuple(tuple(v) if isinstance(v, list) else v for v in values)
        for key, values in fields["classes"].items()
    }
    card = Card(fields["model"], fields["options"], Classes(**classes), tuple(fields["history"]))
    known = card.classes
    words = (card.model, *known.names, *known.stuff, *known.keypoints, *card.options)
    ends = (end for pair in known.skeleton for end in pair)
    numbers = (*known.ids, *known.stuff_ids, *known.mirrored, *ends)
    if not all(isinstance(word, str) for word in words):
        raise ValueError("a name that is no text")
    counted = len(known.ids) == len(known) and len(known.stuff_ids) == len(known.stuff)
    if not counted or not all(type(number) is int for number in numbers):
        raise ValueError("its classes have no proper ids")
    marked = range(len(known.keypoints))
    if sorted(known.mirrored) not in ([], [*marked]) or any(
        len(pair) != 2 or not set(pair) <= {*marked} for pair in known.skeleton
    ):
        raise ValueError("its keypoints do not fit one another")
    return card


def build(weights: Weights) -> nn.Module:
    """The model that the card names, filled, in eval mode.

    Raises:
        SightlineError: this version has no such model, or the tensors are another model's.
    """
    card = weights.card
    with built_explained(weights.source, card.model):
        model = create(card.model, card.classes, **card.options)
    if wrong := _differences(model.state_dict(), weights.tensors):
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise SightlineError(
            f"{weights.source}: not the tensors of the {card.model} it names: "
            f"{'; '.join(wrong[:3])}{more}"
        )
    model.load_state_dict(weights.tensors)
    model.card = card
    model.preprocess = weights.preprocess
    return model.eval()


def _check_format(path: Path, metadata: Mapping[str, str]) -> None:
    found = metadata.get("format", "")
    if found == FORMAT:
        return
    if found.startswith("sightline.training"):
        raise SightlineError(
            f"{path}: the state of a training run, not weights; take the best or last weights of "
            "that run"
        )
    if found.startswith("sightline.weights"):
        raise SightlineError(f"{path}: written by another version ({found}, here {FORMAT})")
    raise SightlineError(f"{path}: safetensors, but not a checkpoint of this library")


def card_of(model: nn.Module) -> Card:
    """Raises:
    SightlineError: the model was not built by name.
    """
    card = getattr(model, "card", None)
    if not isinstance(card, Card):
        raise SightlineError(
            "the model has no card to be built again by; register its builder in "
            "sightline.models.MODELS and build it with create()"
        )
    return card


def preprocess_of(model: nn.Module) -> Preprocess:
    preprocess = model.preprocess
    assert isinstance(preprocess, Preprocess)
    return preprocess


def card_json(card: Card, path: Path) -> str:
    """The card as it stands in a checkpoint.

    Raises:
        SightlineError: an option that is no JSON value; ``path`` says of which file.
    """
    for name, value in card.options.items():
        try:
            json.dumps(value)
        except TypeError as error:
            raise SightlineError(
                f"{path}: option {name!r} of {card.model} is no plain value, so the model could "
                "not be built again; register a builder of its own in sightline.models.MODELS"
            ) from error
    return json.dumps(asdict(card))


def _untied(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each tensor once, and by which other name a repeated one is found."""
    tensors: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for name, value in state.items():
        # An empty tensor has no memory to share.
        place = (value.data_ptr(), value.shape, value.stride(), value.dtype, value.device)
        if value.numel() and place in seen:
            tied[name] = seen[place]
            continue
        seen[place] = name
        # safetensors takes neither views of one memory nor other memory formats
        tensors[name] = value.detach().clone(memory_format=torch.contiguous_format).cpu()
    return tensors, tied


def _differences(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    missing = [f"{name} is missing" for name in own if name not in given]
    unknown = [f"{name} is unknown" for name in given if name not in own]
    shapes = [
        f"{name} is {list(given[name].shape)}, not {list(own[name].shape)}"
        for name in own
        if name in given and own[name].shape != given[name].shape
    ]
    common = [(name, own[name], given[name]) for name in own if name in given]
    kinds = [
        f"{name} is of {value.dtype}"
        for name, mine, value in common
        if mine.is_floating_point() != value.is_floating_point()
    ]
    broken = [f"{name} is not finite" for name, _, value in common if not value.isfinite().all()]
    return missing + unknown + shapes + kinds + broken
