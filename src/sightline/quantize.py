"""The convolutions and matrix products of an exported graph in 8-bit integers.

Post-training and static: the ranges of the values between the layers are seen on photos, one by one
at their own sizes, and written into the graph as pairs of QuantizeLinear and DequantizeLinear,
which ONNX Runtime and OpenVINO run as integer arithmetic. Weights get a scale for each channel.

What says where a thing is and how sure that is stays in float32: the last layers of every head, all
that follows them, and the pooling of regions.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sightline.types import Images

_LAYERS = ("Conv", "Gemm", "MatMul")
_BETWEEN = ("Relu", "MaxPool", "Add")  # what may lie between a layer and the next


class Cost(NamedTuple):
    """What 8 bits cost."""

    before: float  # 0..1
    after: float
    pictures: int
    number: str = "AP"

    def __str__(self) -> str:
        lost = self.after - self.before
        change = f"{self.number} {self.before:.3f} -> {self.after:.3f} ({lost:+.3f})"
        return f"{change} on {self.pictures} pictures"


def quantize(
    source: Path, target: Path, batches: Iterable[Images], about: Mapping[str, str]
) -> None:
    """Write the ONNX graph of ``source`` with its layers in 8 bits.

    Weights use seven of the eight bits: on processors without VNNI the sum of two products of eight
    would not fit in 16 bits.

    Args:
        batches: what the ranges are seen on.
        about: metadata of the new file.
    """
    import onnx
    from onnxruntime import quantization

    graph = onnx.load(source)
    given = [value.name for value in graph.graph.input]
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        # The library asks for its own preparation, of which this graph needs nothing.
        onnx.helper.set_model_props(graph, {"onnx.quant.pre_process": "onnxruntime.quant"})
        prepared = Path(folder) / "prepared.onnx"  # the library writes beside it
        onnx.save(graph, prepared)
        quantization.quantize_static(
            prepared,
            target,
            _reader(batches, given),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=[*_LAYERS, *_BETWEEN],
            nodes_to_quantize=chosen(graph.graph),
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    written = onnx.load(target)
    onnx.helper.set_model_props(written, dict(about))
    onnx.save(written, target)


def chosen(graph: Any) -> list[str]:
    """Names of the nodes to quantise: the layers with weights of their own that lead to another
    such layer, and what lies between layers alone."""
    weights = {value.name for value in graph.initializer}
    layers = [node for node in graph.node if node.op_type in _LAYERS and node.input[1] in weights]
    names = {node.name for node in layers}
    users = defaultdict(list)
    for node in graph.node:
        for value in node.input:
            users[value].append(node)

    def leads_on(node: Any) -> bool:
        return any(
            user.name in names or (user.op_type in _BETWEEN and leads_on(user))
            for user in users[node.output[0]]
        )

    inner = [node for node in layers if leads_on(node)]
    known = {node.output[0] for node in inner}
    for node in graph.node:  # in the order of the data
        if node.op_type in _BETWEEN and known.issuperset(node.input):
            inner.append(node)
            known.add(node.output[0])
    return [node.name for node in inner]


def _reader(batches: Iterable[Images], wanted: list[str]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            self._feeds = feeds()

        def get_next(self) -> dict[str, Any] | None:
            return next(self._feeds, None)

    def feeds() -> Iterator[dict[str, Any]]:
        for images in batches:
            given = images._asdict()
            yield {name: given[name].contiguous().numpy() for name in wanted}

    return Reader()
