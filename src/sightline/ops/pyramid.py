"""A pyramid as one table of its cells, and convolutions at single cells of it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.shapes import Bool, Float, Int

Pyramid = Sequence[Float[Tensor, "B C _ _"]]


class Cells(NamedTuple):
    """Every cell of a pyramid: level by level, picture by picture, row by row."""

    table: Float[Tensor, "cells+1 C"]  # the last row is zero: what lies beyond the maps
    shapes: Int[Tensor, "L 2"]  # height, width of each level
    per_picture: Int[Tensor, " L"]  # cells of one picture
    first: Int[Tensor, " L"]  # where each level begins

    @classmethod
    def of(cls, pyramid: Pyramid) -> "Cells":
        batch, channels = pyramid[0].shape[:2]
        levels = [level.permute(0, 2, 3, 1).reshape(-1, channels) for level in pyramid]
        # Tensor by tensor: a list of numbers would fix the sizes that a graph leaves open.
        numbers = torch.zeros((), dtype=torch.long, device=pyramid[0].device)
        sides = [numbers.new_full((), side) for level in pyramid for side in level.shape[-2:]]
        shapes = torch.stack(sides).view(-1, 2)
        per_picture = shapes.prod(dim=1)
        table = torch.cat([*levels, levels[0].new_zeros(1, channels)])
        return cls(table, shapes, per_picture, batch * (per_picture.cumsum(0) - per_picture))

    def around(
        self, image_index: Int[Tensor, " S"], cell: Int[Tensor, " S"], reach: int
    ) -> Int[Tensor, "S N N"]:
        """The rows of the N x N cells, N = 2 reach + 1, around single cells, each counted level by
        level in its picture."""
        ends = self.per_picture.cumsum(0)
        level = torch.bucketize(cell, ends, right=True)
        height, width = (side[:, None, None] for side in self.shapes[level].unbind(1))
        within = (cell - (ends - self.per_picture)[level])[:, None, None]
        shift = torch.arange(-reach, reach + 1, device=cell.device)
        y, x = within // width + shift[:, None], within % width + shift
        start = self.first[level] + image_index * self.per_picture[level]
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        return torch.where(inside, start[:, None, None] + y * width + x, len(self.table) - 1)


def conv_at(
    table: Float[Tensor, "T C"],
    rows: Int[Tensor, "S N N"],
    weight: Float[Tensor, "K C 3 3"],
    bias: Float[Tensor, " K"],
) -> Float[Tensor, "S M M K"]:
    """A 3x3 convolution at the inner M = N - 2 cells a side of S squares of cells, whose features
    are ``rows`` of the table."""
    windows = rows.unfold(1, 3, 1).unfold(2, 3, 1).flatten(3)
    seen = F.embedding(windows, table).flatten(3)
    return F.linear(seen, weight.permute(0, 2, 3, 1).flatten(1), bias)


def as_table(
    features: Float[Tensor, "S M M K"], inside: Bool[Tensor, "S M M"]
) -> tuple[Float[Tensor, "T K"], Int[Tensor, "S M M"]]:
    """Squares of features as a table, and their rows; those not inside are zero."""
    rows = torch.arange(inside.numel(), device=inside.device).view_as(inside)
    table = torch.cat([features.flatten(0, 2), features.new_zeros(1, features.shape[-1])])
    return table, torch.where(inside, rows, inside.numel())
