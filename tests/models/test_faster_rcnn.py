"""What the builder makes of its options, and weights that diverged."""

import pytest
import torch

from sightline.errors import SightlineError
from sightline.models import create
from sightline.models.faster_rcnn import PYRAMID_SIZES, sizes_of_levels
from sightline.types import Images


def test_five_levels_have_one_size_each_and_others_have_all() -> None:
    assert sizes_of_levels(5) == PYRAMID_SIZES
    assert sizes_of_levels(2) == ((32, 64, 128, 256, 512),) * 2
    assert sizes_of_levels(2, [[8], [16]]) == [[8], [16]]


@pytest.mark.parametrize("given", [[[8]], [[8], [16, 24]], [[8], [16], [32]]])
def test_sizes_that_do_not_fit_the_levels(given: list) -> None:
    with pytest.raises(SightlineError, match="the pyramid has 2 levels"):
        sizes_of_levels(2, given)


@pytest.mark.parametrize("name", ["faster_rcnn", "faster_rcnn_v2"])
def test_a_backbone_of_two_maps_has_large_anchors_too(name: str) -> None:
    model = create(name, 1, backbone="vit_tiny_patch16_224", channels=8, hidden=8)
    images = Images(torch.zeros(1, 3, 64, 64), torch.tensor([[64, 64]]))
    model.eval()
    anchors = model.rpn.anchors(model.outputs(images).pyramid, images)
    widths = torch.cat(anchors)[:, 2] - torch.cat(anchors)[:, 0]
    assert widths.max() > 500


def test_weights_that_diverged_find_nothing() -> None:
    """NaN shifts of the RPN end in no proposal, not in an index out of bounds."""
    model = create("faster_rcnn", 1, backbone="resnet18", channels=8, hidden=8).eval()
    torch.nn.init.constant_(model.rpn.box_shift.bias, float("nan"))
    images = Images(torch.zeros(1, 3, 64, 64), torch.tensor([[64, 64]]))
    with torch.no_grad():
        assert (model(images).scores <= 0).all()
