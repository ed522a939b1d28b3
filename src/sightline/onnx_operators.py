"""Operators of ours and torchvision's in standard ONNX operators."""

from collections.abc import Callable
from typing import Any

import torch
import torchvision  # noqa: F401  # registers roi_pool
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
