"""Maps as polygons: outlines along the edges of pixels, and several of them joined into one.

The outlines of a map, of its parts and of the holes in them, are filled by the even-odd rule, as
everybody's rasteriser does: what lies inside an odd number of them is set. One polygon says the
same if its outlines are joined by bridges, lines that go there and back: crossed twice, they change
nothing.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial import distance
from torch import Tensor

from sightline.shapes import Bool, Float

_CANDIDATES = 256  # corners of an outline among which the ends of a bridge are sought


def outlines(map: Bool[Tensor, "H W"]) -> list[Float[Tensor, "_ 2"]]:
    """The closed outlines of what is set, outer ones and those of holes, x and y of their corners.

    Every edge between unlike pixels is in one of them; the corners are whole numbers (in float64),
    and rasterised together by the even-odd rule they give the map again.
    """
    around = np.pad(map.cpu().numpy(), 1)
    left, right = around[:, :-1], around[:, 1:]
    turns = left[:-1] ^ right[:-1] ^ left[1:] ^ right[1:]
    touches = (left[:-1] == right[1:]) & (right[:-1] == left[1:]) & (left[:-1] != right[:-1])
    y, x = np.nonzero(turns | touches)
    twice = 1 + touches[y, x]  # where pixels touch at a corner, two turns share it
    y, x = y.repeat(twice), x.repeat(twice)
    # Along a row the turns are the ends of its edges, two by two; along a column likewise.
    down = np.lexsort((y, x))
    partner = np.empty_like(down)
    partner[down] = down.reshape(-1, 2)[:, ::-1].ravel()
    corners = torch.from_numpy(np.stack([x, y], axis=1).astype(np.float64))
    return [corners[loop] for loop in _loops(partner.tolist())]


def _loops(partner: list[int]) -> list[list[int]]:
    """Around each outline, by turns along a row (2k and 2k + 1 are ends of one edge) and along a
    column (so are i and partner[i])."""
    loops, left = [], set(range(len(partner)))
    for start in range(len(partner)):
        loop, at = [], start
        while at in left:
            loop += [at, at ^ 1]
            left -= {at, at ^ 1}
            at = partner[at ^ 1]
        if loop:
            loops.append(loop)
    return loops


def join(polygons: Sequence[Float[Tensor, "_ 2"]]) -> Float[Tensor, "P 2"]:
    """One polygon that encloses by the even-odd rule what one or more polygons enclose: each is
    joined to those before it by a short bridge."""
    joined, *others = (polygon.numpy() for polygon in polygons)
    for polygon in others:
        here, there = (1 + len(points) // _CANDIDATES for points in (joined, polygon))
        apart = distance.cdist(joined[::here], polygon[::there])
        row, column = divmod(int(apart.argmin()), apart.shape[1])
        here, there = row * here, column * there
        tour = [polygon[there:], polygon[: there + 1]]  # around and back to where it began
        joined = np.concatenate([joined[: here + 1], *tour, joined[here:]])
    return torch.from_numpy(joined)
