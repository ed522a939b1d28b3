"""The forms a model can take beside the eager one: ``SIGHTLINE_DATA=DIR uv run python -m
benchmarks.parity_exported [NAME] [--forms export onnx openvino fused compiled] [--photos 20]``.

The weights of a public model, random as in ``benchmarks.parity_torchvision``: BatchNorm statistics
and last layers are fitted, so that detections are many and neither faint nor saturated. Photos of
DIR/coco/val at their own sizes go through each form one by one and in padded batches of four, and
what it answers is compared with eager, not fused. Promised: boxes within 0.05 px, scores within
1e-3, whatever else is answered within 1e-4 of its largest value; at most 3 in 100 detections
without a partner, each with its near tie shown. Exits with 1 where that is broken.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.near_ties import show_ties
from benchmarks.parity_torchvision import random_twin
from sightline import weights
from sightline.agreement import NOTHING, agree
from sightline.data.images import read_image
from sightline.export import export, to_graph
from sightline.fuse import fuse
from sightline.runtime import Exported
from sightline.types import Images

RELATIVE = 1e-4

Answer = Callable[[Images], Any]


def exported(model: Any, paths: list[Path], file: Path) -> Answer:
    photos = [read_image(path) for path in paths[:2]]
    program = to_graph(model, model.preprocess(photos)[0]).module(check_guards=False)

    def answer(images: Images) -> Any:
        return program(pixels=images.pixels, sizes=images.sizes)

    return answer


def written(to: Any, model: Any, paths: list[Path], file: Path) -> Answer:
    path = file.with_suffix(".onnx" if to == "onnx" else ".xml")
    export(model, path, to, paths[:1])
    answer: Answer = Exported.open(path)
    return answer


def fused(model: Any, paths: list[Path], file: Path, compile: bool = False) -> Answer:
    answer: Answer = fuse(model, compile=compile)
    return answer


FORMS: dict[str, Callable[[Any, list[Path], Path], Answer]] = {
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


def report(model: Any, forms: dict[str, Answer], photos: list[Tensor]) -> int:
    kept = True
    for size in (1, 4):
        totals, missing = dict.fromkeys(forms, NOTHING), 0
        for first in range(0, len(photos), size):
            images, _ = model.preprocess(photos[first : first + size])
            eager = model(images)
            for form, answer in forms.items():
                found = answer(images)
                totals[form] += agree(eager, found)
                missing += show_ties(eager, found, model.selection, f"{form}, from photo {first}")
        for form, total in totals.items():
            kept &= total.holds and total.relative <= RELATIVE and missing == 0
            print(f"{len(photos)} photos, batch {size}, {form:9} {total}", flush=True)
    print("all promises kept" if kept else "promises broken")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
