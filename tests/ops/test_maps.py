"""Pixels charged by hand, and logits brought back to their pictures."""

import pytest
import torch
import torch.nn.functional as F

import sightline.ops.maps
from sightline.ops.maps import pixel_cross_entropy, to_maps
from sightline.types import Placement, Scene


def scene(*rows: list[int]) -> Scene:
    return Scene((len(rows), len(rows[0])), semantic=torch.tensor(rows))


def test_each_labelled_pixel_is_charged_the_logarithm_of_its_class() -> None:
    """Even odds cost log 2; three to one in favour cost log 4/3; 255 costs nothing."""
    logits = torch.tensor([[0.0, 3.0, 3.0], [0.0, 1.0, 1.0]]).log().nan_to_num(neginf=0.0)
    loss = pixel_cross_entropy(logits[None, :, None], [scene([0, 0, 255])])
    assert loss.total.item() == pytest.approx(torch.tensor(2 * 4 / 3).log().item())
    assert loss.count == 2


def test_a_weight_multiplies_what_its_class_costs() -> None:
    logits, weights = torch.zeros(1, 2, 1, 3), torch.tensor([1.0, 5.0])
    loss = pixel_cross_entropy(logits, [scene([0, 1, 255])], weights)
    assert loss.total.item() == pytest.approx(6 * torch.tensor(2.0).log().item())
    assert loss.count == 2


def test_nothing_labelled_costs_nothing_and_still_has_a_gradient() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = pixel_cross_entropy(logits, [scene([255, 255], [255, 255])])
    assert loss.total == loss.count == 0
    loss.mean().backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_target_without_a_map_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.png has no label map"):
        pixel_cross_entropy(torch.zeros(1, 2, 2, 2), [Scene((2, 2), path="a.png")])


def test_padding_is_cut_off_before_a_map_is_scaled() -> None:
    """A picture of 2 x 4 in a corner of 4 x 6, where the padding shouts for class 2."""
    logits = torch.full((1, 3, 4, 6), -5.0)
    logits[:, 2] = 100.0
    logits[0, :, 1:3, 2:6] = 0
    logits[0, 0, 1:3, 2:4] = logits[0, 1, 1:3, 4:6] = 1.0
    (answer,) = to_maps(logits, [Placement((4, 8), (2, 4), (1, 2))])
    assert answer.size == (4, 8)
    assert answer.semantic is not None
    assert answer.semantic.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 4


@pytest.mark.parametrize("at_once", [1, 40, 80, 10**6])
def test_however_many_classes_are_resized_together(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The naive twin resizes all of them; the first of two equals wins."""
    monkeypatch.setattr(sightline.ops.maps, "_AT_ONCE", at_once)
    logits = torch.randn(1, 7, 5, 6)
    logits[:, 4] = logits[:, 1]
    (answer,) = to_maps(logits, [Placement((4, 10), (5, 6))])
    naive = F.interpolate(logits, size=(4, 10), mode="bilinear").argmax(1)[0]
    assert answer.semantic is not None
    assert torch.equal(answer.semantic, naive)
