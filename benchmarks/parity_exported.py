"""The forms a model can take beside the eager one: ``SIGHTLINE_DATA=DIR uv run python -m
benchmarks.parity_exported [NAME] [--forms export onnx openvino fused compiled] [--photos 20]``.

The weights of a public model, random as in ``benchmarks.random_twins``: BatchNorm statistics
and last layers are fitted, so that detections are many and neither faint nor saturated. Photos of
DIR/coco/val at their own sizes go through each form one by one and in padded batches of four, and
what it answers is compared with eager, not fused. Promised: boxes within 0.05 px, scores within
1e-3, whatever else is answered within 1e-4 of its largest value; at most 3 in 100 detections
without a partner, each with its near tie shown. Exits with 1 where that is broken.
"""

import argparse
import copy
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.near_ties import answer_ties, proposal_flips
from benchmarks.random_twins import random_twin
from sightline import weights
from sightline.agreement import NOTHING, agree
from sightline.data.images import read_image
from sightline.export import export, to_graph, write_onnx
from sightline.fuse import fold_norms, fuse
from sightline.ops.suppress import Detections
from sightline.runtime import Exported, Header
from sightline.types import Images

RELATIVE = 1e-4

Answer = Callable[[Images], Any]


class Form(NamedTuple):
    answer: Answer
    open: Answer  # the same, of one that shows what it chose from: as ``Open`` does


class Open(nn.Module):
    """A model that also gives what its proposals are chosen from: objectness and deltas of each
    level."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.preprocess = model, model.preprocess

    def forward(self, images: Images) -> Any:
        outputs = self.model.outputs(images)
        selected = self.model.select(outputs, images)
        return Detections(*selected[:3]), outputs.objectness, outputs.deltas


def exported(model: Any, paths: list[Path], file: Path) -> Form:
    photos = [read_image(path) for path in paths[:2]]

    def run(part: Any) -> Answer:
        program = to_graph(part, model.preprocess(photos)[0]).module(check_guards=False)
        return lambda images: program(pixels=images.pixels, sizes=images.sizes)

    return Form(run(model), run(Open(model)))


def written(to: Any, model: Any, paths: list[Path], file: Path) -> Form:
    path = file.with_suffix(".onnx" if to == "onnx" else ".xml")
    export(model, path, to, paths[:1])
    graph = file.with_name("open.onnx")
    part = Open(copy.deepcopy(model))
    fold_norms(part)
    images, _ = model.preprocess([read_image(path) for path in paths[:2]])
    write_onnx(part, images, Header.of(model), graph)
    run = (in_onnx if to == "onnx" else in_openvino)(graph)

    def opened(images: Images) -> Any:
        values = run(images._asdict())
        answer, (objectness, deltas) = Detections(*values[:3]), halves(values[3:])
        return answer, objectness, deltas

    return Form(Exported.open(path), opened)


def halves(values: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    return values[: len(values) // 2], values[len(values) // 2 :]


def in_onnx(graph: Path) -> Callable[[dict[str, Tensor]], list[Tensor]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(given: dict[str, Tensor]) -> list[Tensor]:
        found = session.run(None, {name: given[name].numpy() for name in names})
        return [torch.from_numpy(value) for value in found]

    return run


def in_openvino(graph: Path) -> Callable[[dict[str, Tensor]], list[Tensor]]:
    import openvino

    hints = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(graph, "CPU", hints)

    names = [value.any_name for value in compiled.inputs]

    def run(given: dict[str, Tensor]) -> list[Tensor]:
        found = compiled({name: given[name].numpy() for name in names})
        return [torch.from_numpy(found[value].copy()) for value in compiled.outputs]

    return run


def fused(model: Any, paths: list[Path], file: Path, compile: bool = False) -> Form:
    return Form(fuse(model, compile=compile), Open(fuse(model)))


FORMS: dict[str, Callable[[Any, list[Path], Path], Form]] = {
    "export": exported,
    "onnx": partial(written, "onnx"),
    "openvino": partial(written, "openvino"),
    "fused": fused,
    "compiled": partial(fused, compile=True),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", default="fasterrcnn_resnet50_fpn")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--photos", type=int, default=20)
    options = parser.parse_args()
    paths = sorted((Path(os.environ["SIGHTLINE_DATA"]) / "coco/val").rglob("*.jpg"))
    photos = [read_image(path) for path in paths[: options.photos + 3]]
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        file = Path(folder) / "weights.pth"
        torch.save(random_twin(options.name, photos[:3]).state_dict(), file)
        model = weights.load(file)
        return report(
            model, {form: FORMS[form](model, paths, file) for form in options.forms}, photos[3:]
        )


def report(model: Any, forms: dict[str, Form], photos: list[Tensor]) -> int:
    kept = True
    for size in (1, 4):
        totals, missing = dict.fromkeys(forms, NOTHING), 0
        for first in range(0, len(photos), size):
            images, _ = model.preprocess(photos[first : first + size])
            outputs = model.outputs(images)
            eager = model.select(outputs, images)
            for name, form in forms.items():
                found = form.answer(images)
                totals[name] += agree(eager, found)
                shown, without = ties(model, images, outputs, eager, found, form.open)
                missing += without
                for line in shown:
                    print(f"    {name}, from photo {first}, {line}", flush=True)
        kept &= missing == 0
        for name, total in totals.items():
            kept &= total.holds and total.relative <= RELATIVE
            print(f"{len(photos)} photos, batch {size}, {name:9} {total}", flush=True)
    print("all promises kept" if kept else "promises broken")
    return 0 if kept else 1


def ties(
    model: Any, images: Images, outputs: Any, eager: Any, found: Any, opened: Answer
) -> tuple[list[str], int]:
    """A line for each choice behind the detections of a batch that have no partner, and the number
    of pictures with some for which none is seen. What the answers themselves do not show was chosen
    before, among the proposals: ``opened`` tells it, where it answers as what it shows the inside
    of."""
    lines, missing, inside = [], 0, None
    for row in range(len(images.sizes)):
        one, two = (Detections(*(v[row] for v in given[:3])) for given in (eager, found))
        shown, left = answer_ties(one, two, model.selection)
        flips: list[str] = []
        if left:
            inside = inside or opened(images)
            if agree(Detections(*found[:3]), inside[0]).unmatched == 0:
                flips = proposal_flips(model.rpn, outputs, images, inside[1:], row)
        missing += bool(left and not flips)
        lines += [*shown, *(f"{line}: of other proposals" for line in left), *flips]
    return lines, missing


if __name__ == "__main__":
    sys.exit(main())
