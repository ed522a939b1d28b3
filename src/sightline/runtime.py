"""A checkpoint, an ONNX file or an OpenVINO file behind one callable: ``model(images)`` gives what
``select`` gives, ``model.describe`` turns that into scenes, ``card`` and ``preprocess`` come along.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sightline import weights
from sightline.errors import SightlineError
from sightline.files import UNSEALED, is_sealed
from sightline.fuse import fuse
from sightline.models import Card, create
from sightline.ops.suppress import EMPTY
from sightline.preprocess import Preprocess
from sightline.types import Images
from sightline.weights.native import built_explained, card_from_json, header_explained

FORMAT = "sightline.export 1"
SUFFIXES = (".onnx", ".xml")

Run = Callable[[dict[str, Tensor]], list[Tensor]]
Precision = Literal["f32", "bf16", "int8"]


def open_model(
    model: Any,
    device: str | torch.device | None = None,
    fast: bool = True,
    bf16: bool = False,
    compile: bool = False,
) -> Any:
    """A model as it is given, or that of a file or public name, on the device.

    Args:
        model: a model, which is used as it is (``sightline.fuse`` makes it fast); the file or
            public name of a checkpoint; or a file written by ``sightline export``.
        device: left out, where a model is; for a checkpoint, the GPU if there is one.
        fast: the model of a checkpoint is fused.
        bf16, compile: and that in bfloat16, and compiled (``sightline.fuse``).

    Raises:
        SightlineError: no such file, name or device, a package that is needed is missing, or an
            exported file is asked for a GPU, bf16 or compile, or these without ``fast``.
    """
    if (bf16 or compile) and not fast:
        raise SightlineError("bf16 and compile are ways to be fast: leave out no-fast")
    if isinstance(model, str | Path) and Path(model).suffix.lower() in SUFFIXES:
        if bf16 or compile:
            raise SightlineError(f"{model}: how it computes was settled when it was exported")
        if device is not None and not str(device).startswith("cpu"):
            raise SightlineError(f"{model}: an exported file is run on the CPU, not on {device}")
        return Exported.open(Path(model))
    of_checkpoint = isinstance(model, str | Path)
    if of_checkpoint:
        model = weights.load(model)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        model = model if device is None else model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise SightlineError(f"cannot use device {device}: {error}") from error
    precision = torch.bfloat16 if bf16 else None
    return fuse(model, precision, compile) if of_checkpoint and fast else model


def device_of(model: Any) -> torch.device:
    """Where a model wants its pictures: an exported file, which has no tensors, on the CPU."""
    return next(model.parameters(), torch.empty(0)).device


class Header(NamedTuple):
    """What an exported file says of itself."""

    card: Card
    preprocess: Preprocess
    selection: dict[str, Any]  # fields of the model's Selection; empty where it has none
    precision: Precision = "f32"

    @classmethod
    def of(cls, model: Any) -> "Header":
        selection = getattr(model, "selection", None)
        return cls(model.card, model.preprocess, {} if selection is None else asdict(selection))

    def to_text(self) -> dict[str, str]:
        return {
            "format": FORMAT,
            "card": json.dumps(asdict(self.card)),
            "preprocess": json.dumps(self.preprocess.to_json()),
            "selection": json.dumps(self.selection),
            "precision": self.precision,
            "seal": UNSEALED,
        }

    @classmethod
    def from_text(cls, path: Path, text: Mapping[str, str]) -> "Header":
        """Raises:
        SightlineError: the file was not written by ``sightline export``, or by another version.
        """
        if text.get("format") != FORMAT:
            found = text.get("format", "nothing")
            raise SightlineError(
                f"{path}: not written by sightline export (its format says {found}, here {FORMAT})"
            )
        precision: Any = text.get("precision", "f32")
        with header_explained(path):
            if precision not in get_args(Precision):
                raise ValueError(f"precision {precision}")
            return cls(
                card_from_json(json.loads(text["card"])),
                Preprocess.from_json(json.loads(text["preprocess"])),
                json.loads(text["selection"]),
                precision,
            )


class Exported(nn.Module):
    """The graph of a file. Which answers it gives was settled when it was written; a higher score
    or a smaller number can still be asked for."""

    def __init__(self, path: Path, header: Header, run: Run) -> None:
        super().__init__()
        self.path, self.card, self.preprocess = path, header.card, header.preprocess
        self.precision = header.precision
        self._run = run
        # For the form of its answers and for describe: shapes alone, no weights.
        with built_explained(str(path), header.card.model), torch.device("meta"):
            shell = create(header.card.model, header.card.classes, **header.card.options).eval()
            self._form = form_of_answers(shell)
            self.describe, self.needs = shell.describe, shell.needs
            self.by_background = getattr(shell, "by_background", False)
            self._selection = None
            if header.selection:
                self._selection = replace(shell.selection, **header.selection)
                self.selection = self._selection

    @classmethod
    def open(cls, path: Path) -> "Exported":
        """Raises:
        SightlineError: no such file, not one of ours, or its runtime is not installed.
        """
        try:
            if not path.is_file():
                raise SightlineError(f"{path}: no such file")
            is_sealed(*files_of(path))  # or not yet: export opens what it has written so far
        except OSError as error:
            raise SightlineError(f"cannot read {path}: {error.strerror}") from error
        text, run = (_onnx if path.suffix.lower() == ".onnx" else _openvino)(path)
        return cls(path, Header.from_text(path, text), run)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "selection":
            self._check(value)
        super().__setattr__(name, value)

    def _check(self, wanted: Any) -> None:
        """Raises:
        SightlineError: the file does not hold such answers.
        """
        mine = self._selection
        assert mine is not None
        kept = replace(wanted, score=mine.score, top=mine.top) == mine
        if not kept or wanted.score < mine.score or wanted.top > mine.top:
            raise SightlineError(
                f"{self.path} was exported to give at most {mine.top} things scored above "
                f"{mine.score:g}, chosen by {mine.by}: other settings need the checkpoint"
            )

    def forward(self, images: Images) -> Any:
        given = {"pixels": images.pixels, "sizes": images.sizes}
        if images.regions is not None:
            given["regions"] = images.regions
        selected = pytree.tree_unflatten(self._run(given), self._form)
        return selected if self._selection is None else self._chosen(selected)

    def _chosen(self, selected: Any) -> Any:
        """Slots are ordered best first."""
        slots = torch.arange(selected.scores.shape[1])
        kept = (selected.scores > self.selection.score) & (slots < self.selection.top)
        return selected._replace(scores=torch.where(kept, selected.scores, EMPTY))


def files_of(path: Path) -> list[Path]:
    """An exported file, and what belongs to it: the weights of OpenVINO's lie beside."""
    beside = path.with_suffix(".bin")
    return [path, beside] if path.suffix.lower() == ".xml" and beside.is_file() else [path]


def form_of_answers(shell: Any) -> pytree.TreeSpec:
    """How the tensors of ``select`` hang together, seen on a small black picture. On the device
    "meta", where nothing is calculated, if that is torch's default."""
    height, width = shell.preprocess.fixed or shell.preprocess.canvas([(64, 64)])
    sizes, regions = torch.tensor([[height, width]]), torch.zeros(1, 1, 4)
    images = Images(torch.zeros(1, 3, height, width), sizes, regions)
    with torch.no_grad():
        return pytree.tree_structure(shell(images))


def _onnx(path: Path) -> tuple[Mapping[str, str], Run]:
    try:
        import onnxruntime
    except ImportError as error:
        raise SightlineError(
            f"{path} needs onnxruntime: pip install 'sightline[export]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors: a warning for every constant it folds helps nobody
    try:
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    except Exception as error:  # its own classes, which share no base
        raise SightlineError(f"{path}: no ONNX file, or one cut short ({error})") from error
    wanted = [value.name for value in session.get_inputs()]

    def run(given: dict[str, Tensor]) -> list[Tensor]:
        feed = {name: given[name].contiguous().numpy() for name in wanted}
        return [torch.from_numpy(value) for value in session.run(None, feed)]

    return session.get_modelmeta().custom_metadata_map, run


def _openvino(path: Path) -> tuple[Mapping[str, str], Run]:
    try:
        import openvino
    except ImportError as error:
        raise SightlineError(f"{path} needs openvino: pip install 'sightline[openvino]'") from error
    core = openvino.Core()
    try:
        graph = core.read_model(path)
    except RuntimeError as error:
        raise SightlineError(f"{path}: no OpenVINO file, or one cut short ({error})") from error
    text = {
        name: str(graph.get_rt_info(["sightline", name]).astype(str))
        for name in ("format", *Header._fields)
        if graph.has_rt_info(["sightline", name])
    }
    hints = {  # left to itself, OpenVINO takes bf16 where the processor has it
        "INFERENCE_PRECISION_HINT": "bf16" if text.get("precision") == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = core.compile_model(graph, "CPU", hints)
    wanted = [value.get_any_name() for value in compiled.inputs]

    def run(given: dict[str, Tensor]) -> list[Tensor]:
        found = compiled({name: given[name].contiguous().numpy() for name in wanted})
        return [torch.from_numpy(found[value].copy()) for value in compiled.outputs]

    return text, run
