"""RoIPool, position-sensitive pooling and RoIAlign against naive loops, torchvision's kernels and
finite differences."""

import math

import pytest
import torch
from torchvision.ops import roi_align as kernel

from sightline.ops.boxes import clip
from sightline.ops.roi import assign_levels, position_sensitive_pool, roi_align, roi_pool


def naive_align(
    features: torch.Tensor,
    box: list[float],
    stride: int,
    size: int,
    ratio: int,
    aligned: bool,
    how: str,
) -> torch.Tensor:
    """One region of one map [C, H, W], a sample at a time."""
    x1, y1, x2, y2 = (value / stride - 0.5 * aligned for value in box)
    across, down = x2 - x1, y2 - y1
    if not aligned:
        across, down = max(across, 1.0), max(down, 1.0)
    per_y = ratio or math.ceil(down / size)
    per_x = ratio or math.ceil(across / size)
    pooled = torch.zeros(len(features), size, size, dtype=features.dtype)
    for row in range(size):
        for column in range(size):
            samples = [
                sample(
                    features,
                    y1 + (row + (i + 0.5) / per_y) * down / size,
                    x1 + (column + (j + 0.5) / per_x) * across / size,
                )
                for i in range(per_y)
                for j in range(per_x)
            ]
            stacked = torch.stack(samples)
            pooled[:, row, column] = stacked.mean(0) if how == "mean" else stacked.amax(0)
    return pooled


def sample(features: torch.Tensor, y: float, x: float) -> torch.Tensor:
    _, height, width = features.shape
    if y < -1 or y > height or x < -1 or x > width:
        return torch.zeros(len(features), dtype=features.dtype)
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v, u = y - top, x - left
    return (
        features[:, top, left] * (1 - v) * (1 - u)
        + features[:, top, right] * (1 - v) * u
        + features[:, bottom, left] * v * (1 - u)
        + features[:, bottom, right] * v * u
    )


BOXES = [
    [3.3, 2.1, 21.7, 17.9],
    [-6.0, -5.0, 9.0, 30.0],
    [10.0, 10.0, 10.5, 10.2],
    [25, 20, 70, 60],
]


@pytest.mark.parametrize("how", ["mean", "max"])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
def test_align_equals_the_naive_loop(ratio: int, aligned: bool, how: str) -> None:
    features = torch.randn(2, 3, 8, 10, dtype=torch.float64)
    boxes = torch.tensor(BOXES, dtype=torch.float64)
    index = torch.tensor([0, 1, 1, 0])
    found = roi_align([features], boxes, index, [4], 3, ratio, aligned, how)  # type: ignore[arg-type]
    for row, box in enumerate(BOXES):
        expected = naive_align(features[index[row]], box, 4, 3, ratio, aligned, how)
        torch.testing.assert_close(found[row], expected)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [0, 2])
def test_align_equals_the_kernel(ratio: int, aligned: bool) -> None:
    features = torch.randn(2, 8, 20, 30)
    boxes = torch.tensor(BOXES)
    index = torch.tensor([0, 1, 1, 0])
    found = roi_align([features], boxes, index, [4], 7, ratio, aligned)
    indexed = torch.cat([index[:, None].float(), boxes], dim=1)
    expected = kernel(features, indexed, 7, 1 / 4, ratio, aligned)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


class Align(torch.nn.Module):
    def __init__(self, ratio: int, aligned: bool) -> None:
        super().__init__()
        self.ratio, self.aligned = ratio, aligned

    def forward(
        self, pyramid: list[torch.Tensor], boxes: torch.Tensor, index: torch.Tensor
    ) -> torch.Tensor:
        return roi_align(pyramid, boxes, index, [4, 8, 16], 7, self.ratio, self.aligned)


def boxes_to_the_edge(height: int, width: int, count: int = 300) -> torch.Tensor:
    """Of all sizes within a picture; some touch its far edges, some are narrower than a cell there,
    some without area."""
    corner = torch.rand(count, 2) * torch.tensor([width, height])
    size = torch.rand(count, 2).pow(3) * torch.tensor([width, height])
    size[::7] *= 0.01
    boxes = torch.cat([corner, corner + size], dim=1)
    boxes[::3, 2], boxes[::5, 3] = width, height
    boxes[1::7, 0], boxes[2::7, 1] = width - 0.5, height - 1
    boxes[:2] = torch.tensor([[width, height, width, height], [0, 0, width, height]])
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2])
    return clip(boxes, torch.tensor([height, width]))


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("aligned", [False, True])
def test_the_exported_pyramid_gives_the_same_values(ratio: int, aligned: bool) -> None:
    """From one canvas, for pictures of another size and number than it was exported with too."""

    def arguments(batch: int, height: int, width: int) -> tuple[object, ...]:
        pyramid = [torch.randn(batch, 4, height // s, width // s) for s in (4, 8, 16)]
        boxes = boxes_to_the_edge(height, width)
        return pyramid, boxes, torch.arange(len(boxes)) % batch

    align, auto = Align(ratio, aligned), torch.export.Dim.AUTO
    maps = [{0: auto, 2: auto, 3: auto}] * 3
    example = arguments(2, 640, 480)
    dynamic = (maps, {0: auto}, {0: auto})
    graph = torch.export.export(align, example, dynamic_shapes=dynamic).module()
    for given in (example, arguments(1, 320, 960)):
        torch.testing.assert_close(graph(*given), align(*given), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("how", ["mean", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("aligned", [False, True])
def test_gradients_of_features_and_boxes(aligned: bool, ratio: int, how: str) -> None:
    """Away from cell lines, where bilinear interpolation has a kink."""
    features = torch.randn(2, 1, 5, 7, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[3.31, 2.23, 20.17, 17.71], [5.11, 1.37, 25.29, 19.03]])
    boxes = boxes.double().requires_grad_()

    def pooled(features: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        return roi_align([features], boxes, torch.tensor([0, 1]), [4], 2, ratio, aligned, how)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(pooled, (features, boxes))


def test_gradients_through_a_pyramid() -> None:
    fine = torch.randn(1, 1, 12, 12, dtype=torch.float64, requires_grad=True)
    coarse = torch.randn(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[3.31, 2.23, 30.17, 27.71], [2.11, 1.37, 160.29, 155.03]])
    boxes = boxes.double().requires_grad_()

    def pooled(fine: torch.Tensor, coarse: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        return roi_align([fine, coarse], boxes, torch.zeros(2).long(), [4, 8], 2)

    assert torch.autograd.gradcheck(pooled, (fine, coarse, boxes))


def test_levels_by_hand() -> None:
    # 224 pixels belong to stride 16; half of it to 8, a quarter to 4, what is smaller too.
    sides = torch.tensor([20.0, 56, 111, 112, 224, 447, 448, 2000])
    boxes = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], dim=1)
    assert assign_levels(boxes, [4, 8, 16, 32]).tolist() == [0, 0, 0, 1, 2, 2, 3, 3]


def test_pool_by_hand() -> None:
    # Cells 0..2 of a 4 x 4 ramp, snapped and cut in 2 x 2 bins: rows {0, 1} and {1, 2}.
    features = torch.arange(16.0).view(1, 1, 4, 4)
    found = roi_pool(features, torch.tensor([[0.3, 0.2, 2.2, 1.9]]), torch.tensor([0]), 1, 2)
    assert found.flatten().tolist() == [5, 6, 9, 10]


def test_position_sensitive_pool_by_hand() -> None:
    # Bin (i, j) reads channel 2 i + j, here a ramp of 4 x 4 cells plus 100 times that number. The
    # box ends at the edge: rows {0, 1} and {2, 3}, columns {2} and {3}.
    features = torch.arange(16.0).view(1, 1, 4, 4) + 100 * torch.arange(4.0).view(1, 4, 1, 1)
    box = torch.tensor([[2.3, -0.4, 4.4, 9.0]])
    found = position_sensitive_pool(features, box, torch.tensor([0]), 1, 2)
    assert found.tolist() == [[[[(2 + 6) / 2, 105], [200 + (10 + 14) / 2, 300 + (11 + 15) / 2]]]]


def naive_sensitive(
    features: torch.Tensor, box: list[float], stride: int, size: int
) -> torch.Tensor:
    """One region of one map [C * S * S, H, W], a bin at a time."""
    _, height, width = features.shape
    limits = (width, height, width, height)
    x1, y1, x2, y2 = (
        math.floor(min(max(value / stride, 0), limit) + 0.5)
        for value, limit in zip(box, limits, strict=True)
    )
    across, down = max(x2 - x1, 1), max(y2 - y1, 1)
    pooled = torch.zeros(len(features), dtype=features.dtype)
    for channel in range(len(features)):
        row, column = channel % size**2 // size, channel % size
        top, bottom = y1 + row * down // size, y1 + math.ceil((row + 1) * down / size)
        left, right = x1 + column * across // size, x1 + math.ceil((column + 1) * across / size)
        cells = features[channel, top:bottom, left:right]
        pooled[channel] = cells.mean() if cells.numel() else 0
    return pooled.view(-1, size, size)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_position_sensitive_pool_equals_the_naive_loop(size: int) -> None:
    features = torch.randn(2, 2 * size**2, 8, 10, dtype=torch.float64)
    halves = [[2.0, 6, 10, 22], [40, 8, 40, 32], [36, 28, 40, 32]]
    boxes = torch.tensor(BOXES + halves, dtype=torch.float64)
    index = torch.arange(len(boxes)) % 2
    found = position_sensitive_pool(features, boxes, index, 4, size)
    for row, box in enumerate(boxes.tolist()):
        torch.testing.assert_close(found[row], naive_sensitive(features[index[row]], box, 4, size))


def test_gradients_of_position_sensitive_pool() -> None:
    """For boxes at and beyond the last row and column too."""
    features = torch.randn(2, 8, 5, 7, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[0.0, 0, 28, 20], [9, 5, 60, 60], [-9, -9, 3, 11], [28, 20, 28, 20]])
    index = torch.tensor([0, 1, 1, 0])

    def pooled(features: torch.Tensor) -> torch.Tensor:
        return position_sensitive_pool(features, boxes.double(), index, 4, 2)

    assert torch.autograd.gradcheck(pooled, (features,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_position_sensitive_pool_in_half_precision(dtype: torch.dtype) -> None:
    """Cells 3001 to 3003 hold 1, 2 and 3."""
    features = (torch.arange(3200) % 8).to(dtype).view(1, 1, 1, 3200)
    box = torch.tensor([[3000.8, 0, 3003.8, 1]])
    found = position_sensitive_pool(features, box, torch.tensor([0]), 1, 1)
    assert found.dtype == dtype
    assert found.item() == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_pool_in_half_precision_snaps_boxes_as_they_are(dtype: torch.dtype) -> None:
    """3000.8 is cell 3001; the two types would make it 3008 and 3000."""
    features = (torch.arange(3200) % 8).to(dtype).view(1, 1, 1, 3200).requires_grad_()
    box = torch.tensor([[3000.8, 0, 3000.8, 0]])
    found = roi_pool(features, box, torch.tensor([0]), 1, 1)
    assert found.dtype == dtype
    assert found.item() == 1  # 3001 % 8
    found.sum().backward()
    assert features.grad.flatten().nonzero().flatten().tolist() == [3001]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_kernel_in_half_precision_keeps_the_boxes_as_they_are(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells 3001.3 to 3003.3 hold 1.3 to 3.3, on average 2.3; bfloat16 would make them 3008."""
    features = (torch.arange(3200) % 8).to(dtype).view(1, 1, 1, 3200)
    box, image = torch.tensor([[3001.3, 0, 3003.3, 1]]), torch.tensor([0])
    gathered = roi_align([features], box, image, [1], 1)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    compiled = roi_align([features], box, image, [1], 1)
    assert compiled.dtype == gathered.dtype == dtype
    assert compiled.item() == pytest.approx(2.3, abs=0.02)
    assert gathered.item() == pytest.approx(2.3, abs=0.02)


@pytest.mark.parametrize("ratio", [0, 2])
def test_no_regions_still_give_a_gradient(ratio: int) -> None:
    features = torch.randn(1, 4, 8, 8, requires_grad=True)
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
    for pooled in (
        roi_align([features], *none, [4], 7, ratio),
        roi_pool(features, *none, 4, 7),
        position_sensitive_pool(features.repeat(1, 49, 1, 1), *none, 4, 7),
    ):
        assert pooled.shape == (0, 4, 7, 7)
        features.grad = None
        pooled.sum().backward()
        assert features.grad is not None
        assert (features.grad == 0).all()
