"""Fine-tuning: what of a checkpoint fits a model for another list of classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.models import Card
from sightline.weights.native import Weights, card_of, preprocess_of


class Block(NamedTuple):
    """The rows of one class in a last layer, and how often the list of classes is repeated."""

    rows: int
    anchors: int | None = 1  # None: as often as the tensor has rows for it and background
    maps: bool = False  # the classes of label maps: things, then stuff


# Layers with a block of rows for each class (and background's rows, if any, after them), for each
# anchor of a cell. What their rows mean depends on the list of classes even where the shapes agree.
CLASS_ROWS = {
    "box_head.class_score": Block(1),
    "box_head.box_shift": Block(4),
    "class_head.last": Block(1, anchors=9),  # RetinaNet
    "box_head.last": Block(4, anchors=9),
    "class_head.last.0": Block(1),  # FCOS
    **{f"class_head.convs.{level}": Block(1, anchors=None) for level in range(12)},  # SSD
    **{f"class_head.convs.{level}.1": Block(1, anchors=None) for level in range(6)},  # SSDLite
    "head.score": Block(1, maps=True),  # FCN
    "auxiliary_head.score": Block(1, maps=True),
    "score": Block(1, maps=True),  # U-Net
}

LOADED = "loaded"
BY_NAME = "loaded by class name"
NEW_CLASSES = "new: no class of the file is wanted here"
MISSING = "new: not in the file"
SHAPE = "left out: another shape"
UNKNOWN = "left out: not in this model"


class Row(NamedTuple):
    """What became of one tensor."""

    name: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True)
class Transfer:
    """What became of every tensor of the model and of the file."""

    source: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def table(self) -> str:
        """A line for each part of the model and outcome, for people."""
        groups: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            depth = 1 if row.outcome == LOADED else 3
            part = ".".join(row.name.split(".")[:-1][:depth])
            groups.setdefault((part, row.outcome), []).append(row)
        width = max(len(part) for part, _ in groups)
        lines = [f"weights from {self.source}:"]
        for (part, outcome), rows in groups.items():
            detail = f" ({rows[0].detail})" if rows[0].detail else ""
            count = f"{len(rows):4} tensor{' ' if len(rows) == 1 else 's'}"
            lines.append(f"  {part:<{width}} {count}  {outcome}{detail}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def transfer_weights(model: nn.Module, weights: Weights) -> Transfer:
    """Copy into the model, in place, every tensor of the file that fits by name and shape; of the
    layers that have rows for classes, the rows of the classes that both name.

    Raises:
        SightlineError: nothing fits, or the backbone is another.
    """
    card, state = card_of(model), model.state_dict()
    rows = []
    with torch.no_grad():
        for name, value in state.items():
            given = weights.tensors.get(name)
            if given is None:
                rows.append(Row(name, MISSING))
            elif (block := _block_of(model, name.rpartition(".")[0])) is not None:
                names = (
                    classes.in_maps if block.maps else classes.names
                    for classes in (card.classes, weights.card.classes)
                )
                rows.append(_by_class(name, value, given, block, *names))
            elif given.shape != value.shape:
                rows.append(Row(name, SHAPE, _shapes(value, given)))
            else:
                value.copy_(given)
                rows.append(Row(name, LOADED))
    rows += [Row(name, UNKNOWN) for name in weights.tensors if name not in state]
    if not any(row.outcome.startswith(LOADED) for row in rows):
        raise SightlineError(
            f"{weights.source}: nothing of this {weights.card.model} fits the {card.model} "
            "to be trained"
        )
    _check_backbone(card, weights, rows)
    return Transfer(weights.source, tuple(rows), _notes(model, weights, rows))


def _check_backbone(card: Card, weights: Weights, rows: Sequence[Row]) -> None:
    """A backbone filled in part would be trained, or even frozen, with the rest at random."""
    wanted, fitting = _of_backbone(rows)
    own, given = (c.options.get("backbone", "its own") for c in (card, weights.card))
    if fitting < wanted and (fitting == 0 or own != given):
        raise SightlineError(
            f"{weights.source}: its backbone is {given}, the model's {own}: of {wanted} tensors "
            f"{fitting} fit; build the same backbone"
        )


def _of_backbone(rows: Sequence[Row]) -> tuple[int, int]:
    """How many tensors the model's backbone has, and how many of them were loaded."""
    outcomes = [r.outcome for r in rows if r.name.startswith("backbone.") and r.outcome != UNKNOWN]
    return len(outcomes), outcomes.count(LOADED)


def _block_of(model: nn.Module, layer: str) -> Block | None:
    """None where no class has rows in it. A norm in the towers of RetinaNet has the name of a last
    layer of SSDLite's."""
    if isinstance(model.get_submodule(layer), (nn.Conv2d, nn.Linear)):
        return CLASS_ROWS.get(layer)
    return None


def _by_class(
    name: str,
    own: Tensor,
    given: Tensor,
    block: Block,
    wanted: Sequence[str],
    known: Sequence[str],
) -> Row:
    """Copy the blocks of the classes that both lists name, and background's."""
    rows = block.rows
    anchors = block.anchors or max(1, len(given) // (rows * (len(known) + 1)))
    if (
        len(own) == len(given) == rows * anchors and max(len(wanted), len(known)) > 1
    ):  # class-agnostic
        own.copy_(given)
        return Row(name, LOADED)
    extra = len(own) // anchors - rows * len(wanted)
    fitting = (anchors * (rows * len(known) + extra), *own.shape[1:])
    if given.shape != fitting:
        return Row(name, SHAPE, _shapes(own, given))
    pairs = matching(wanted, known)
    if not pairs:
        return Row(name, NEW_CLASSES)
    here, there = (values.unflatten(0, (anchors, -1)) for values in (own, given))
    for mine, theirs in pairs:
        here[:, mine * rows :][:, :rows] = there[:, theirs * rows :][:, :rows]
    if extra:
        here[:, -extra:] = there[:, -extra:]
    return Row(name, BY_NAME, _which(wanted, [mine for mine, _ in pairs]))


def matching(wanted: Sequence[str], known: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of positions at which the two lists name one class: letter by letter, or else upper and
    lower case alike."""
    exact = {name: index for index, name in enumerate(known)}
    alike = {name.casefold().strip(): index for index, name in enumerate(known)}
    found = [exact.get(name, alike.get(name.casefold().strip())) for name in wanted]
    return [(mine, theirs) for mine, theirs in enumerate(found) if theirs is not None]


def _which(names: Sequence[str], loaded: Sequence[int]) -> str:
    if len(loaded) == len(names):
        return f"all {len(names)}"
    new = [name for index, name in enumerate(names) if index not in loaded]
    shown = ", ".join(new[:5]) + (", ..." if len(new) > 5 else "")
    return f"{len(loaded)} of {len(names)}; new: {shown}"


def _notes(model: nn.Module, weights: Weights, rows: Sequence[Row]) -> tuple[str, ...]:
    own, given = preprocess_of(model), weights.preprocess
    notes = [
        f"note: the file's model takes pictures with {field} {getattr(given, field)}, this one "
        f"with {getattr(own, field)}"
        for field in ("channels", "mean", "std")
        if getattr(own, field) != getattr(given, field)
    ]
    wanted, fitting = _of_backbone(rows)
    if fitting < wanted:
        notes.append(f"note: of {wanted} tensors of the backbone {fitting} fit")
    return tuple(notes)


def _shapes(own: Tensor, given: Tensor) -> str:
    there, here = ("x".join(map(str, tensor.shape)) for tensor in (given, own))
    return f"{there} in the file, {here} here"
