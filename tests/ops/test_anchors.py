import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from sightline.errors import SightlineError
from sightline.ops.anchors import (
    PYRAMID_SIZES,
    anchor_grid,
    cell_anchors,
    level_anchors,
    point_grid,
    sizes_of_levels,
)
from sightline.ops.boxes import area, to_cxcywh


def test_cell_anchors_by_hand() -> None:
    # Area 16 x 16 = 256 each; ratio 4 is twice as high as a square and half as wide.
    anchors = cell_anchors([16], [1, 4])
    assert anchors.tolist() == [[-8, -8, 8, 8], [-4, -16, 4, 16]]


def test_every_size_meets_every_ratio() -> None:
    anchors = cell_anchors([32, 64], [0.5, 1, 2])
    torch.testing.assert_close(area(anchors), torch.tensor([32.0**2, 64.0**2] * 3))
    _, _, width, height = to_cxcywh(anchors).unbind(1)
    torch.testing.assert_close(height / width, torch.tensor([0.5, 0.5, 1, 1, 2, 2]))


def test_points_go_row_by_row() -> None:
    points = point_grid((2, 3), (8, 4))
    assert points.tolist() == [[2, 4], [6, 4], [10, 4], [2, 12], [6, 12], [10, 12]]


def test_anchors_go_cell_by_cell() -> None:
    cell = cell_anchors([8, 16], [1])
    grid = anchor_grid(cell, (2, 2), (16, 16))
    assert torch.equal(grid[:2], cell)
    assert torch.equal(grid[2:4], cell + torch.tensor([16, 0, 16, 0]))
    assert torch.equal(grid[4:6], cell + torch.tensor([0, 16, 0, 16]))


def test_grid_equals_torchvision() -> None:
    sizes, ratios, shape = (32, 64, 128), (0.5, 1.0, 2.0), (13, 17)
    theirs = AnchorGenerator((sizes,), (ratios,))
    images = ImageList(torch.zeros(1, 3, 800, 1088), [(800, 1088)])
    expected = theirs(images, [torch.zeros(1, 8, *shape)])[0]
    cell = cell_anchors(sizes, ratios, rounded=True)
    assert torch.equal(anchor_grid(cell, shape, (800 // 13, 1088 // 17)), expected)


def test_levels_step_by_their_strides_or_evenly() -> None:
    """Of 36 pixels: the coarse level of 5 columns steps by its stride, 8, or by 36 // 5 = 7."""
    cells = [cell_anchors([4], [1]), cell_anchors([8], [1, 4])]
    pixels, pyramid = torch.zeros(1, 3, 36, 36), [torch.zeros(1, 2, 9, 9), torch.zeros(1, 2, 5, 5)]
    fine, coarse = level_anchors(cells, pyramid, pixels, strides=(4, 8))
    assert torch.equal(fine, anchor_grid(cells[0], (9, 9), (4, 4)))
    assert torch.equal(coarse, anchor_grid(cells[1], (5, 5), (8, 8)))
    assert coarse[2].tolist() == [8 - 4, -4, 8 + 4, 4], "the first anchor of the second cell"
    fine, coarse = level_anchors(cells, pyramid, pixels, strides=None)
    assert torch.equal(fine, anchor_grid(cells[0], (9, 9), (4, 4)))
    assert coarse[2].tolist() == [7 - 4, -4, 7 + 4, 4]


def test_an_empty_map_has_no_anchors() -> None:
    assert anchor_grid(cell_anchors([8], [1]), (0, 5), (8, 8)).shape == (0, 4)


def test_five_levels_have_one_size_each_and_others_have_all() -> None:
    assert sizes_of_levels(5) == PYRAMID_SIZES
    assert sizes_of_levels(2) == ((32, 64, 128, 256, 512),) * 2
    assert sizes_of_levels(2, [[8], [16]]) == [[8], [16]]


@pytest.mark.parametrize("given", [[[8]], [[8], [16, 24]], [[8], [16], [32]]])
def test_sizes_that_do_not_fit_the_levels(given: list) -> None:
    with pytest.raises(SightlineError, match="the pyramid has 2 levels"):
        sizes_of_levels(2, given)
