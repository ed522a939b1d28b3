"""Pooling of regions in ONNX Runtime against the kernels: other pictures, sizes and numbers of
boxes than the graph was made with."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor

from sightline.onnx_operators import translations
from sightline.ops.roi import position_sensitive_pool, roi_pool

STRIDE, SIZE = 16, 7


def kernel(features: Tensor, boxes: Tensor, image_index: Tensor, stride: int, size: int) -> Tensor:
    """torchvision's, which leaves out the last row and column of the map."""
    regions = torch.cat([image_index[:, None].float(), boxes], dim=1)
    return torchvision.ops.ps_roi_pool(features, regions, size, 1 / stride)


class Pool(torch.nn.Module):
    def __init__(self, pool: Callable[..., Tensor]) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, features: Tensor, boxes: Tensor, image_index: Tensor) -> Tensor:
        return self.pool(features, boxes, image_index, STRIDE, SIZE)


def example(batch: int, height: int, width: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes of all kinds: partly or wholly outside, inside out, without area, ending half-way
    between two cells."""
    reach = torch.tensor([width, height, width, height]) * STRIDE
    boxes = (torch.rand(count, 4) * 1.6 - 0.3) * reach
    boxes[1::3, 2:] = torch.maximum(boxes[1::3, :2], boxes[1::3, 2:])
    boxes[::3] = (boxes[::3] / STRIDE * 2).round() / 2 * STRIDE
    boxes[::5, 2:] = boxes[::5, :2]
    features = torch.randn(batch, 2 * SIZE**2, height, width) - 1
    return features, boxes, torch.arange(count) % batch


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("pool", [roi_pool, position_sensitive_pool, kernel])
def test_pooling_of_regions(pool: Callable[..., Tensor], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model, auto = Pool(pool), torch.export.Dim.AUTO
    dynamic = ({0: auto, 2: auto, 3: auto}, {0: auto}, {0: auto})
    program = torch.export.export(model, example(2, 9, 8, 5), dynamic_shapes=dynamic)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = torch.onnx.export(
            program, dynamo=True, custom_translation_table=translations(), verbose=False
        )
    assert converted is not None
    assert {node.domain for node in converted.model_proto.graph.node} <= {"", "ai.onnx"}
    converted.save(tmp_path / "pool.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "pool.onnx")
    names = [value.name for value in session.get_inputs()]
    # 57 cells: 57 / 7 * 7 is more than 57 in float32.
    for sides in [(2, 9, 8, 5), (1, 38, 63, 60), (3, 57, 20, 40), (1, 1, 1, 9), (2, 4, 5, 0)]:
        given = example(*sides)
        feed = {name: value.numpy() for name, value in zip(names, given, strict=True)}
        (found,) = session.run(None, feed)
        torch.testing.assert_close(torch.from_numpy(found), model(*given), rtol=1e-5, atol=1e-5)
