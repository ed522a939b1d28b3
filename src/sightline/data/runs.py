"""The run lengths inside COCO's RLE, without a compiled library: a data set must be readable, and a
detector trainable, where neither hotcoco nor pycocotools is installed.

Runs of 0 and 1 alternate, 0 first, down the columns. The compressed form writes each run from the
fourth on as its difference from the one two before, in groups of five bits, least first, as the
characters "0" to "o": bit 5 says that more follow, bit 4 of the last group is the sign
(rleToString and rleFrString in cocoapi's maskApi.c).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Runs = NDArray[np.int64]


def compress(runs: Sequence[int]) -> bytes:
    text = bytearray()
    for place, run in enumerate(runs):
        left = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            group, left = left & 0x1F, left >> 5
            more = left != (-1 if group & 0x10 else 0)
            text.append(48 + (group | 0x20 if more else group))
    return bytes(text)


def expand(counts: bytes) -> Runs:
    """The run lengths of the compressed form.

    Raises:
        ValueError: these bytes are no compressed form.
    """
    groups = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if len(groups) and (groups.min() < 0 or groups.max() > 63 or groups[-1] & 0x20):
        raise ValueError("a character outside the code, or cut short")
    last = np.flatnonzero(groups & 0x20 == 0)
    first = np.concatenate([[0], last[:-1] + 1])[: len(last)]
    if np.any(last - first > 11):
        raise ValueError("a run length without end")
    run = np.repeat(np.arange(len(last)), last - first + 1)
    shift = 5 * (np.arange(len(groups)) - first[run])
    runs = np.zeros(len(last), np.int64)
    np.add.at(runs, run, (groups & 0x1F) << shift)
    runs -= np.where(groups[last] & 0x10, 1 << np.minimum(5 * (last - first + 1), 62), 0)
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    if np.any(runs < 0):
        raise ValueError("a negative run length")
    return runs


def of_block(block: NDArray[np.bool_], corner: tuple[int, int], size: tuple[int, ...]) -> list[int]:
    """The runs of a map of height and width ``size`` that is ``block``, not all 0, at ``corner``
    (top, left) and 0 elsewhere."""
    height, width = size
    columns = np.zeros((block.shape[1], block.shape[0] + 2), dtype=bool)
    columns[:, 1:-1] = block.T
    column, row = np.nonzero(columns[:, 1:] != columns[:, :-1])
    bounds = (corner[1] + column) * height + corner[0] + row  # start, end, start, end, ...
    # A run that ends at the foot of a column goes on where the next begins at its head.
    apart = np.repeat(bounds[1:-1:2] != bounds[2::2], 2)
    bounds = bounds[np.concatenate([[True], apart, [True]])]
    runs: list[int] = np.diff(bounds, prepend=0, append=height * width).tolist()
    return runs if runs[-1] else runs[:-1]


def box(runs: Runs, height: int) -> tuple[float, float, float, float]:
    """The tight box of the ones, xyxy; all zero where there are none."""
    ends = runs.cumsum()
    starts, stops = ends[0::2][: len(ends[1::2])], ends[1::2]
    starts, stops = starts[stops > starts], stops[stops > starts]
    if len(starts) == 0:
        return 0.0, 0.0, 0.0, 0.0
    tops, bottoms = starts % height, (stops - 1) % height + 1
    wraps = np.any(starts // height != (stops - 1) // height)  # a run over the end of a column
    top, bottom = (0, height) if wraps else (tops.min(), bottoms.max())
    return (
        float(starts[0] // height),
        float(top),
        float((stops[-1] - 1) // height + 1),
        float(bottom),
    )
