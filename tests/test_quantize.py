"""Which layers go to 8 bits, how near their answers stay, what the file says of itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from sightline.quantize import Cost, chosen, quantize
from sightline.types import Images

F = 8  # channels


def network() -> Any:
    """Two layers with a way around the second, and a last layer whose answer is moved: a head and
    its decoding. Beside them a product of two answers, which has no weights."""
    generator = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["pixels", "w1", "b1"], ["one"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["one"], ["two"], name="relu"),
        helper.make_node("Conv", ["two", "w2", "b2"], ["three"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["two", "three"], ["four"], name="around"),
        helper.make_node("Conv", ["four", "w3", "b3"], ["five"], name="third", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["five"], ["six"], name="end"),
        helper.make_node("Conv", ["six", "w4", "b4"], ["seven"], name="last"),
        helper.make_node("Add", ["seven", "move"], ["answers"], name="decode"),
        helper.make_node("MatMul", ["six", "six"], ["product"], name="product"),
    ]
    shapes = {"w1": (F, 3, 3, 3), "w2": (F, F, 3, 3), "w3": (F, F, 3, 3), "w4": (4, F, 1, 1)}
    values = {name: generator.normal(size=shape) / 9 for name, shape in shapes.items()}
    values |= {f"b{n}": generator.normal(size=4 if n == 4 else F) for n in (1, 2, 3, 4)}
    values["move"] = np.array([7.0])
    weights = [numpy_helper.from_array(np.float32(v), name) for name, v in values.items()]
    given = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["B", 3, "H", "W"])
    found = [
        helper.make_tensor_value_info("answers", TensorProto.FLOAT, ["B", 4, "H", "W"]),
        helper.make_tensor_value_info("product", TensorProto.FLOAT, ["B", F, "H", "W"]),
    ]
    graph = helper.make_graph(nodes, "network", [given], found, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def batches() -> Iterator[Images]:
    generator = torch.Generator().manual_seed(0)
    for side in (16, 24, 32):
        pixels = torch.randn(1, 3, side, side, generator=generator)
        yield Images(pixels, torch.tensor([[side, side]]))


def test_the_last_layer_and_what_follows_it_stay() -> None:
    """Of the two Adds that within the network, of the two ReLUs both: the second comes after a
    layer in 8 bits."""
    assert set(chosen(network().graph)) == {"first", "relu", "second", "around", "third", "end"}


def test_the_answers_stay_near_and_the_weights_are_bytes(tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "f32.onnx")
    quantize(tmp_path / "f32.onnx", tmp_path / "int8.onnx", batches(), {"precision": "int8"})
    assert {file.name for file in tmp_path.iterdir()} == {"f32.onnx", "int8.onnx"}
    written = onnx.load(tmp_path / "int8.onnx")
    assert {entry.key: entry.value for entry in written.metadata_props} == {"precision": "int8"}
    kinds = {
        w.name: w.data_type for w in written.graph.initializer if len(w.dims) == 4 and w.dims[0] > 1
    }
    assert sorted(kinds.values()) == sorted([TensorProto.FLOAT] + 3 * [TensorProto.INT8])
    assert kinds["w4"] == TensorProto.FLOAT
    for images in batches():
        exact, eight = (run(tmp_path / name, images.pixels) for name in ("f32.onnx", "int8.onnx"))
        largest = np.abs(exact - 7).max()
        assert 0 < np.abs(eight - exact).max() < 0.05 * largest


def run(path: Path, pixels: Tensor) -> Any:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["answers"], {"pixels": pixels.numpy()})[0]


def test_what_it_costs_in_one_line() -> None:
    assert str(Cost(0.251, 0.248, 120)) == "AP 0.251 -> 0.248 (-0.003) on 120 pictures"
    assert str(Cost(0.25, 0.2504, 1)) == "AP 0.250 -> 0.250 (+0.000) on 1 pictures"
