"""Every metric against what all have in common."""

from functools import partial

import pytest

from sightline.metrics.detection import coco_numbers
from sightline.metrics.voc import voc_numbers
from tests.contracts import assert_metric


@pytest.mark.parametrize(
    ("measure", "number"),
    [
        (coco_numbers, "AP"),
        (partial(coco_numbers, ious=[0.3]), "AP30"),
        (voc_numbers, "VOC@0.5"),
        (voc_numbers, "VOC11@0.5"),
    ],
)
def test_contract(measure, number) -> None:
    assert_metric(measure, number)
