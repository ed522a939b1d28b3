"""When the answers of two forms of a model count as the same."""

import pytest
import torch

from sightline.agreement import NOTHING, Agreement, agree
from sightline.ops.suppress import EMPTY, Detections


def detections(*rows: tuple[float, float, int]) -> Detections:
    """Boxes of 10 pixels at x, each with its score and label, one picture."""
    x, scores, labels = zip(*rows, strict=True)
    left = torch.tensor(x)[None]
    boxes = torch.stack([left, torch.zeros_like(left), left + 10, left * 0 + 10], dim=2)
    return Detections(boxes, torch.tensor([scores]), torch.tensor([labels]))


def test_agreement_by_hand() -> None:
    ours = detections((0, 0.9, 0), (50, 0.8, 1), (99, 0.7, 1), (0, EMPTY, 0))
    same = detections((50.04, 0.8005, 1), (0, 0.9, 0), (99, 0.7, 1), (5, EMPTY, 0))
    found = agree(ours, same)
    assert (found.matched, found.unmatched) == (3, 0)
    assert found.pixels == pytest.approx(0.04, abs=1e-5)
    assert found.score == pytest.approx(0.0005, abs=1e-6)
    assert found.holds
    moved = detections((50.1, 0.8, 1), (0, 0.9, 1), (99, 0.702, 1), (5, EMPTY, 0))
    assert agree(ours, moved)[:2] == (0, 6)
    assert not agree(ours, moved).holds
    assert Agreement(97, 6, 0, 0, 0).holds
    assert not Agreement(96, 7, 0, 0, 0).holds


def test_agreement_of_other_answers() -> None:
    """A ten thousandth of the largest value; what is no number never agrees."""
    maps = torch.tensor([[2.0, -4.0], [0.0, 1.0]])
    assert agree(maps, maps + 0.0003).holds
    assert not agree(maps, maps + 0.0005).holds
    assert not (NOTHING + agree(maps, maps * torch.nan)).holds
