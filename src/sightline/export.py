"""A model as one file that runs without this library: ONNX or OpenVINO, suppression inside, with
dynamic batch, height and width, and the class names and preprocessing in the file. In float32, with
the model's answers; or, where that is asked for, in 8-bit integers or bfloat16.

The graph takes what ``Preprocess`` gives: ``pixels`` [B, 3, H, W], normalised and padded, and
``sizes`` [B, 2], height and width of each picture inside its padding. It gives the tensors that
``select`` gives: of a detector ``boxes`` [B, D, 4] in pixels of the batch, ``scores`` [B, D] (-1 in
an empty slot) and ``labels`` [B, D]; of a segmenter the ``logits`` [B, C, H, W] of label maps.
"""

import copy
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from sightline import weights
from sightline.agreement import NOTHING, Agreement, agree
from sightline.data.folder import open_dataset
from sightline.data.images import read_image
from sightline.data.packed import Dataset, Splits
from sightline.data.sources import find_sources
from sightline.data.video import is_video
from sightline.errors import SightlineError
from sightline.evaluate import MAIN, check, evaluate, kind_of
from sightline.files import replacing, seal
from sightline.fuse import fold_norms
from sightline.quantize import Cost, quantize
from sightline.runtime import Exported, Header, Precision, files_of
from sightline.shapes import Float, UInt8
from sightline.types import Images
from sightline.weights.native import card_json, card_of

Target = Literal["onnx", "openvino"]
SUFFIXES = {"onnx": (".onnx",), "openvino": (".xml", ".bin")}  # the name's first

_OPSET = 20
_SHOWN = 4  # pictures compared, if they are taken from labelled ones; and in one batch
_NAMED = 16  # pictures compared, if they are named, at most
_SEEN = 64  # pictures on which the ranges of values are seen, at most


class Report(NamedTuple):
    """What was seen of a file before it got its name."""

    agreement: Agreement  # of its float32 form with the model
    cost: Cost | None = None  # of int8


def export(
    model: Any,
    out: str | Path,
    to: Target = "onnx",
    photos: Any = None,
    regions: Sequence[Float[Tensor, "_ 4"]] | None = None,
    *,
    precision: Precision = "f32",
    data: Splits | str | Path | None = None,
) -> Report:
    """Write a model as one file (of OpenVINO, ``.xml`` with a ``.bin`` beside it), after its
    answers on photos have been compared with the model's: photo by photo, and in batches of four.

    Another precision than float32 is made of what was so compared. "int8" has its layers in 8 bits
    (``sightline.quantize``); what that costs is measured. "bf16", of OpenVINO alone, has the same
    weights and asks the runtime to calculate in bfloat16.

    Args:
        model: a model, or the file or public name of a checkpoint.
        out: the file; ``sightline predict`` and ``evaluate`` take it in place of a checkpoint.
        photos: files, folders or globs: to compare on (16 at most, evenly taken), or, for int8, to
            see the ranges of values on (64 at most); left out, pictures of ``data``.
        data: labelled pictures, or their folder: int8 sees ranges on its train and is measured on
            its val, where answers are compared too; left out, those of the checkpoint's run.
        regions: where a model takes proposals from outside, those of each photo compared on, in its
            pixels; the file then takes a third input, ``regions`` [B, R, 4], as `Images` does.

    Raises:
        SightlineError: answers differ or there are none, the model cannot be built again from plain
            values, there are no pictures, a package is missing, bf16 is asked of ONNX, or nothing
            can be written.
    """
    path = Path(out)
    _check(path, to, precision)
    given = _given(model, photos, data, precision)
    if regions is not None and len(regions) != len(given.compared):
        count = len(given.compared)
        raise SightlineError(f"regions are of {len(regions)} photos, but there are {count}")
    if regions is not None and precision == "int8":
        raise SightlineError("int8 is not for models that take regions from outside")
    if isinstance(model, str | Path):
        model = weights.load(model)
    if getattr(model, "fused", False):
        raise SightlineError("a fused model cannot be exported: give the one it was made of")
    card_json(card_of(model), path)  # refused now, not after the conversion
    model = copy.deepcopy(model).eval().requires_grad_(False).cpu()
    if precision == "int8":
        check(kind_of(model), None)
    header, cost = Header.of(model), None
    with _place(path, to) as folder:
        graph = folder / "f32.onnx"
        two = (0, min(1, len(given.compared) - 1))
        example = _batch(model, given.compared, regions, two)
        write_onnx(_folded(model), example, header, graph)
        exact = form = _in_form(to, graph, header)
        agreement = compare(model, Exported.open(exact), given.compared, regions)
        _accept(path, agreement)
        header = header._replace(precision=precision)
        if precision == "bf16":
            form = _in_form(to, graph, header)
        elif precision == "int8":
            batches = (model.preprocess([picture])[0] for picture in given.seen)
            quantize(graph, folder / "int8.onnx", batches, header.to_text())
            form = _in_form(to, folder / "int8.onnx", header)
            cost = _cost(exact, form, given.measured)
        for suffix in SUFFIXES[to]:
            form.with_suffix(suffix).replace(folder / f"done{suffix}")
        seal(*files_of(folder / f"done{SUFFIXES[to][0]}"))
    return Report(agreement, cost)


def _accept(path: Path, agreement: Agreement) -> None:
    """Raises:
    SightlineError: answers differ, or there was none to compare.
    """
    if not agreement.holds:
        raise SightlineError(
            f"{path} was not written: its answers are not the model's ({agreement})"
        )
    if agreement == NOTHING:
        raise SightlineError(
            f"{path} was not written: the model finds nothing on the photos, so that nothing was "
            "compared; name photos of what it knows"
        )


def _check(path: Path, to: Target, precision: Precision) -> None:
    """Before the work.

    Raises:
        SightlineError: the name is another format's, a file that goes with it is somebody else's,
            bf16 is asked of ONNX, or a package is missing.
    """
    if path.suffix != SUFFIXES[to][0]:
        raise SightlineError(f"{path}: the file of {to} ends in {SUFFIXES[to][0]}")
    for suffix in SUFFIXES[to][1:]:
        if path.with_suffix(suffix).exists() and not path.exists():
            raise SightlineError(
                f"{path.with_suffix(suffix)} exists without {path.name}: give another name"
            )
    if precision == "bf16" and to != "openvino":
        raise SightlineError("bf16 is for OpenVINO alone: ask for it with --to openvino")
    if to == "openvino" and find_spec("openvino") is None:
        raise SightlineError("this needs pip install 'sightline[openvino]'")


@contextmanager
def _place(path: Path, to: Target) -> Iterator[Path]:
    """A folder to work in; what is called "done" there, with the target's suffixes, becomes the
    file if no error is raised."""
    with ExitStack() as files:
        beside = {s: files.enter_context(replacing(path.with_suffix(s))) for s in SUFFIXES[to]}
        folder = Path(files.enter_context(TemporaryDirectory(prefix=".", dir=path.parent)))
        yield folder
        for suffix, place in beside.items():
            (folder / f"done{suffix}").replace(place)


def _folded(model: Any) -> nn.Module:
    graph: nn.Module = copy.deepcopy(model)
    fold_norms(graph)
    return graph


def _in_form(to: Target, graph: Path, header: Header) -> Path:
    """The file of the target made of an ONNX graph, beside it."""
    if to == "onnx":
        return graph
    form = graph.with_name(f"{header.precision}.xml")
    write_openvino(graph, header, form)
    return form


def _cost(exact: Path, form: Path, measured: Any) -> Cost:
    forms = [Exported.open(path) for path in (exact, form)]
    number = MAIN[kind_of(forms[0])]
    before, after = (evaluate(each, measured)[number] for each in forms)
    return Cost(before, after, len(measured), number)


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


def write_openvino(source: Path, header: Header, path: Path) -> None:
    """Of an ONNX graph."""
    import openvino

    graph = openvino.convert_model(source)
    for name, value in header.to_text().items():
        graph.set_rt_info(value, ["sightline", name])
    openvino.save_model(graph, path, compress_to_fp16=False)


def compare(
    model: Any,
    other: Any,
    pictures: Sequence[UInt8[Tensor, "3 _ _"]],
    regions: Sequence[Float[Tensor, "_ 4"]] | None = None,
) -> Agreement:
    """The answers of both, picture by picture and in padded batches of four."""
    agreement = NOTHING
    every = range(len(pictures))
    for rows in [*([row] for row in every), *(every[i : i + _SHOWN] for i in every[::_SHOWN])]:
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


class _Given(NamedTuple):
    """The pictures of an export."""

    compared: list[UInt8[Tensor, "3 _ _"]]
    seen: Iterator[UInt8[Tensor, "3 _ _"]]  # for ranges of values; read as they are asked for
    measured: Dataset | None


def _given(model: Any, photos: Any, data: Any, precision: Precision) -> _Given:
    """Raises:
    SightlineError: none can be found.
    """
    named = [] if photos is None else [str(photo) for photo in find_sources(photos)]
    paths = [path for path in named if not is_video(path)]
    if paths and precision != "int8":
        return _Given([read_image(paths[i]) for i in _spread(len(paths), _NAMED)], iter(()), None)
    train, val = _splits(model, data, precision)
    compared = [val.picture(index) for index in range(min(_SHOWN, len(val)))]
    if paths:
        seen = (read_image(paths[index]) for index in _spread(len(paths), _SEEN))
    else:
        seen = (train.picture(index) for index in _spread(len(train), _SEEN))
    return _Given(compared, seen, val)


def _spread(count: int, most: int) -> list[int]:
    """All of them, or so many, evenly."""
    taken = min(most, count)
    return [index * count // taken for index in range(taken)]


def _splits(model: Any, data: Any, precision: Precision) -> Splits:
    """The labelled pictures: those that are named, or those of the checkpoint's run."""
    if data is not None:
        return data if isinstance(data, Splits) else open_dataset(data)
    run = Path(model).with_name("run.json") if isinstance(model, str | Path) else None
    if run is None or not run.is_file():
        wanted = "a few photos to compare the answers on"
        if precision == "int8":
            wanted = "labelled photos (--data) to measure int8 on"
        raise SightlineError(f"name {wanted}: only the checkpoint of a run knows some")
    try:
        given = json.loads(run.read_text())["recipe"]["data"]["arguments"]
        path, rest = given["path"], {name: given[name] for name in ("val", "seed") if name in given}
    except (ValueError, KeyError, TypeError) as error:
        raise SightlineError(f"{run} names no folder of photos: name some") from error
    return open_dataset(path, **rest)
