"""Operators of ours and torchvision's in standard ONNX operators."""

from collections.abc import Callable
from typing import Any

import torch
import torchvision  # noqa: F401  # registers its operators
from onnx import TensorProto
from onnxscript import opset20

from sightline.ops.suppress import EMPTY

op: Any = opset20  # its annotations know no plain numbers

_ALL = 2**31 - 1


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For ``torch.onnx.export``: what each operator becomes."""
    return {
        torch.ops.sightline.nms_mask.default: nms_mask,
        torch.ops.torchvision.roi_pool.default: roi_pool,
        torch.ops.torchvision.ps_roi_pool.default: ps_roi_pool,
    }


def nms_mask(boxes: Any, scores: Any, groups: Any, kinds: int, iou: float) -> Any:
    """ONNX suppresses picture by picture and class by class, given a score for each class: a box
    has its own in its group and EMPTY in the others."""
    every = op.Reshape(op.Constant(value_ints=list(range(kinds))), [1, kinds, 1])
    mine = op.Equal(op.Unsqueeze(groups, [1]), every)
    by_group = op.Where(mine, op.Unsqueeze(scores, [1]), EMPTY)
    kept = op.NonMaxSuppression(boxes, by_group, _ALL, iou, EMPTY / 2)  # rows: picture, group, box
    where = op.Gather(kept, [0, 2], axis=1)
    ones = op.Expand(1.0, op.Shape(kept, start=0, end=1))
    mask = op.ScatterND(op.Expand(0.0, op.Shape(scores)), where, ones)
    return op.Cast(mask, to=TensorProto.BOOL)


def roi_pool(features: Any, regions: Any, scale: float, height: int, width: int) -> Any:
    """The second answer, where each maximum was, serves training alone."""
    pooled = op.MaxRoiPool(features, regions, pooled_shape=[height, width], spatial_scale=scale)
    return pooled, op.Cast(pooled, to=TensorProto.INT32)


def ps_roi_pool(features: Any, regions: Any, scale: float, height: int, width: int) -> Any:
    """The sum over a bin is a difference of four corners of the integral image, which is kept in
    double precision. The kernel's bins end before the last row and column, so the integral has the
    shape of the map. The second answer serves training alone."""
    bins = height * width
    image = op.Cast(op.Gather(regions, [0], axis=1), to=TensorProto.INT64)
    corners = _half_away(op.Mul(op.Gather(regions, [1, 2, 3, 4], axis=1), scale))
    rows, columns = (op.Gather(op.Shape(features), side) for side in (2, 3))
    left, right = _bins(corners, 0, width, columns)
    top, bottom = _bins(corners, 1, height, rows)
    top, bottom = op.Unsqueeze(top, [2]), op.Unsqueeze(bottom, [2])  # [R, S, 1]
    left, right = op.Unsqueeze(left, [1]), op.Unsqueeze(right, [1])  # [R, 1, S]

    exact = op.Cast(features, to=TensorProto.DOUBLE)
    integral = op.CumSum(op.CumSum(exact, 2, exclusive=1), 3, exclusive=1)
    cells = op.Mul(rows, columns)
    planes = op.Reshape(
        integral, op.Concat(op.Constant(value_ints=[0, -1, bins]), op.Reshape(cells, [1]), axis=0)
    )
    flat = op.Flatten(op.Transpose(planes, perm=[0, 2, 3, 1]), axis=3)  # [B bins cells, C]
    number = op.Constant(value_ints=list(range(bins)))
    plane = op.Reshape(op.Add(op.Mul(image, bins), number), [-1, height, width])
    start = op.Mul(plane, cells)

    def at(y: Any, x: Any) -> Any:
        return op.Gather(flat, op.Add(start, op.Add(op.Mul(y, columns), x)), axis=0)

    total = op.Sub(
        op.Sub(at(bottom, right), at(top, right)), op.Sub(at(bottom, left), at(top, left))
    )
    area = op.Mul(op.Clip(op.Sub(bottom, top), 0), op.Clip(op.Sub(right, left), 0))
    share = op.Div(total, op.Cast(op.Unsqueeze(op.Clip(area, 1), [3]), to=TensorProto.DOUBLE))
    mean = op.Where(op.Greater(op.Unsqueeze(area, [3]), 0), op.CastLike(share, features), 0.0)
    pooled = op.Transpose(mean, perm=[0, 3, 1, 2])
    return pooled, op.Cast(pooled, to=TensorProto.INT32)


def _half_away(values: Any) -> Any:
    """To whole numbers as C rounds; ONNX takes halves to the even one."""
    size = op.Abs(values)
    whole = op.Floor(size)
    nearest = op.Where(op.Less(op.Sub(size, whole), 0.5), whole, op.Add(whole, 1.0))
    return op.Mul(op.Sign(values), nearest)


def _bins(corners: Any, axis: int, count: int, cells: Any) -> tuple[Any, Any]:
    """Along x (0) or y (1), of regions [R, 4] in whole cells: the first cell of each bin and the
    one after its last, [R, count], before the last cell of the map."""
    start, end = (op.Gather(corners, [side], axis=1) for side in (axis, axis + 2))
    step = op.Div(op.Clip(op.Sub(end, start), 1.0), float(count))
    number = op.Constant(value_floats=[float(n) for n in range(count)])
    first = op.Add(op.Floor(op.Mul(number, step)), start)
    after = op.Add(op.Ceil(op.Mul(op.Add(number, 1.0), step)), start)
    last = op.CastLike(op.Sub(cells, 1), start)
    inside = (op.Clip(edge, 0.0, last) for edge in (first, after))
    low, high = (op.Cast(edge, to=TensorProto.INT64) for edge in inside)
    return low, high
