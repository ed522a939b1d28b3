"""The benchmark of the evaluation at a few pictures: what it compares is equal, and counted."""

from pathlib import Path

import pytest
import torch

from benchmarks import evaluation


def test_both_sides_give_the_same_numbers() -> None:
    answered = evaluation.made(40, seed=3)
    obtained = evaluation.ours(answered)
    assert obtained == evaluation.their_numbers(evaluation.theirs(*evaluation.coco_form(answered)))
    assert len(obtained.overall) == 12
    assert 0.2 < obtained.overall[0] < 0.8
    assert len(obtained.per_class) == evaluation.CLASSES
    assert -1 in obtained.per_class  # too few pictures for every class


def test_pictures_are_like_cocos() -> None:
    """COCO's val2017 has 36,781 things in 5,000 pictures, 48 of them empty, and 446 crowds; 41 in
    100 things are small, 24 large."""
    answered = evaluation.made(1000)
    truths = [scene.things for scene in answered.truths]
    area = torch.cat([things.area for things in truths if things.area is not None])
    assert 6.5 < len(area) / 1000 < 8
    assert 0 < sum(len(things) == 0 for things in truths) < 30
    assert 0.35 < (area < 32**2).float().mean() < 0.45
    assert 0.2 < (area > 96**2).float().mean() < 0.3
    assert 0.005 < torch.cat([things.ignore for things in truths]).float().mean() < 0.02
    assert {len(scene.things) for scene in answered.answers} == {evaluation.EACH}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone tells it")
def test_a_peak_that_is_gone_is_counted() -> None:
    given, cost = evaluation.clocked(lambda: len(bytearray(64 * 2**20).hex()[:5]))
    assert given == 5
    assert 150 < cost.mebibytes < 250  # 64 MiB, and twice as many digits
    assert evaluation.clocked(lambda: None)[1].mebibytes < 20
    assert cost.seconds > 0
