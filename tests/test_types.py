"""What travels between folders: Instances stay together, Placements go there and back."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sightline.types import (
    UNLABELLED,
    Classes,
    Images,
    Instances,
    Loss,
    Panoptic,
    Placement,
    Scene,
    Segment,
)


def three_things() -> Instances:
    """Thing i has i in every field."""
    rows = torch.arange(3.0)
    return Instances(
        boxes=rows[:, None].repeat(1, 4),
        labels=rows.long(),
        scores=rows / 10,
        ignore=rows == 1,
        area=rows,
        masks=[{"size": [4, 4], "counts": bytes([i])} for i in range(3)],
        keypoints=rows[:, None, None].repeat(1, 5, 3),
        extra={"depth": rows, "words": ["zero", "one", "two"]},
    )


def assert_are_things(things: Instances, rows: list[int]) -> None:
    """Every field holds these rows of ``three_things``."""
    assert len(things) == len(rows)
    assert things.labels.tolist() == rows
    assert things.boxes[:, 3].tolist() == rows
    assert things.scores is not None
    assert things.scores.tolist() == pytest.approx([row / 10 for row in rows])
    assert things.ignore.tolist() == [row == 1 for row in rows]
    assert things.area is not None
    assert things.area.tolist() == rows
    assert isinstance(things.masks, list)
    assert [mask["counts"] for mask in things.masks] == [bytes([row]) for row in rows]  # type: ignore[call-overload]
    assert things.keypoints is not None
    assert things.keypoints[:, 4, 2].tolist() == rows
    assert things.extra["depth"].tolist() == rows  # type: ignore[union-attr]
    assert things.extra["words"] == [["zero", "one", "two"][row] for row in rows]


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (torch.tensor([2, 0]), [2, 0]),
        (torch.tensor([], dtype=torch.long), []),
        (torch.tensor([False, True, True]), [1, 2]),
        (slice(1, None), [1, 2]),
        (slice(0, 0), []),
    ],
)
def test_an_index_selects_from_every_field(index: Tensor | slice, rows: list[int]) -> None:
    assert_are_things(three_things()[index], rows)


def test_join_puts_the_parts_after_one_another() -> None:
    things = three_things()
    assert_are_things(Instances.join([things[2:], things[:0], things[:2]]), [2, 0, 1])


def test_join_leaves_out_what_a_part_does_not_know() -> None:
    things = three_things()
    joined = Instances.join([things, replace(things, scores=None, extra={"depth": things.area})])
    assert joined.scores is None
    assert set(joined.extra) == {"depth"}
    assert len(joined) == 6
    assert len(Instances.join([])) == 0


def test_ignore_is_false_where_nothing_is_said() -> None:
    things = Instances(boxes=torch.zeros(2, 4), labels=torch.zeros(2, dtype=torch.long))
    assert things.ignore.tolist() == [False, False]


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("field", ["scores", "area"])
def test_a_field_of_another_length_is_named(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} has 2 rows for 3 things"):
        replace(three_things(), **{field: torch.zeros(2)})


def test_an_extra_of_another_length_is_named() -> None:
    with pytest.raises(ValueError, match=r"extra\.words has 1 rows for 3 things"):
        replace(three_things(), extra={"words": ["one"]})


def test_moving_to_a_device_keeps_everything() -> None:
    things = three_things()
    assert_are_things(things.to("cpu"), [0, 1, 2])
    scene = Scene(
        (4, 4),
        things,
        semantic=torch.zeros(4, 4, dtype=torch.long),
        panoptic=Panoptic(torch.ones(4, 4, dtype=torch.long), [Segment(1, 0, True)]),
        path="a.jpg",
        image_id=7,
        seed=3,
    )
    moved = scene.to("meta")
    assert moved.things.boxes.device.type == moved.things.extra["depth"].device.type == "meta"  # type: ignore[union-attr]
    assert moved.semantic is not None
    assert moved.semantic.device.type == "meta"
    assert moved.panoptic is not None
    assert moved.panoptic.map.device.type == "meta"
    assert (moved.size, moved.path, moved.image_id, moved.seed) == ((4, 4), "a.jpg", 7, 3)
    images = Images(torch.zeros(1, 3, 2, 2), torch.tensor([[2, 2]]))
    assert images.to("meta").pixels.device.type == "meta"
    assert images.to("meta").regions is None


def test_loss_is_divided_by_its_count_but_never_by_zero() -> None:
    assert Loss(torch.tensor(6.0), torch.tensor(4.0)).mean().item() == 1.5
    assert Loss(torch.tensor(0.0), torch.tensor(0.0)).mean().item() == 0.0


def test_classes_keep_the_ids_of_the_data_set() -> None:
    assert Classes(("cat", "dog")).ids == (0, 1)
    assert Classes(("cat", "dog"), ids=(17, 18)).ids == (17, 18)
    assert len(Classes(("cat", "dog"), stuff=("sky",))) == 2
    assert Classes(("cat", "dog"), (4, 9), stuff=("sky", "sea")).stuff_ids == (10, 11)


# Placement. 4 rows and 2 columns become 8 rows and 6 columns, two down and one to the right:
# x -> 3 x + 1, y -> 2 y + 2.
PLACED = Placement(original=(4, 2), size=(8, 6), offset=(2, 1))

lengths = st.integers(1, 60)
placements = st.builds(
    Placement,
    original=st.tuples(lengths, lengths),
    size=st.tuples(lengths, lengths),
    offset=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
numbers = st.floats(-100, 100, width=32)
coordinates = st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=5).map(
    lambda rows: torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)
)


def test_points_boxes_and_keypoints_by_hand() -> None:
    assert PLACED.points(torch.tensor([[0.0, 0], [2, 4]])).tolist() == [[1, 2], [7, 10]]
    assert PLACED.boxes(torch.tensor([[0.0, 0, 2, 4]])).tolist() == [[1, 2, 7, 10]]
    placed = PLACED.keypoints(torch.tensor([[[1.0, 1, 2], [0, 0, 0]]]))
    assert placed.tolist() == [[[4, 4, 2], [1, 2, 0]]]


@given(placements, coordinates)
def test_boxes_points_and_keypoints_return(placement: Placement, boxes: Tensor) -> None:
    points, visible = boxes.reshape(-1, 2), torch.ones(len(boxes), 2, 1, dtype=torch.float64)
    keypoints = torch.cat([boxes.reshape(-1, 2, 2), visible], dim=-1)
    near = {"atol": 1e-9, "rtol": 1e-9}
    torch.testing.assert_close(placement.boxes_back(placement.boxes(boxes)), boxes, **near)
    torch.testing.assert_close(placement.points_back(placement.points(points)), points, **near)
    back = placement.keypoints_back(placement.keypoints(keypoints))
    torch.testing.assert_close(back, keypoints, **near)


def test_masks_by_hand() -> None:
    mask = torch.tensor([[1, 0], [1, 0], [0, 0], [0, 1]], dtype=torch.bool)
    placed = PLACED.masks(mask[None], canvas=(12, 8))
    expected = torch.zeros(12, 8, dtype=torch.bool)
    expected[2:6, 1:4] = True  # rows 0-1, column 0
    expected[8:10, 4:7] = True  # row 3, column 1
    assert torch.equal(placed[0], expected)
    assert torch.equal(PLACED.masks_back(placed)[0], mask)


@given(
    st.tuples(lengths, lengths),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_masks_return_from_any_enlargement(
    original: tuple[int, int], times: tuple[int, int], offset: tuple[int, int]
) -> None:
    """Nearest neighbour loses nothing where every pixel becomes one or more."""
    size = (original[0] * times[0] + times[0] // 2, original[1] * times[1] + times[1] // 2)
    placement = Placement(original, size, offset)
    masks = torch.rand(2, *original) < 0.5
    canvas = (offset[0] + size[0] + 3, offset[1] + size[1] + 5)
    placed = placement.masks(masks, canvas)
    assert placed.shape == (2, *canvas)
    assert torch.equal(placement.masks_back(placed), masks)


@given(placements)
def test_a_full_mask_is_the_full_box(placement: Placement) -> None:
    """The mask and the box of one thing stay together, whatever the scale."""
    height, width = placement.original
    x1, y1, x2, y2 = placement.boxes(torch.tensor([[0.0, 0, width, height]]))[0].round().int()
    canvas = (placement.offset[0] + placement.size[0], placement.offset[1] + placement.size[1])
    mask = placement.masks(torch.ones(1, height, width, dtype=torch.bool), canvas)[0]
    assert mask[y1:y2, x1:x2].all()
    assert mask.sum() == (y2 - y1) * (x2 - x1)


@given(placements)
def test_no_masks_are_masks_of_the_right_size(placement: Placement) -> None:
    none = torch.zeros(0, *placement.original, dtype=torch.bool)
    canvas = (placement.offset[0] + placement.size[0], placement.offset[1] + placement.size[1])
    placed = placement.masks(none, canvas)
    assert placed.shape == (0, *canvas)
    assert placement.masks_back(placed).shape == none.shape


def test_a_scene_is_placed_whole() -> None:
    semantic = torch.arange(8).reshape(4, 2)
    scene = Scene(
        size=(4, 2),
        things=Instances(
            boxes=torch.tensor([[0.0, 0, 2, 4]]),
            labels=torch.tensor([5]),
            area=torch.tensor([8.0]),
            masks=torch.ones(1, 4, 2, dtype=torch.bool),
            keypoints=torch.tensor([[[1.0, 1, 2]]]),
        ),
        semantic=semantic,
        panoptic=Panoptic(semantic + 1, [Segment(1, 0, True)]),
        seed=9,
    )
    placed = PLACED.scene(scene, canvas=(12, 8))
    assert placed.size == (8, 6)
    assert placed.seed == 9
    assert placed.things.boxes.tolist() == [[1, 2, 7, 10]]
    assert placed.things.area is not None
    assert placed.things.area.tolist() == [8]  # in pixels of the original
    assert placed.things.keypoints is not None
    assert placed.things.keypoints.tolist() == [[[4, 4, 2]]]
    assert isinstance(placed.things.masks, Tensor)
    assert placed.things.masks.sum() == 8 * 6
    assert placed.semantic is not None
    assert placed.semantic.shape == (12, 8)
    assert (placed.semantic == UNLABELLED).sum() == 12 * 8 - 8 * 6
    assert torch.equal(PLACED.masks_back(placed.semantic[None])[0], semantic)
    assert placed.panoptic is not None
    assert (placed.panoptic.map == 0).sum() == 12 * 8 - 8 * 6
    assert torch.equal(PLACED.masks_back(placed.panoptic.map[None])[0], semantic + 1)


def test_masks_on_disk_must_be_rasterised_first() -> None:
    things = three_things()
    with pytest.raises(ValueError, match="must be rasterised"):
        PLACED.things(things, canvas=(12, 8))
