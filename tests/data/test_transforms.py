import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sightline.data.transforms import (
    Augment,
    cut,
    distort,
    expanded,
    flip,
    patch,
    recolour,
    room_for,
    shrunk,
)
from sightline.errors import SightlineError
from sightline.ops.masks import encode, rasterise
from sightline.types import UNLABELLED, Instances, Panoptic, Scene, Segment
from tests.data.samples import boxes_scene


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator(seed))


def full_scene(masks: str = "maps") -> Scene:
    """20 x 30 with a square at (4, 2)-(8, 5), another at (20, 10)-(30, 20), in every form."""
    boxes = torch.tensor([[4.0, 2, 8, 5], [20, 10, 30, 20]])
    maps = torch.zeros(2, 20, 30, dtype=torch.bool)
    maps[0, 2:5, 4:8] = maps[1, 10:, 20:] = True
    polygons = [[torch.tensor([[x, y], [u, y], [u, v], [x, v]])] for x, y, u, v in boxes.double()]
    kinds: dict[str, Any] = {"maps": maps, "rle": encode(maps), "polygons": polygons}
    semantic = torch.full((20, 30), 2)
    semantic[maps[0]], semantic[maps[1]] = 0, 1
    segments = [Segment(10, 0, True), Segment(11, 1, True), Segment(12, 2, False)]
    things = Instances(
        boxes=boxes,
        labels=torch.tensor([0, 1]),
        masks=kinds[masks],
        keypoints=torch.tensor([[[4.0, 2, 2], [8, 5, 1]], [[20, 10, 2], [30, 20, 2]]]),
        extra={"word": ["first", "second"]},
    )
    return Scene((20, 30), things, semantic, Panoptic(semantic + 10, segments))


def maps_of(scene: Scene) -> Tensor:
    assert scene.things.masks is not None
    return rasterise(scene.things.masks, scene.size)


def tight_boxes(maps: Tensor) -> list[list[int]]:
    boxes = []
    for one in maps:
        rows, columns = one.nonzero().unbind(1)
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return torch.tensor(boxes).tolist()


@pytest.mark.parametrize("masks", ["maps", "rle", "polygons"])
def test_flip_by_hand(masks: str) -> None:
    picture = noise(20, 30)
    flipped, scene = flip(picture, full_scene(masks), mirrored=(1, 0))
    assert flipped.equal(picture.flip(-1))
    assert scene.things.boxes.tolist() == [[22, 2, 26, 5], [0, 10, 10, 20]]  # 30 - 8, 30 - 4
    # the second keypoint of the picture is the first of its mirror image
    assert scene.things.keypoints[0].tolist() == [[22, 5, 1], [26, 2, 2]]
    assert tight_boxes(maps_of(scene)) == scene.things.boxes.tolist()
    assert scene.semantic[2, 22] == 0
    assert scene.panoptic.map.equal(scene.semantic + 10)


@pytest.mark.parametrize("masks", ["maps", "rle", "polygons"])
def test_flipped_twice_is_as_before(masks: str) -> None:
    before = full_scene(masks)
    picture, scene = flip(*flip(noise(20, 30), before, (1, 0)), (1, 0))
    assert picture.equal(noise(20, 30))
    assert scene.things.boxes.equal(before.things.boxes)
    assert scene.things.keypoints.equal(before.things.keypoints)
    assert maps_of(scene).equal(maps_of(before))
    assert scene.semantic.equal(before.semantic)


@pytest.mark.parametrize("masks", ["maps", "rle", "polygons"])
def test_cut_by_hand(masks: str) -> None:
    """Rows 1..15, columns 5..25: the first square keeps its centre (6, 3.5), and so does not the
    second (25, 15): the window ends there."""
    picture = noise(20, 30)
    inside, scene = cut(picture, full_scene(masks), (1, 5, 14, 20))
    assert inside.equal(picture[:, 1:15, 5:25])
    assert scene.size == (14, 20)
    assert scene.things.boxes.tolist() == [[0, 1, 3, 4], [15, 9, 20, 14]]
    assert scene.things.ignore.tolist() == [False, True]
    assert scene.things.extra["word"] == ["first", "second"]
    # (4, 2) lies outside, (8, 5) does not; (20, 10) does not, (30, 20) does
    assert scene.things.keypoints[..., 2].tolist() == [[0, 1], [2, 0]]
    assert scene.things.keypoints[0, 1].tolist() == [3, 4, 1]
    assert tight_boxes(maps_of(scene)) == scene.things.boxes.tolist()
    assert scene.semantic.equal(full_scene().semantic[1:15, 5:25])
    assert [segment.id for segment in scene.panoptic.segments] == [10, 11, 12]


@pytest.mark.parametrize("masks", ["maps", "rle", "polygons"])
def test_what_is_left_outside_is_gone(masks: str) -> None:
    _, scene = cut(noise(20, 30), full_scene(masks), (0, 0, 10, 10))
    assert scene.things.boxes.tolist() == [[4, 2, 8, 5]]
    assert scene.things.extra["word"] == ["first"]
    assert maps_of(scene).shape == (1, 10, 10)
    assert [segment.id for segment in scene.panoptic.segments] == [10, 12]


def test_ignore_regions_are_carried_along() -> None:
    """Flag, mask and box stay together through flip and cut, wherever the region's centre lies."""
    things = full_scene().things
    scene = replace(full_scene(), things=replace(things, ignore=torch.tensor([True, True])))
    _, turned = flip(noise(20, 30), scene)
    assert turned.things.ignore.tolist() == [True, True]
    _, part = cut(noise(20, 30), scene, (1, 5, 14, 20))
    assert part.things.ignore.tolist() == [True, True]
    assert tight_boxes(maps_of(part)) == part.things.boxes.tolist()
    _, rest = cut(noise(20, 30), scene, (0, 0, 10, 10))
    assert rest.things.ignore.tolist() == [True]


def test_a_crop_looks_for_things_and_not_for_ignore_regions() -> None:
    """A thing in one corner, an ignore region over the rest: of 50 crops nearly all find it in ten
    tries (a quarter of the places do), as if the region were not there."""
    boxes = torch.tensor([[0.0, 0, 8, 8], [20, 20, 100, 100]])
    things = Instances(boxes, torch.zeros(2, dtype=torch.long), ignore=torch.tensor([False, True]))
    augment = Augment(flip=0, crop=1, sides=(0.5, 0.6))
    picture, scene = noise(100, 100), Scene((100, 100), things)
    with_region, without = (
        [
            augment(picture, replace(scene, things=chosen), torch.Generator().manual_seed(seed))
            for seed in range(50)
        ]
        for chosen in (things, things[:1])
    )
    for (one, _), (other, _) in zip(with_region, without, strict=True):
        assert one.equal(other)


@pytest.mark.parametrize("masks", ["maps", "rle", "polygons"])
def test_a_window_beyond_the_picture_is_filled(masks: str) -> None:
    picture = noise(20, 30)
    outside, scene = cut(picture, full_scene(masks), (-5, -3, 40, 50))
    assert outside.shape == (3, 40, 50)
    assert outside[:, 5:25, 3:33].equal(picture)
    outside[:, 5:25, 3:33] = 114
    assert (outside == 114).all()
    assert scene.things.boxes.tolist() == [[7, 7, 11, 10], [23, 15, 33, 25]]
    assert not scene.things.ignore.any()
    assert tight_boxes(maps_of(scene)) == scene.things.boxes.tolist()
    assert scene.semantic[0, 0] == UNLABELLED
    assert scene.panoptic.map[0, 0] == 0


def test_polygons_rasterised_after_the_cut_are_those_cut_after_rasterising() -> None:
    angles = torch.arange(12, dtype=torch.float64) * math.pi / 6
    circle = torch.stack([20.3 + 15.2 * angles.cos(), 18.7 + 14.9 * angles.sin()], dim=1)
    scene = boxes_scene((40, 50), [5.1, 3.8, 35.5, 33.6], masks=[[circle]])
    _, inside = cut(noise(40, 50), scene, (10, 12, 20, 25))
    whole = maps_of(scene)[:, 10:30, 12:37]
    # An edge that crosses the window's border is laid to a grid of 1/5 pixel at another place.
    assert (maps_of(inside) ^ whole).sum() <= 2
    assert whole.sum() > 300


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (7, 3)])
def test_nothing_to_see(size: tuple[int, int]) -> None:
    augment = Augment(flip=0.5, scale=(0.3, 3.0), crop=0.5, sides=(0.01, 1.0), colour=1.0)
    for seed in range(20):
        picture, scene = augment(noise(*size), boxes_scene(size), generator(seed))
        assert tuple(picture.shape[1:]) == scene.size
        assert min(scene.size) >= 1
        assert len(scene.things) == 0


def test_all_zero_leaves_everything_as_it_is() -> None:
    scene = full_scene()
    augment = Augment(flip=0.0)
    picture, same = augment(noise(20, 30), scene, generator())
    assert picture.equal(noise(20, 30))
    assert same is scene


def test_varied_pictures_stay_consistent() -> None:
    """Pixels carry their own labels, so boxes and masks can be checked against them."""
    augment = Augment(flip=0.5, scale=(0.5, 2.0), crop=0.5, mirrored=(1, 0))
    sizes = set()
    for seed in range(60):
        scene = full_scene("polygons")
        picture = maps_of(scene).any(0).byte().expand(3, -1, -1) * 200
        picture, scene = augment(picture, scene, generator(seed))
        sizes.add(scene.size)
        assert tuple(picture.shape[1:]) == scene.size
        maps = maps_of(scene)
        assert (picture[0] == 200).equal(maps.any(0))
        assert tight_boxes(maps) == scene.things.boxes.tolist()
        assert ((scene.semantic == 0) | (scene.semantic == 1)).equal(maps.any(0))
    assert len(sizes) > 40


def test_a_draw_decides_alone() -> None:
    """The same seed gives the same picture; another setting does not shift the other draws."""
    strong = Augment(flip=0.5, scale=(0.5, 2.0), crop=0.5, colour=0.5)
    first, again = (strong(noise(20, 30), full_scene(), generator(3)) for _ in range(2))
    assert first[0].equal(again[0])
    assert first[1].things.boxes.equal(again[1].things.boxes)
    flips = {crop: [] for crop in (0.0, 1.0)}
    for crop, flipped in flips.items():
        for seed in range(10):
            _, scene = Augment(flip=0.5, crop=crop)(noise(9, 9), full_scene(), generator(seed))
            flipped.append(scene.things.keypoints[0, 0, 0] > scene.things.keypoints[0, 1, 0])
    assert flips[0.0] == flips[1.0]


def test_a_crop_looks_for_a_thing() -> None:
    """A thing in a corner: a crop of a tenth would miss it 99 times in a hundred; ten tries help,
    and a picture with a thing in the middle of half of it is always hit."""
    scene = boxes_scene((100, 100), [30, 30, 70, 70])
    for seed in range(30):
        _, cropped = Augment(flip=0, crop=1, sides=(0.5, 0.9))(
            noise(100, 100), scene, generator(seed)
        )
        assert len(cropped.things) == 1
        assert not cropped.things.ignore.any()


def test_zoom_keeps_the_shape_of_the_picture() -> None:
    for zoom in (0.5, 2.0):
        augment = Augment(flip=0, scale=(zoom, zoom))
        _, scene = augment(noise(20, 30), full_scene(), generator())
        assert scene.size == (20 / zoom, 30 / zoom)


def test_recolouring_by_hand() -> None:
    picture = torch.tensor([[[100]], [[50]], [[200]]], dtype=torch.uint8)
    assert recolour(picture).equal(picture)
    assert recolour(picture, brightness=1.2).flatten().tolist() == [120, 60, 240]
    assert recolour(picture, brightness=2).flatten().tolist() == [200, 100, 255]
    # 0.299 x 100 + 0.587 x 50 + 0.114 x 200 = 82.05
    assert recolour(picture, saturation=0).flatten().tolist() == [82, 82, 82]
    assert recolour(picture, contrast=0).flatten().tolist() == [82, 82, 82]
    assert recolour(picture, contrast=0.5).flatten().tolist() == [91, 66, 141]
    # a third of a turn passes red on to green, green on to blue and blue on to red
    assert recolour(picture, hue=1 / 3).flatten().tolist() == [200, 100, 50]


def test_recolouring_as_torchvision_does() -> None:
    tvf = pytest.importorskip("torchvision.transforms.v2.functional")
    picture = noise(24, 32)
    twins = {
        "brightness": tvf.adjust_brightness,
        "contrast": tvf.adjust_contrast,
        "saturation": tvf.adjust_saturation,
    }
    for name, twin in twins.items():
        for factor in (0.4, 1.0, 1.6):
            ours, theirs = recolour(picture, **{name: factor}), twin(picture, factor)
            assert (ours.int() - theirs.int()).abs().max() <= 1, (name, factor)


def test_grey_stays_grey_whatever_the_hue() -> None:
    grey = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, -1, -1)
    for hue in (0.1, -0.3, 0.5):
        assert (recolour(grey, hue=hue).int() - grey.int()).abs().max() <= 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip": 1.5},
        {"crop": -0.1},
        {"colour": 2},
        {"expand": 1.1},
        {"overlap": -1},
        {"distort": 2},
        {"scale": (0, 1)},
        {"scale": (2, 1)},
        {"sides": (0.5, 2)},
    ],
)
def test_values_outside_their_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(SightlineError, match=next(iter(wrong))):
        Augment(**wrong)


def test_a_larger_canvas_by_hand() -> None:
    """Twice 20 x 30: 20 rows and 30 columns are free, half of the rows above and a third of the
    columns to the left."""
    assert expanded((0, 0, 20, 30), 2.0, (0.5, 1 / 3)) == (-10, -10, 40, 60)
    assert expanded((3, 4, 20, 30), 1.0, (0.5, 0.5)) == (3, 4, 20, 30)
    picture, scene = Augment(flip=0, expand=1)(noise(20, 30), full_scene(), generator(1))
    assert picture.shape[1] > 20
    assert picture.shape[1] / 20 == pytest.approx(picture.shape[2] / 30, abs=0.05)
    left, top = (scene.things.boxes[0, :2] - torch.tensor([4, 2])).int().tolist()
    assert picture[:, top : top + 20, left : left + 30].equal(noise(20, 30))
    picture[:, top : top + 20, left : left + 30] = torch.tensor([124, 116, 104])[:, None, None]
    assert (picture == torch.tensor([124, 116, 104])[:, None, None]).all()
    assert tight_boxes(maps_of(scene)) == scene.things.boxes.tolist()


def naive_patch(
    window: tuple[int, int, int, int], boxes: Tensor, least: float, draws: Tensor
) -> tuple[int, int, int, int] | None:
    top, left, height, width = window
    for down, across, row, column in draws.tolist():
        high, wide = round((0.3 + 0.7 * down) * height), round((0.3 + 0.7 * across) * width)
        high, wide = max(high, 1), max(wide, 1)
        y, x = top + round(row * (height - high)), left + round(column * (width - wide))
        if min(high, wide) < max(high, wide) / 2:
            continue
        for x1, y1, x2, y2 in boxes.tolist():
            inside = x <= (x1 + x2) / 2 < x + wide and y <= (y1 + y2) / 2 < y + high
            shared = max(min(x2, x + wide) - max(x1, x), 0) * max(min(y2, y + high) - max(y1, y), 0)
            either = (x2 - x1) * (y2 - y1) + wide * high - shared
            if inside and shared >= least * either:
                return y, x, high, wide
    return None


@pytest.mark.parametrize("least", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9])
def test_patches_equal_a_loop(least: float) -> None:
    boxes = torch.tensor([[10.0, 10, 40, 60], [30, 30, 90, 110], [70, 0, 80, 10]])
    found = []
    for seed in range(40):
        draws = torch.rand(50, 4, dtype=torch.float64, generator=generator(seed))
        for window in ((0, 0, 120, 100), (-30, -50, 180, 200)):
            found.append(patch(window, boxes, least, draws))
            assert found[-1] == naive_patch(window, boxes, least, draws)
    assert least > 0.5 or sum(window is not None for window in found) > 30


def test_patches_where_there_is_little_to_choose() -> None:
    draws = torch.rand(50, 4, dtype=torch.float64)
    anywhere = patch((0, 0, 100, 100), torch.zeros(0, 4), 0.9, draws)
    assert anywhere is not None
    assert patch((0, 0, 1, 50), torch.tensor([[0.0, 0, 50, 1]]), 0.1, draws) is None, "too narrow"
    assert patch((0, 0, 100, 100), torch.tensor([[0.0, 0, 1, 1]]), 0.1, draws) is None, "too small"


def test_the_variations_of_ssd_stay_consistent() -> None:
    """Pixels carry their own labels: boxes, masks, points and maps are checked against them. Every
    patch that is not the whole keeps a thing that is no mere rest."""
    augment = Augment(flip=0.5, expand=0.5, overlap=1, mirrored=(1, 0))
    sizes = set()
    for seed in range(60):
        scene = full_scene("polygons")
        picture = maps_of(scene).any(0).byte().expand(3, -1, -1) * 200
        picture, scene = augment(picture, scene, generator(seed))
        sizes.add(scene.size)
        assert tuple(picture.shape[1:]) == scene.size
        height, width = scene.size
        boxes = scene.things.boxes
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= width).all()
        assert (boxes[:, 3] <= height).all()
        maps = maps_of(scene)
        assert (picture[0] == 200).equal(maps.any(0))
        assert tight_boxes(maps) == boxes.tolist()
        assert ((scene.semantic == 0) | (scene.semantic == 1)).equal(maps.any(0))
        assert not scene.things.ignore.all()
        seen = scene.things.keypoints[scene.things.keypoints[..., 2] > 0]
        assert (seen[:, :2] <= torch.tensor([width, height])).all()
    assert len(sizes) > 30


def test_the_variations_of_ssd_shift_no_other_draw() -> None:
    """The same seed gives the same picture; and what it crops and flips, it crops and flips with
    other colours as well."""
    plain = Augment(flip=0.5, crop=0.5, scale=(0.5, 2.0))
    strong = Augment(flip=0.5, crop=0.5, scale=(0.5, 2.0), distort=1)
    all_of_it = Augment(flip=0.5, expand=0.5, overlap=1, distort=0.5)
    for seed in range(20):
        _, scene = plain(noise(20, 30), full_scene(), generator(seed))
        _, other = strong(noise(20, 30), full_scene(), generator(seed))
        assert other.things.boxes.equal(scene.things.boxes)
        first, again = (all_of_it(noise(20, 30), full_scene(), generator(seed)) for _ in range(2))
        assert first[0].equal(again[0])
        assert first[1].things.boxes.equal(again[1].things.boxes)


def test_colours_are_distorted_before_the_canvas_is_laid() -> None:
    """So that the canvas keeps its own, and contrast turns about the mean of the photo. The same
    seed without a canvas gives the distorted photo."""
    photo = noise(20, 30)
    alone, _ = Augment(flip=0, distort=1)(photo, full_scene(), generator(1))
    both, scene = Augment(flip=0, distort=1, expand=1)(photo, full_scene(), generator(1))
    left, top = (scene.things.boxes[0, :2] - torch.tensor([4, 2])).int().tolist()
    assert not torch.equal(alone, photo)
    assert torch.equal(both[:, top : top + 20, left : left + 30], alone)
    outside = torch.ones(both.shape[1:], dtype=torch.bool)
    outside[top : top + 20, left : left + 30] = False
    assert (both[:, outside] == torch.tensor([[124], [116], [104]])).all()


@pytest.mark.parametrize(("seen", "factor"), [(0.025, 0.16), (0.5, 0.5), (1.0, 1.0), (2.0, 1.0)])
def test_room_for_a_canvas_by_hand(seen: float, factor: float) -> None:
    """Sixteen times 12 Mpx is 192 Mpx, 4.9 Mpx are 0.0256 of it: 0.16 of each side. A model that
    sees it with half its sides has half its sides; one that sees it as it is, the whole."""

    def size(height: int, width: int) -> tuple[int, int]:
        return int(seen * height), int(seen * width)

    found = room_for((3000, 4000), (-3000, -4000, 12000, 16000), size)
    assert found == pytest.approx(factor)
    assert room_for((480, 640), (-1440, 0, 1920, 2560), size) == 1
    assert room_for((6000, 8000), (0, 0, 6000, 8000), size) == 1


@pytest.mark.parametrize("masks", ["maps", "rle", "polygons"])
def test_a_picture_made_smaller_by_hand(masks: str) -> None:
    picture = torch.zeros(3, 20, 30, dtype=torch.uint8)
    picture[:, :, 15:] = 200
    smaller, scene, window = shrunk(picture, full_scene(masks), (-10, 4, 40, 60), 0.5)
    assert window == (-5, 2, 20, 30)
    assert scene.size == smaller.shape[1:] == (10, 15)
    assert smaller[0, 0].tolist() == [0] * 7 + [100] + [200] * 7
    assert scene.things.boxes.tolist() == [[2, 1, 4, 2.5], [10, 5, 15, 10]]
    assert scene.things.keypoints is not None
    assert scene.things.keypoints[0].tolist() == [[2, 1, 2], [4, 2.5, 1]]
    assert tight_boxes(maps_of(scene))[1] == [10, 5, 15, 10]
    assert scene.semantic is not None
    assert (scene.semantic == 1).nonzero().amin(0).tolist() == [5, 10]
    assert scene.panoptic is not None
    assert torch.equal(scene.panoptic.map, scene.semantic + 10)


def test_only_a_large_canvas_makes_a_picture_smaller() -> None:
    """A photo of 1200 x 1000 on a canvas of up to sixteen times that: the thing lies in it where it
    would without, to a pixel or two."""
    photo, seen = noise(1000, 1200), set[bool]()
    scene = Scene(
        (1000, 1200), Instances(torch.tensor([[100.0, 200, 600, 900]]), torch.tensor([0]))
    )
    augment = Augment(flip=0, expand=1)
    for seed in range(6):
        _, plain = augment(photo, scene, generator(seed))
        picture, small = augment(photo, scene, generator(seed), lambda height, width: (300, 300))
        (height, width), (tall, wide) = small.size, plain.size
        assert picture.shape[1:] == (height, width)
        assert height * width < 16 * 640 * 480 + height + width
        if tall * wide <= 16 * 640 * 480:
            assert small.size == plain.size
        scale = torch.tensor([width / wide, height / tall] * 2)
        expected = plain.things.boxes * scale
        torch.testing.assert_close(small.things.boxes, expected, rtol=0, atol=1.5)
        seen.add(small.size == plain.size)
    assert seen == {True, False}


def test_bands_make_no_difference() -> None:
    """Without contrast each pixel is changed by itself; a picture of more than a band is as its
    halves are."""
    photo = noise(700, 500)
    whole = recolour(photo, brightness=1.1, saturation=0.7, hue=0.2)
    halves = [recolour(half, 1.1, 1.0, 0.7, 0.2) for half in photo.split(333, dim=1)]
    assert torch.equal(whole, torch.cat(halves, dim=1))


def test_distortion_by_hand() -> None:
    """Chances under 0.5 change: brightness by 1 + 1/8 at a draw of 1; saturation by a half at 0."""
    picture = torch.tensor([[[100]], [[50]], [[200]]], dtype=torch.uint8)
    no, yes = 0.9, 0.1
    assert distort(picture, 0.5, [no] * 4 + [1.0] * 4).equal(picture)
    bright = distort(picture, 0.5, [yes, no, no, no, 1.0, 1, 1, 1])
    assert bright.equal(recolour(picture, brightness=1.125))
    pale = distort(picture, 0.5, [no, no, yes, no, 1.0, 1, 0, 1])
    assert pale.equal(recolour(picture, saturation=0.5))
    turned = distort(picture, 0.5, [no, no, no, yes, 1.0, 1, 1, 1])
    assert turned.equal(recolour(picture, hue=0.05))
