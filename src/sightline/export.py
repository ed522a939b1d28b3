"""A model as one file that runs without this library: ONNX or OpenVINO, suppression inside, with
dynamic batch, height and width, and the class names and preprocessing in the file.

The graph takes what ``Preprocess`` gives: ``pixels`` [B, 3, H, W], normalised and padded, and
``sizes`` [B, 2], height and width of each picture inside its padding. It gives the tensors that
``select`` gives: of a detector ``boxes`` [B, D, 4] in pixels of the batch, ``scores`` [B, D] (-1 in
an empty slot) and ``labels`` [B, D].
"""

import copy
import json
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils import _pytree as pytree

from sightline import weights
from sightline.data.folder import open_split
from sightline.data.images import read_image
from sightline.data.sources import find_sources
from sightline.errors import SightlineError
from sightline.files import replacing
from sightline.fuse import fold_norms
from sightline.ops.suppress import EMPTY
from sightline.runtime import Exported, Header
from sightline.shapes import Float, UInt8
from sightline.types import Images
from sightline.weights.native import card_json, card_of

Target = Literal["onnx", "openvino"]
SUFFIX = {"onnx": ".onnx", "openvino": ".xml"}

_OPSET = 20
_PIXELS, _SCORE = 0.05, 1e-3  # how far boxes and scores may be from the model's
_UNMATCHED = 0.03  # share of detections: near ties that flip in the suppression
_RELATIVE = 1e-3  # of the largest value, for whatever else is answered
_SHOWN = 4  # pictures compared, if the run's own are taken


class Agreement(NamedTuple):
    """How the answers of two forms of one model compare."""

    matched: int  # detections with a partner of their class within the tolerances
    unmatched: int  # those without, on either side
    pixels: float  # largest distance of a coordinate
    score: float  # largest distance of a score
    relative: float  # of all other answers, to their largest value

    def __add__(self, other: "Agreement") -> "Agreement":  # type: ignore[override]
        counts = (self.matched + other.matched, self.unmatched + other.unmatched)
        return Agreement(*counts, *map(max, self[2:], other[2:]))

    @property
    def holds(self) -> bool:
        few = self.unmatched <= _UNMATCHED * (2 * self.matched + self.unmatched)
        return few and self.relative <= _RELATIVE

    def __str__(self) -> str:
        return (
            f"{self.matched} detections equal ({self.pixels:.1e} px, {self.score:.1e} in score), "
            f"{self.unmatched} without a partner; other answers to {self.relative:.1e}"
        )


def export(
    model: Any,
    out: str | Path,
    to: Target = "onnx",
    photos: Any = None,
    regions: Sequence[Float[Tensor, "_ 4"]] | None = None,
) -> Agreement:
    """Write a model as one file (of OpenVINO, ``.xml`` with a ``.bin`` beside it), after its
    answers on photos have been compared with the model's: photo by photo, and all as one batch.

    Args:
        model: a model, or the file or public name of a checkpoint.
        out: the file; ``sightline predict`` and ``evaluate`` take it in place of a checkpoint.
        photos: files, folders or globs to compare on; left out, some of those that the run of the
            checkpoint was measured on.
        regions: where a model takes proposals from outside, those of each photo, in its pixels; the
            file then takes a third input, ``regions`` [B, R, 4], as ``Images`` has them.

    Raises:
        SightlineError: answers differ, the model cannot be built again from plain values, a package
            is missing, or nothing can be written.
    """
    path = Path(out)
    pictures = _pictures(model, photos)
    if regions is not None and len(regions) != len(pictures):
        raise SightlineError(f"regions are of {len(regions)} photos, but there are {len(pictures)}")
    if isinstance(model, str | Path):
        model = weights.load(model)
    card_json(card_of(model), path)  # refused now, not after the conversion
    model = copy.deepcopy(model).eval().requires_grad_(False).cpu()
    header = Header.of(model)
    twice = [*range(len(pictures))] * (2 if len(pictures) == 1 else 1)
    batch = _batch(model, pictures, regions, twice)
    graph = copy.deepcopy(model)
    fold_norms(graph)
    writer = write_onnx if to == "onnx" else write_openvino
    with ExitStack() as files:
        beside = files.enter_context(replacing(path))
        if to == "openvino":  # its weights are a file of their own
            files.enter_context(replacing(path.with_suffix(".bin")))
        writer(graph, batch, header, beside)
        agreement = compare(model, Exported.open(beside), pictures, regions)
        if not agreement.holds:
            raise SightlineError(
                f"{path} was not written: its answers are not the model's ({agreement})"
            )
    return agreement


def write_onnx(model: nn.Module, batch: Images, header: Header, path: Path) -> None:
    """The graph with standard operators alone; ``batch`` is an example of what it will take.

    Raises:
        SightlineError: onnx or onnxscript is not installed.
    """
    try:
        import onnx
        import onnxscript
    except ImportError as error:
        raise SightlineError("exporting needs pip install 'sightline[export]'") from error
    del onnx, onnxscript
    from sightline.onnx_operators import translations

    program = to_graph(model, batch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the converter, about itself
        converted = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=_OPSET,
            custom_translation_table=translations(),
            verbose=False,
        )
    assert converted is not None
    converted.model.metadata_props.update(header.to_text())
    converted.save(path)


def to_graph(model: nn.Module, batch: Images) -> torch.export.ExportedProgram:
    """``outputs`` + ``select`` whole, open in batch, height and width; of a model with a fixed
    input size, in the batch. ``batch`` holds two pictures or more."""
    auto, dynamic = torch.export.Dim.AUTO, torch.export.Dim.DYNAMIC
    fixed = getattr(model.preprocess, "fixed", None) is not None
    shapes: dict[str, Any] = {
        "pixels": {0: dynamic} if fixed else {0: dynamic, 2: auto, 3: auto},
        "sizes": {0: dynamic},
    }
    given = {"pixels": batch.pixels, "sizes": batch.sizes}
    if batch.regions is not None:
        given["regions"], shapes["regions"] = batch.regions, {0: dynamic, 1: auto}
    with torch.no_grad():
        return torch.export.export(_ByName(model), (), given, dynamic_shapes=shapes)


class _ByName(nn.Module):
    """A graph's inputs are tensors by name."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, sizes: Tensor, regions: Tensor | None = None) -> Any:
        return self.model(Images(pixels, sizes, regions))


def write_openvino(model: nn.Module, batch: Images, header: Header, path: Path) -> None:
    """By way of ONNX.

    Raises:
        SightlineError: openvino, onnx or onnxscript is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise SightlineError("this needs pip install 'sightline[openvino]'") from error
    between = path.with_suffix(".onnx")
    try:
        write_onnx(model, batch, header, between)
        graph = openvino.convert_model(between)
        for name, value in (header.to_text() | {"precision": "f32"}).items():
            graph.set_rt_info(value, ["sightline", name])
        openvino.save_model(graph, path, compress_to_fp16=False)
    finally:
        between.unlink(missing_ok=True)


def compare(
    model: Any,
    other: Any,
    pictures: Sequence[UInt8[Tensor, "3 _ _"]],
    regions: Sequence[Float[Tensor, "_ 4"]] | None = None,
) -> Agreement:
    """The answers of both, picture by picture and of all as one padded batch."""
    agreement = Agreement(0, 0, 0.0, 0.0, 0.0)
    every = range(len(pictures))
    for rows in [*([row] for row in every), every]:
        images = _batch(model, pictures, regions, rows)
        with torch.no_grad():
            agreement += agree(model(images), other(images))
    return agreement


def _batch(
    model: Any,
    pictures: Sequence[UInt8[Tensor, "3 _ _"]],
    regions: Sequence[Float[Tensor, "_ 4"]] | None,
    rows: Sequence[int],
) -> Images:
    """Some of the pictures together, with their regions."""
    images, placements = model.preprocess([pictures[row] for row in rows])
    if regions is None:
        return images
    placed = [place.boxes(regions[row]) for place, row in zip(placements, rows, strict=True)]
    return images._replace(regions=pad_sequence(placed, batch_first=True))


def agree(ours: Any, theirs: Any) -> Agreement:
    """Detections are paired; whatever else is answered about them is compared pair by pair."""
    if not hasattr(ours, "scores"):
        pairs = zip(pytree.tree_leaves(ours), pytree.tree_leaves(theirs), strict=True)
        return Agreement(0, 0, 0.0, 0.0, max(_relative(a, b) for a, b in pairs))
    total = Agreement(0, 0, 0.0, 0.0, 0.0)
    for row in range(len(ours.scores)):
        one, two = (pytree.tree_map(lambda v: v[row], given) for given in (ours, theirs))  # noqa: B023
        total += _agree_on_one(one, two)
    return total


def _agree_on_one(ours: Any, theirs: Any) -> Agreement:
    mine, partner = _pairs(ours, theirs)
    filled = int((ours.scores > EMPTY).sum() + (theirs.scores > EMPTY).sum())
    if len(mine) == 0:
        return Agreement(0, filled, 0.0, 0.0, 0.0)
    skip = ("boxes", "scores", "labels")
    rest = [
        _relative(a[mine], b[partner])
        for name in ours._fields
        if name not in skip
        for a, b in zip(
            pytree.tree_leaves(getattr(ours, name)),
            pytree.tree_leaves(getattr(theirs, name)),
            strict=True,
        )
    ]
    return Agreement(
        len(mine),
        filled - 2 * len(mine),
        (ours.boxes[mine] - theirs.boxes[partner]).abs().max().item(),
        (ours.scores[mine] - theirs.scores[partner]).abs().max().item(),
        max(rest, default=0.0),
    )


def _pairs(ours: Any, theirs: Any) -> tuple[list[int], list[int]]:
    """Slots of the one and of the other that say the same, each used once, best first."""
    near = (ours.boxes[:, None] - theirs.boxes).abs().amax(-1) <= _PIXELS
    near &= (ours.scores[:, None] - theirs.scores).abs() <= _SCORE
    near &= ours.labels[:, None] == theirs.labels
    near &= (ours.scores > EMPTY)[:, None] & (theirs.scores > EMPTY)
    mine, partner = [], []
    for slot in range(len(near)):
        candidates = near[slot].nonzero().flatten().tolist()
        free = next((c for c in candidates if c not in partner), None)
        if free is not None:
            mine.append(slot)
            partner.append(free)
    return mine, partner


def _relative(ours: Tensor, theirs: Tensor) -> float:
    largest = ours.abs().max().item() if ours.numel() else 0.0
    return (ours - theirs).abs().max().item() / max(largest, 1e-6) if ours.numel() else 0.0


def _pictures(model: Any, photos: Any) -> list[UInt8[Tensor, "3 _ _"]]:
    """The photos to compare on, or some that the run of the checkpoint was measured on.

    Raises:
        SightlineError: none can be found.
    """
    if photos is not None:
        return [read_image(str(photo)) for photo in find_sources(photos)]
    run = Path(model).with_name("run.json") if isinstance(model, str | Path) else None
    if run is None or not run.is_file():
        raise SightlineError(
            "name a few photos to compare the answers on: only the checkpoint of a run knows some"
        )
    try:
        given = json.loads(run.read_text())["recipe"]["data"]["arguments"]
        path, val, seed = Path(given["path"]), given["val"], given["seed"]
    except (ValueError, KeyError, TypeError) as error:
        raise SightlineError(f"{run} names no folder of photos: name some") from error
    measured = open_split(path, "val", val, seed)
    return [measured.picture(index) for index in range(min(_SHOWN, len(measured)))]
