"""Anchor grids and point grids, on one level or many."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.errors import SightlineError
from sightline.shapes import Float

PYRAMID_SIZES = ((32,), (64,), (128,), (256,), (512,))


def cell_anchors(
    sizes: Sequence[float], ratios: Sequence[float], rounded: bool = False
) -> Float[Tensor, "K 4"]:
    """K = sizes x ratios boxes around the origin, ratio by ratio.

    A size is the square root of an anchor's area in pixels, a ratio its height over its width.
    ``rounded`` puts the corners on whole pixels, as torchvision does.
    """
    ratio = torch.tensor(ratios, dtype=torch.float32)[:, None]
    size = torch.tensor(sizes, dtype=torch.float32)[None, :]
    stretch = ratio.sqrt()
    width, height = (size / stretch).flatten(), (size * stretch).flatten()
    boxes = torch.stack([-width, -height, width, height], dim=1) / 2
    return boxes.round() if rounded else boxes


def point_grid(
    shape: tuple[int, int],
    stride: tuple[float, float],
    offset: float = 0.5,
    device: torch.device | None = None,
) -> Float[Tensor, "P 2"]:
    """The x, y of every cell of a map of ``shape`` rows and columns, row by row.

    ``stride`` is vertical and horizontal, in pixels; ``offset`` 0.5 is the middle of a cell, 0 its
    upper left corner.
    """
    rows = (torch.arange(shape[0], device=device, dtype=torch.float32) + offset) * stride[0]
    columns = (torch.arange(shape[1], device=device, dtype=torch.float32) + offset) * stride[1]
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], dim=-1).flatten(0, 1)


def anchor_grid(
    cell: Float[Tensor, "K 4"],
    shape: tuple[int, int],
    stride: tuple[float, float],
    offset: float = 0.0,
) -> Float[Tensor, "A 4"]:
    """The K anchors of a cell repeated over a map: A = rows x columns x K, cell by cell."""
    points = point_grid(shape, stride, offset, cell.device)
    return (points.repeat(1, 2)[:, None] + cell).flatten(0, 1)


def level_anchors(
    cells: Sequence[Float[Tensor, "_ 4"]],
    pyramid: Sequence[Float[Tensor, "B F _ _"]],
    pixels: Float[Tensor, "B 3 H W"],
    strides: Sequence[int] | None,
) -> list[Float[Tensor, "_ 4"]]:
    """The anchors of each level, cell by cell, given those of one cell; without strides they are
    spread evenly over the padded picture (a level of 13 cells over 800 pixels steps by 61)."""
    height, width = pixels.shape[-2:]
    grids = []
    for level, (cell, features) in enumerate(zip(cells, pyramid, strict=True)):
        rows, columns = features.shape[-2:]
        stride = (height // rows, width // columns)
        if strides is not None:
            stride = (strides[level], strides[level])
        grids.append(anchor_grid(cell, (rows, columns), stride))
    return grids


def sizes_of_levels(
    levels: int, given: Sequence[Sequence[float]] | None = None
) -> Sequence[Sequence[float]]:
    """The given anchor sizes, or one a level for the usual five levels, and for any other pyramid
    all five on every level.

    Raises:
        SightlineError: not as many lists as levels, or some longer than others.
    """
    if given is None:
        all_sizes = tuple(size for (size,) in PYRAMID_SIZES)
        return PYRAMID_SIZES if levels == len(PYRAMID_SIZES) else (all_sizes,) * levels
    lists = [size for size in given if isinstance(size, Sequence)]
    if len(lists) != len(given) or len(given) != levels or len({len(s) for s in lists}) != 1:
        raise SightlineError(
            f"anchor_sizes {given}: the pyramid has {levels} levels, each needs a list of sizes, "
            "as many as the others"
        )
    return given
