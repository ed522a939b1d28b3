"""Convolutions at single cells, beside those of whole maps."""

import pytest
import torch
import torch.nn.functional as F

from sightline.ops.pyramid import Cells, as_table, conv_at

SHAPES = ((4, 5), (2, 3), (1, 1))


def maps() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3, *s, dtype=torch.float64, requires_grad=True) for s in SHAPES]


def test_rows_by_hand() -> None:
    """Two pictures of 4 x 5, 2 x 3 and 1 x 1 cells: 27 a picture; levels begin at 0, 40 and 52."""
    cells = Cells.of(maps())
    assert cells.first.tolist() == [0, 40, 52]
    assert len(cells.table) == 54 + 1
    # Cell 20 of picture 1: the first of its second level, which begins at 40 + 6.
    rows = cells.around(torch.tensor([1]), torch.tensor([20]), reach=1)
    assert rows.tolist() == [[[54, 54, 54], [54, 46, 47], [54, 49, 50]]]
    assert not cells.table[-1].any()


@pytest.mark.parametrize("layers", [1, 2])
def test_equals_the_convolution_of_the_whole(layers: int) -> None:
    """Values, and gradients of maps and weights, at every cell; zeros lie beyond each layer."""
    pyramid = maps()
    weights = [torch.randn(3, 3, 3, 3, dtype=torch.float64, requires_grad=True) for _ in "ab"]
    bias = torch.randn(3, dtype=torch.float64)
    whole = pyramid
    for weight in weights[:layers]:
        whole = [F.conv2d(level, weight, bias, padding=1) for level in whole]
    expected = torch.cat([level.permute(0, 2, 3, 1).flatten(1, 2) for level in whole], dim=1)

    cells = Cells.of(pyramid)
    image_index = torch.arange(2).repeat_interleave(27)
    table, rows = cells.table, cells.around(image_index, torch.arange(27).repeat(2), layers)
    for weight in weights[:layers]:
        hidden = conv_at(table, rows, weight, bias)
        table, rows = as_table(hidden, rows[:, 1:-1, 1:-1] < len(table) - 1)
    torch.testing.assert_close(table[:-1], expected.flatten(0, 1))
    leaves = [*pyramid, *weights[:layers]]
    mine = torch.autograd.grad((table[:-1] ** 2).sum(), leaves)
    theirs = torch.autograd.grad((expected**2).sum(), leaves)
    torch.testing.assert_close(mine, theirs)


def test_no_cells() -> None:
    cells, none = Cells.of(maps()), torch.zeros(0, dtype=torch.long)
    weight = torch.randn(3, 3, 3, 3, dtype=torch.float64)
    hidden = conv_at(cells.table, cells.around(none, none, 1), weight, weight[:, 0, 0, 0])
    assert hidden.shape == (0, 1, 1, 3)
