import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou, generalized_box_iou

from sightline.ops import boxes as B

SQUARE = torch.tensor([[0.0, 0.0, 10.0, 10.0]])


def some_boxes(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 80
    size = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 40 + 1
    return torch.cat([corner, corner + size], dim=1)


def test_formats_by_hand() -> None:
    # 10 wide, 4 high, its corner at (2, 3): the centre is (2 + 5, 3 + 2).
    xyxy = torch.tensor([2.0, 3.0, 12.0, 7.0])
    assert B.to_xywh(xyxy).tolist() == [2, 3, 10, 4]
    assert B.to_cxcywh(xyxy).tolist() == [7, 5, 10, 4]


@given(st.integers(0, 1000))
def test_formats_there_and_back(seed: int) -> None:
    boxes = some_boxes(5, seed)
    torch.testing.assert_close(B.from_xywh(B.to_xywh(boxes)), boxes)
    torch.testing.assert_close(B.from_cxcywh(B.to_cxcywh(boxes)), boxes)


def test_area_of_a_box_inside_out_is_zero() -> None:
    boxes = torch.tensor([[0.0, 0, 3, 4], [3, 4, 0, 0], [1, 1, 1, 9]])
    assert B.area(boxes).tolist() == [12, 0, 0]


def test_iou_by_hand() -> None:
    # Shifted by 5: they share 5 x 10 = 50 of 100 + 100 - 50 = 150.
    shifted = SQUARE + torch.tensor([5.0, 0, 5, 0])
    assert B.iou(SQUARE, shifted).item() == pytest.approx(50 / 150)
    assert B.coverage(SQUARE, shifted).item() == pytest.approx(0.5)
    # The hull is 15 x 10 and full: GIoU is IoU.
    assert B.giou(SQUARE, shifted).item() == pytest.approx(50 / 150)
    # Apart by 10: IoU 0, hull 30 x 10 of which 100 lie empty.
    apart = SQUARE + torch.tensor([20.0, 0, 20, 0])
    assert B.giou(SQUARE, apart).item() == pytest.approx(-100 / 300)


def test_overlaps_equal_torchvision() -> None:
    a, b = some_boxes(20, 1), some_boxes(30, 2)
    torch.testing.assert_close(B.iou(a, b), box_iou(a, b))
    torch.testing.assert_close(B.giou(a, b), generalized_box_iou(a, b))


def test_a_box_without_area_overlaps_nothing_and_gives_no_nan() -> None:
    point = torch.tensor([[5.0, 5.0, 5.0, 5.0]])
    for overlap in (B.iou, B.coverage):
        assert overlap(point, SQUARE).item() == 0
        assert overlap(point, point).item() == 0
    assert B.giou(point, point).item() == 0
    assert B.iou(SQUARE[:0], SQUARE).shape == (0, 1)


def test_clip_to_each_picture() -> None:
    boxes = torch.tensor([[[-5.0, -5, 50, 50]], [[-5.0, -5, 50, 50]]])
    clipped = B.clip(boxes, torch.tensor([[20, 30], [40, 10]]))
    assert clipped.tolist() == [[[0, 0, 30, 20]], [[0, 0, 10, 40]]]


def test_encode_by_hand() -> None:
    # The centre moves by (2, 1) of a 10 x 10 anchor, the width doubles, the height stays.
    box = torch.tensor([[-3.0, 1.0, 17.0, 11.0]])
    expected = [[0.2, 0.1, math.log(2), 0.0]]
    torch.testing.assert_close(B.encode(box, SQUARE), torch.tensor(expected))
    torch.testing.assert_close(
        B.encode(box, SQUARE, (10, 10, 5, 5)), torch.tensor(expected) * torch.tensor([10, 10, 5, 5])
    )


@given(st.integers(0, 1000))
def test_decode_undoes_encode(seed: int) -> None:
    boxes, anchors = some_boxes(8, seed), some_boxes(8, seed + 1)
    weights = (10.0, 10.0, 5.0, 5.0)
    deltas = B.encode(boxes, anchors, weights)
    torch.testing.assert_close(B.decode(deltas, anchors, weights), boxes)


def test_decode_clamps_the_stretch() -> None:
    decoded = B.decode(torch.tensor([[0.0, 0.0, 50.0, 50.0]]), SQUARE)
    width = decoded[0, 2] - decoded[0, 0]
    assert width.item() == pytest.approx(10 * 1000 / 16, rel=1e-5)


def test_a_degenerate_box_has_finite_deltas() -> None:
    point = torch.tensor([[5.0, 5.0, 5.0, 5.0]])
    assert B.encode(point, SQUARE).isfinite().all()
