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


def test_agreement_of_label_maps() -> None:
    """Two classes on 2000 pixels: two that flip are a thousandth, three are too many."""
    logits = torch.zeros(1, 2, 40, 50)
    logits[:, 0] = 1e-5
    logits[0, 1, 0, 0] = 10.0
    for flips, holds in ((2, True), (3, False)):
        other = logits.clone()
        other[0, 1, 1, :flips] = 2e-5
        found = agree(logits, other)
        assert (found.labelled, found.relabelled) == (2000 - flips, flips)
        assert found.holds is holds
        assert (found + found).holds is holds
        assert f"{2000 - flips} pixels labelled alike, {flips} otherwise" in str(found)
    assert agree(logits, logits) != NOTHING, "the very same answers are answers"
    assert not agree(logits, logits * 1.001).holds


def test_agreement_of_other_answers() -> None:
    """A ten thousandth of the largest value; what is no number never agrees."""
    maps = torch.tensor([[2.0, -4.0], [0.0, 1.0]])
    assert agree([maps], [maps + 0.0003]).holds
    assert not agree([maps], [maps + 0.0005]).holds
    assert not (NOTHING + agree([maps], [maps * torch.nan])).holds
