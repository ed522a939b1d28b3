"""Fixed-size features of regions: RoIPool, position-sensitive pooling, and RoIAlign over one level
or a pyramid.

RoIAlign (Mask R-CNN, section 3) has two forms with equal values. *Gathered*: each sample is a
weighted sum of four rows of the flattened, channels-last pyramid, and the samples of a bin are one
bag of ``embedding_bag``; gradients reach the features and, through the weights, the box
coordinates. This is also the fastest form on a CPU. *Compiled*: torchvision's kernel, for GPUs and
exported graphs, whose gradients stop at the features; a graph pools all levels of a pyramid from
one canvas, since how many boxes a level has is data.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.ops.boxes import area, clip
from sightline.ops.pyramid import Cells, Pyramid
from sightline.shapes import Float, Int


def assign_levels(
    boxes: Float[Tensor, "R 4"], strides: Sequence[int], size: float = 224, level: int = 4
) -> Int[Tensor, " R"]:
    """The row of ``strides`` that pools each box (FPN, equation 1): a box of ``size`` pixels a side
    goes to the level of stride 2**level, a box half as large one level finer."""
    finest, coarsest = (stride.bit_length() - 1 for stride in (strides[0], strides[-1]))
    # The small term keeps exact powers of two on their own level whatever sqrt and log2 round to.
    exact = level + torch.log2(area(boxes).sqrt() / size + 1e-6)
    return exact.floor().clamp(finest, coarsest).long() - finest


def roi_pool(
    features: Float[Tensor, "B C H W"],
    boxes: Float[Tensor, "R 4"],
    image_index: Int[Tensor, " R"],
    stride: int,
    size: int,
) -> Float[Tensor, "R C S S"]:
    """RoIPool (Fast R-CNN, section 2.1): the box snapped to whole cells, cut into S x S bins of
    whole cells, the maximum of each; 0 for a bin without cells. Half precision is pooled in
    float32: it cannot hold the coordinates, and bfloat16 has no kernel on a CPU."""
    from torchvision.ops import roi_pool as kernel

    exact = _exact(features)
    pooled = kernel(exact, _with_index(boxes, image_index, exact), size, 1 / stride)
    return pooled.to(features.dtype)


def position_sensitive_pool(
    features: Float[Tensor, "B SSC H W"],
    boxes: Float[Tensor, "R 4"],
    image_index: Int[Tensor, " R"],
    stride: int,
    size: int,
) -> Float[Tensor, "R C S S"]:
    """Position-sensitive RoI pooling (R-FCN, section 2, equation 1): the box, cut off at the edge
    of the map and snapped to whole cells, in S x S bins of whole cells; bin (i, j) is the mean of
    its own channel (c * S + i) * S + j; 0 for a bin without cells. Half precision is pooled in
    float32.

    The kernel never reads the last row and column, yet its gradient does: it is given one of each
    more.
    """
    from torchvision.ops import ps_roi_pool as kernel

    exact = _exact(features)
    edge = torch.stack([boxes.new_full((), side * stride) for side in features.shape[-2:]])
    indexed = _with_index(clip(boxes, edge), image_index, exact)
    return kernel(F.pad(exact, (0, 1, 0, 1)), indexed, size, 1 / stride).to(features.dtype)


def roi_align(
    pyramid: Pyramid,
    boxes: Float[Tensor, "R 4"],
    image_index: Int[Tensor, " R"],
    strides: Sequence[int],
    size: int,
    sampling_ratio: int = 2,
    aligned: bool = False,
    reduce: Literal["mean", "max"] = "mean",
) -> Float[Tensor, "R C S S"]:
    """Each box cut into S x S bins without snapping, each bin sampled bilinearly at
    ``sampling_ratio`` squared points, the samples averaged (or their maximum taken).

    Boxes are in pixels of the batch; ``strides`` has one entry a level. ``sampling_ratio`` 0 takes
    as many points a side as a bin has cells, rounded up. ``aligned`` puts the value of a cell at
    its middle (Detectron2's ROIAlignV2); without it a cell's value sits at its corner and a box
    counts as at least one cell wide and high.
    """
    levels = boxes.new_zeros(boxes.shape[0], dtype=torch.long)
    if len(pyramid) > 1:
        levels = assign_levels(boxes.detach(), strides)
    task = _Task(pyramid, boxes, image_index, levels, strides, size, sampling_ratio, aligned)
    shapes_only = pyramid[0].is_meta
    on_kernel = pyramid[0].device.type != "cpu" or torch.compiler.is_exporting() or shapes_only
    if on_kernel and reduce == "mean" and not boxes.requires_grad:
        exact = task._replace(pyramid=[_exact(features) for features in pyramid])
        in_graph = torch.compiler.is_compiling() or shapes_only  # where no shape may be data
        pooled = _on_canvas(exact) if in_graph and len(pyramid) > 1 else _compiled(exact)
        return pooled.to(pyramid[0].dtype)
    regions = _Regions.place(task)
    if sampling_ratio > 0:
        index, weight = regions.even_samples(sampling_ratio)
        pooled = _gather_even(regions.flat, index, weight, reduce)
    else:
        pooled = _gather_ragged(regions, reduce)
    return pooled.unflatten(0, (boxes.shape[0], size, size)).permute(0, 3, 1, 2)


class _Task(NamedTuple):
    """What ``roi_align`` was asked for, and the level of each box."""

    pyramid: Pyramid
    boxes: Float[Tensor, "R 4"]
    image_index: Int[Tensor, " R"]
    levels: Int[Tensor, " R"]
    strides: Sequence[int]
    size: int
    ratio: int
    aligned: bool

    def on_level(self) -> Float[Tensor, "R 4"]:
        """The boxes in cells of their level."""
        return self.boxes / self.boxes.new_tensor(self.strides)[self.levels, None]


def _exact(features: Tensor) -> Tensor:
    """In a precision that can hold coordinates beside them."""
    return features.float() if features.element_size() < 4 else features


def _with_index(boxes: Tensor, image_index: Tensor, features: Tensor) -> Tensor:
    """The kernels' form: [R, 5], the picture's index first."""
    return torch.cat([image_index[:, None].to(boxes.dtype), boxes], dim=1).to(features.dtype)


def _compiled(task: _Task) -> Tensor:
    """The kernel on each level with the boxes of that level."""
    from torchvision.ops import roi_align as kernel

    pyramid, how = task.pyramid, (task.ratio, task.aligned)
    indexed = _with_index(task.boxes, task.image_index, pyramid[0])
    if len(pyramid) == 1:
        return kernel(pyramid[0], indexed, task.size, 1 / task.strides[0], *how)
    pooled = pyramid[0].new_zeros(len(indexed), pyramid[0].shape[1], task.size, task.size)
    for level, (features, stride) in enumerate(zip(pyramid, task.strides, strict=True)):
        rows = (task.levels == level).nonzero().flatten()
        here = kernel(features, indexed[rows], task.size, 1 / stride, *how)
        pooled = pooled.index_copy(0, rows, here)
    return pooled


def _on_canvas(task: _Task) -> Tensor:
    """All levels below one another on one canvas, one call of the kernel: no shape is data. For
    boxes within the picture, as those of every model are.

    The border of each map is repeated, so that samples up to a cell outside of it find what they
    would at its edge. Beyond the far edge a sample counts 0: only boxes narrower than a cell, which
    are taken as one cell wide, reach there, and their bins are scaled by the share that does not.
    """
    from torchvision.ops import roi_align as kernel

    pyramid, levels, size = task.pyramid, task.levels, task.size
    heights = [features.shape[-2] for features in pyramid]
    widths = [features.shape[-1] for features in pyramid]
    canvas = torch.cat([_bordered(features, max(widths) + 3) for features in pyramid], dim=2)
    tops = [1 + 3 * level + sum(heights[:level]) for level in range(len(pyramid))]
    boxes = task.on_level()
    top = _at(tops, levels, boxes)
    origin = torch.stack([torch.ones_like(top), top], dim=1).repeat(1, 2)
    indexed = _with_index(boxes + origin, task.image_index, canvas)
    pooled = kernel(canvas, indexed, size, 1.0, task.ratio, task.aligned)
    if task.aligned:
        return pooled
    inside_x = _share_inside(boxes[:, 0::2], _at(widths, levels, boxes), size, task.ratio)
    inside_y = _share_inside(boxes[:, 1::2], _at(heights, levels, boxes), size, task.ratio)
    return pooled * inside_y[:, None, :, None] * inside_x[:, None, None, :]


def _bordered(features: Float[Tensor, "B C H W"], width: int) -> Float[Tensor, "B C _ _"]:
    """The map with its edge repeated, once above and on the left, twice below and on the right, and
    filled up with zeros to a width."""
    right, left = features[..., -1:], features[..., :1]
    broad = torch.cat([left, features, right, right], dim=3)
    high = torch.cat([broad[:, :, :1], broad, broad[:, :, -1:], broad[:, :, -1:]], dim=2)
    return F.pad(high, (0, width - features.shape[-1] - 3))


def _at(values: Sequence[int], levels: Int[Tensor, " R"], like: Tensor) -> Float[Tensor, " R"]:
    """The value of each box's level; a value may be a size that a graph leaves open."""
    mine = (levels == level for level in range(len(values)))
    return sum(
        (here.to(like.dtype) * value for here, value in zip(mine, values, strict=True)),
        torch.zeros_like(levels, dtype=like.dtype),
    )


def _share_inside(
    ends: Float[Tensor, "R 2"], cells: Float[Tensor, " R"], size: int, ratio: int
) -> Float[Tensor, "R S"]:
    """Along one axis, of the samples in each bin the share that lies on the map. (A ``ratio`` of 0,
    a sample a cell, is one sample where the box is narrower than a cell: the rest is inside.)"""
    ratio = max(ratio, 1)
    side = (ends[:, 1] - ends[:, 0]).clamp(min=1) / size
    steps = (torch.arange(size * ratio, device=ends.device) + 0.5) / ratio
    position = ends[:, :1] + steps * side[:, None]
    return (position <= cells[:, None]).to(ends.dtype).unflatten(1, (size, ratio)).mean(dim=2)


class _Axis(NamedTuple):
    """Along one axis: the two cells beside each sample and their bilinear weights."""

    low: Tensor
    high: Tensor
    low_weight: Tensor
    high_weight: Tensor


def _neighbours(position: Tensor, cells: Tensor) -> _Axis:
    """A sample up to one cell outside the map takes the border's value, beyond that it is 0."""
    inside = (position >= -1) & (position <= cells)
    last = cells - 1
    clamped = torch.minimum(position.clamp(min=0), last.to(position.dtype))
    low = clamped.detach().floor()
    fraction = clamped - low
    low = low.long()
    inside = inside.to(position.dtype)
    return _Axis(low, torch.minimum(low + 1, last), (1 - fraction) * inside, fraction * inside)


class _Regions(NamedTuple):
    """R regions placed on the flattened pyramid; positions are in cells of each region's level."""

    flat: Float[Tensor, "rows C"]
    start: Float[Tensor, "R 2"]  # y, x of the upper left corner
    bin: Float[Tensor, "R 2"]  # height, width of a bin
    base: Int[Tensor, " R"]  # the row of the first cell of the region's picture and level
    cells: Int[Tensor, "R 2"]  # height, width of that level's map
    size: int

    @classmethod
    def place(cls, task: _Task) -> "_Regions":
        cells, levels = Cells.of(task.pyramid), task.levels
        exact = task._replace(boxes=_exact(task.boxes))
        corners = exact.on_level() - (0.5 if task.aligned else 0.0)
        extent = corners[:, 2:] - corners[:, :2]
        if not task.aligned:
            extent = extent.clamp(min=1)
        return cls(
            flat=cells.table,
            start=corners[:, :2].flip(1),
            bin=extent.flip(1) / task.size,
            base=cells.first[levels] + task.image_index * cells.per_picture[levels],
            cells=cells.shapes[levels],
            size=task.size,
        )

    def even_samples(self, ratio: int) -> tuple[Tensor, Tensor]:
        """Rows and weights [R, S, S, ratio * ratio, 4] for ``ratio`` points a side in every bin."""
        sample = torch.arange(self.size * ratio, device=self.start.device)
        cell, within = sample // ratio, sample % ratio
        axes = []
        for axis in (0, 1):
            start, side = self.start[:, axis, None], self.bin[:, axis, None]
            position = start + cell * side + (within + 0.5) * side / ratio
            axes.append(_neighbours(position, self.cells[:, axis, None]))
        along_y = _Axis(*(v.view(-1, self.size, 1, ratio, 1) for v in axes[0]))
        along_x = _Axis(*(v.view(-1, 1, self.size, 1, ratio) for v in axes[1]))
        width = self.cells[:, 1].view(-1, 1, 1, 1, 1)
        index, weight = _corners(along_y, along_x, self.base.view(-1, 1, 1, 1, 1), width)
        return index.flatten(3, 4), weight.flatten(3, 4)

    def ragged_samples(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows and weights [T, 4] of all samples, bin after bin, and how many each bin has, for as
        many points a side as the region's bins have cells."""
        side = self.bin.detach().ceil().long()
        bins = self.size**2
        per_bin = side.prod(dim=1).repeat_interleave(bins)
        bag = torch.arange(len(per_bin), device=side.device).repeat_interleave(per_bin)
        nth = torch.arange(len(bag), device=side.device) - (per_bin.cumsum(0) - per_bin)[bag]
        region, place = bag // bins, bag % bins
        within = torch.stack([nth // side[region, 1], nth % side[region, 1]], dim=1)
        cell = torch.stack([place // self.size, place % self.size], dim=1)
        bin = self.bin[region]
        position = self.start[region] + cell * bin + (within + 0.5) * bin / side[region]
        along_y = _neighbours(position[:, 0], self.cells[region, 0])
        along_x = _neighbours(position[:, 1], self.cells[region, 1])
        index, weight = _corners(along_y, along_x, self.base[region], self.cells[region, 1])
        return index, weight, per_bin


def _corners(y: _Axis, x: _Axis, base: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """The four rows around each sample and their weights, in a new last axis."""
    low, high = base + y.low * width, base + y.high * width
    index = torch.stack([low + x.low, low + x.high, high + x.low, high + x.high], dim=-1)
    weight = torch.stack(
        [
            y.low_weight * x.low_weight,
            y.low_weight * x.high_weight,
            y.high_weight * x.low_weight,
            y.high_weight * x.high_weight,
        ],
        dim=-1,
    )
    return index, weight


def _bags(flat: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """The weighted sum of the rows of each bag: [bags, C]."""
    return F.embedding_bag(index, flat, mode="sum", per_sample_weights=weight.to(flat.dtype))


def _gather_even(flat: Tensor, index: Tensor, weight: Tensor, reduce: str) -> Tensor:
    if reduce == "mean":
        weight = weight / weight.shape[3]
        return _bags(flat, index.flatten(0, 2).flatten(1), weight.flatten(0, 2).flatten(1))
    samples = _bags(flat, index.flatten(0, 3), weight.flatten(0, 3))
    regions, rows, columns, count = index.shape[:4]
    return samples.unflatten(0, (regions * rows * columns, count)).amax(1)


def _gather_ragged(regions: _Regions, reduce: str) -> Tensor:
    index, weight, per_bin = regions.ragged_samples()
    bins = torch.arange(len(per_bin), device=index.device).repeat_interleave(per_bin)
    samples = _bags(regions.flat, index, weight)
    pooled = samples.new_zeros(len(per_bin), samples.shape[1])
    how = "mean" if reduce == "mean" else "amax"
    into = bins[:, None].expand_as(samples)
    return pooled.scatter_reduce(0, into, samples, reduce=how, include_self=False)
