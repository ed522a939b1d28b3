"""Pictures mirrored and turned, and what is found in them carried back."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sightline.errors import SightlineError
from sightline.ops.masks import decode, encode, from_polygons
from sightline.types import Instances, Panoptic, Scene, Segment
from sightline.views import View, views
from tests.bright import picture

POSES = [View(mirrored, turns) for mirrored in (False, True) for turns in range(4)]
SIZE = (20, 30)


def a_map() -> torch.Tensor:
    """Of no symmetry: an L in the upper left."""
    map = torch.zeros(SIZE, dtype=torch.bool)
    map[2:9, 3:5] = True
    map[7:9, 3:12] = True
    return map


@pytest.mark.parametrize(
    ("view", "box"),
    [
        (View(mirrored=True), (18, 3, 28, 9)),  # 30 - 12, 30 - 2
        (View(mirrored=True, turns=2), (2, 11, 12, 17)),  # top and bottom: 20 - 9, 20 - 3
        (View(turns=2), (18, 11, 28, 17)),
        (View(turns=1), (3, 18, 9, 28)),  # the right border comes to the top
        (View(turns=3), (11, 2, 17, 12)),  # the left border does
    ],
)
def test_views_by_hand(view: View, box: tuple[int, ...]) -> None:
    """A patch at x 2..12, y 3..9 of a picture of 30 x 20, in the view and back."""
    seen = view.picture(picture((2, 3, 12, 9, 0, 255)))
    assert seen.shape[1:] == (SIZE if view.turns % 2 == 0 else SIZE[::-1])
    rows, columns = (seen[0].amax(side).nonzero().flatten() for side in (1, 0))
    assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == box
    things = Instances(torch.tensor([box]).float(), torch.tensor([0]), torch.tensor([0.5]))
    back = view.scene_back(Scene((seen.shape[1], seen.shape[2]), things))
    assert back.size == SIZE
    assert back.things.boxes.tolist() == [[2, 3, 12, 9]]


@pytest.mark.parametrize("view", POSES)
def test_pixels_maps_masks_and_panoptic_maps_come_back(view: View) -> None:
    map = a_map()
    seen = view.picture(map.expand(3, -1, -1).to(torch.uint8)).bool()[0]
    size = (seen.shape[0], seen.shape[1])
    assert torch.equal(view.maps_back(seen), map)
    box, label = torch.tensor([[0.0, 0, *size[::-1]]]), torch.tensor([0])
    panoptic = Panoptic(seen.long(), [Segment(1, 0, True)])
    scene = Scene(size, Instances(box, label), semantic=seen.long(), panoptic=panoptic)
    for masks in (seen[None], encode(seen[None])):
        found = view.scene_back(replace(scene, things=replace(scene.things, masks=masks)))
        kept: Any = found.things.masks
        assert type(kept) is type(masks)
        assert torch.equal(
            kept if isinstance(kept, torch.Tensor) else decode(kept, SIZE), map[None]
        )
        assert found.things.boxes.tolist() == [[0, 0, 30, 20]]
        assert found.semantic is not None
        assert found.panoptic is not None
        assert torch.equal(found.semantic, map.long())
        assert torch.equal(found.panoptic.map, map.long())


@pytest.mark.parametrize("view", POSES)
def test_polygons_and_keypoints_go_where_the_pixels_go(view: View) -> None:
    """A triangle rasterised in the view and brought back is, but for pixels on its edges, the
    triangle brought back and rasterised."""
    size = SIZE[::-1] if view.turns % 2 else SIZE
    triangle = torch.tensor([[1.0, 2.0], [15.0, 4.0], [6.0, 17.0]])
    things = Instances(
        torch.tensor([[1.0, 2, 15, 17]]),
        torch.tensor([0]),
        masks=[[triangle]],
        keypoints=torch.cat([triangle, torch.tensor([[2.0], [1], [0]])], dim=1)[None],
    )
    back = view.scene_back(Scene(size, things)).things
    assert isinstance(back.masks, list)
    ((moved,),) = back.masks
    assert back.keypoints is not None
    assert torch.equal(back.keypoints[0, :, :2], moved)
    assert back.keypoints[0, :, 2].tolist() == [2, 1, 0]
    assert back.boxes[0].tolist() == [*moved.amin(0).tolist(), *moved.amax(0).tolist()]
    drawn = decode([from_polygons([moved], SIZE)], SIZE)
    carried = view.maps_back(decode([from_polygons([triangle], size)], size))
    assert (drawn != carried).sum() <= 12


def test_left_and_right_are_exchanged_by_a_mirror_alone() -> None:
    """Keypoints 0 and 1 are a left and a right one, 2 is in the middle."""
    points = torch.tensor([[[1.0, 1, 2], [9, 2, 1], [5, 3, 2]]])
    things = Instances(torch.tensor([[0.0, 0, 10, 5]]), torch.tensor([0]), keypoints=points)
    scene = Scene((20, 30), things)
    mirrored = View(mirrored=True).scene_back(scene, (1, 0, 2)).things.keypoints
    assert mirrored is not None
    assert mirrored.tolist() == [[[21, 2, 1], [29, 1, 2], [25, 3, 2]]]
    turned = View(turns=2).scene_back(scene, (1, 0, 2)).things.keypoints
    assert turned is not None
    assert turned.tolist() == [[[29, 19, 2], [21, 18, 1], [25, 17, 2]]]


@pytest.mark.parametrize("view", POSES)
def test_nothing_found(view: View) -> None:
    things = Instances(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), masks=[])
    assert len(view.scene_back(Scene((20, 30), things)).things) == 0


@given(st.integers(0, 10_000), st.sampled_from([View(True), View(True, 2), View(False, 2)]))
def test_what_undoes_itself_twice_is_as_before(seed: int, view: View) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 10, (3, 2), generator=generator).float()
    boxes = torch.cat([corner, corner + 5], dim=1)
    scene = Scene(SIZE, Instances(boxes, torch.arange(3)))
    twice = view.scene_back(view.scene_back(scene))
    assert torch.equal(twice.things.boxes, boxes)
    pixels = torch.randint(0, 256, (3, *SIZE), generator=generator, dtype=torch.uint8)
    assert torch.equal(view.picture(view.picture(pixels)), pixels)


def test_which_views() -> None:
    assert views() == [View()]
    assert views(["horizontal"]) == [View(), View(True)]
    assert views(["vertical"]) == [View(), View(True, 2)]
    assert views(["vertical", "horizontal"]) == [View(), View(False, 2), View(True), View(True, 2)]
    assert views(turns=True) == POSES[:4]
    assert views(["horizontal"], turns=True) == POSES
    assert views(scales=[2.0, 0.5, 1.0]) == [View(), View(scale=0.5), View(scale=2.0)]
    assert len(views(["horizontal", "vertical"], turns=True, scales=[0.5, 2.0])) == 8 * 3


@pytest.mark.usefixtures("unchecked_shapes")
def test_what_is_no_view() -> None:
    with pytest.raises(SightlineError, match="a scale is a factor above 0, not 0"):
        views(scales=[0.0])
    with pytest.raises(SightlineError, match="a flip is horizontal or vertical, not sideways"):
        views(["sideways"])  # type: ignore[list-item]
