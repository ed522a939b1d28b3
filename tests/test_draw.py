"""Pictures with scenes drawn in."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from sightline.draw import _overlap, _Sheet, colour, contact_sheet, draw, index_image
from sightline.ops.masks import encode
from sightline.types import Classes, Instances, Panoptic, Scene, Segment

CLASSES = Classes(("cat", "dog"), skeleton=((0, 1),))
GREY = torch.full((3, 60, 80), 100, dtype=torch.uint8)


def things(*boxes: tuple[float, ...], label: int = 1, **fields: object) -> Instances:
    labels = torch.full((len(boxes),), label)
    return Instances(torch.tensor(boxes).reshape(-1, 4), labels, **fields)  # type: ignore[arg-type]


def drawn(scene: Scene, picture: torch.Tensor = GREY, zoom: float = 1) -> np.ndarray:
    return np.asarray(draw(picture, scene, CLASSES, zoom)).astype(int)


def test_box_is_outlined_just_inside() -> None:
    """Pixels 10 to 29 lie in the box 10..30; its name, 11 pixels high or so, is above it."""
    pixels = drawn(Scene((60, 80), things((10.0, 30, 30, 50))))
    for x, y in [(10, 30), (29, 30), (10, 49), (29, 49), (20, 49)]:
        assert tuple(pixels[y, x]) == colour(1)
    for x, y in [(30, 40), (9, 40), (20, 50), (20, 40), (11, 40)]:
        assert tuple(pixels[y, x]) == (100, 100, 100)
    assert (pixels[15:29, 10:30] == colour(1)).all(-1).any()


def test_mask_is_tinted_and_rimmed() -> None:
    mask = torch.zeros(1, 60, 80, dtype=torch.bool)
    mask[0, 30:40, 20:30] = True
    instances = things((0.0, 0, 80, 60), masks=encode(mask))
    pixels = drawn(Scene((60, 80), instances))
    expected = [round(100 * 0.55 + value * 0.45) for value in colour(1)]
    assert pixels[35, 25].tolist() == expected
    assert tuple(pixels[30, 25]) == colour(1)
    assert tuple(pixels[45, 25]) == (100, 100, 100)


def test_masks_of_every_form_look_the_same() -> None:
    mask = torch.zeros(1, 60, 80, dtype=torch.bool)
    mask[0, 30:40, 20:30] = True
    corners = torch.tensor([[20.0, 30], [30, 30], [30, 40], [20, 40]])
    pictures = [
        drawn(Scene((60, 80), things((20.0, 30, 30, 40), masks=masks)))
        for masks in (mask, encode(mask), [[corners]])
    ]
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0] == pictures[2]).all()


def test_label_map_leaves_the_unlabelled_alone() -> None:
    semantic = torch.full((60, 80), 255)
    semantic[:, :40] = 3
    pixels = drawn(Scene((60, 80), semantic=semantic))
    assert pixels[30, 20].tolist() == [round(45 + value * 0.55) for value in colour(3)]
    assert tuple(pixels[30, 60]) == (100, 100, 100)


def test_a_class_of_a_map_is_named_where_it_has_most_room() -> None:
    """The left third is cat, the rest dog: ink on the ground of each class around the middle of its
    part, and none of it elsewhere. A strip of 4 pixels has no room for letters."""
    semantic = torch.ones(300, 600, dtype=torch.long)
    semantic[:, :200] = 0
    semantic[:4] = 0
    grey = torch.full((3, 300, 600), 100, dtype=torch.uint8)
    pixels = drawn(Scene((300, 600), semantic=semantic), grey)
    for label, x in ((0, 100), (1, 400)):
        ground = (pixels == colour(label)).all(-1)
        rows, columns = np.nonzero(ground)
        assert 120 < rows.mean() < 180
        assert abs(columns.mean() - x) < 60
    semantic[4:] = 255
    strip = drawn(Scene((300, 600), semantic=semantic), grey)
    assert not (strip == colour(0)).all(-1).any()


def test_a_map_as_a_picture_of_its_labels() -> None:
    semantic = torch.tensor([[0, 3, 255], [254, 1, 2]])
    image = index_image(semantic)
    assert image.mode == "P"
    assert np.asarray(image).tolist() == semantic.tolist()
    shown = np.asarray(image.convert("RGB"))
    assert [tuple(shown[0, x]) for x in range(3)] == [colour(0), colour(3), (255, 255, 255)]


def test_segments_have_a_rim() -> None:
    ids = torch.zeros(60, 80, dtype=torch.long)
    ids[:, :40], ids[:, 40:60] = 7, 9
    scene = Scene((60, 80), panoptic=Panoptic(ids, [Segment(7, 0, True), Segment(9, 0, True)]))
    pixels = drawn(scene)
    assert tuple(pixels[30, 20]) == tuple(pixels[30, 50])
    assert tuple(pixels[30, 40]) == (255, 255, 255)
    assert tuple(pixels[30, 70]) == (100, 100, 100)  # 0 is void


def test_an_ignored_segment_has_a_rim_only() -> None:
    ids = torch.zeros(60, 80, dtype=torch.long)
    ids[:, :40] = 7
    pixels = drawn(Scene((60, 80), panoptic=Panoptic(ids, [Segment(7, 0, True, ignore=True)])))
    assert tuple(pixels[30, 40]) == (255, 255, 255)
    assert tuple(pixels[30, 20]) == (100, 100, 100)


def test_ignored_things_have_a_dashed_box_only() -> None:
    points = torch.tensor([[[20.0, 10, 2], [60, 10, 2]]])
    instances = things((10.0, 30, 70, 50), ignore=torch.tensor([True]), keypoints=points)
    pixels = drawn(Scene((60, 80), instances))
    edge = (pixels[30, 10:70] == colour(1)).all(-1)
    assert 0.3 < edge.mean() < 0.8
    assert (pixels[:30] == 100).all()


def test_hidden_keypoints_are_not_drawn() -> None:
    points = torch.tensor([[[20.0, 20, 2], [60, 20, 2]], [[20, 50, 2], [60, 50, 0]]])
    pixels = drawn(Scene((60, 80), things((0.0, 0, 2, 2), (0, 0, 2, 2), keypoints=points)))
    assert tuple(pixels[20, 40]) == colour(1)  # the bone between two that are seen
    assert tuple(pixels[20, 20]) == colour(0)
    assert tuple(pixels[50, 20]) == colour(0)
    assert (pixels[50, 30:] == 100).all()


def test_small_pictures_can_be_enlarged() -> None:
    mask = torch.ones(1, 60, 80, dtype=torch.bool)
    points = torch.tensor([[[20.0, 20, 2], [60, 20, 2]]])
    instances = things((10.0, 10, 70, 50), masks=mask, keypoints=points)
    image = draw(GREY, Scene((60, 80), instances, semantic=mask[0].long()), CLASSES, zoom=3)
    assert image.size == (240, 180)
    assert instances.boxes.tolist() == [[10, 10, 70, 50]]  # what was given is not changed


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (7, 3)])
def test_tiny_pictures_and_odd_boxes(shape: tuple[int, int]) -> None:
    picture = torch.zeros(3, *shape, dtype=torch.uint8)
    boxes = [(0.0, 0, 1, 1), (0, 0, 0, 0), (-50, -50, 500, 500), (5, 5, 2, 2), (900, 900, 950, 950)]
    instances = things(*boxes, scores=torch.rand(5))
    assert draw(picture, Scene(shape, instances), CLASSES).size == shape[::-1]
    assert draw(picture, Scene(shape), CLASSES).size == shape[::-1]
    semantic = torch.zeros(shape, dtype=torch.long)
    assert draw(picture, Scene(shape, semantic=semantic), CLASSES).size == shape[::-1]


def test_pillow_images_of_any_mode() -> None:
    image = Image.new("L", (80, 60), 100)
    scene = Scene((60, 80), things((10.0, 30, 30, 50)))
    assert (np.asarray(draw(image, scene, CLASSES)) == drawn(scene)).all()
    assert image.getextrema() == (100, 100)


def test_pillow_images_are_turned_and_scaled_as_predict_reads_them() -> None:
    turned, exif = Image.new("RGB", (60, 80), (100, 100, 100)), Image.Exif()
    exif[274] = 6  # on its side: 80 x 60 when upright
    turned.info["exif"] = exif.tobytes()
    scene = Scene((60, 80), things((10.0, 30, 30, 50)))
    assert (np.asarray(draw(turned, scene, CLASSES)) == drawn(scene)).all()
    deep = Image.fromarray(np.full((60, 80), 100 * 257, np.uint16))
    assert (np.asarray(draw(deep, scene, CLASSES)) == drawn(scene)).all()


def test_best_score_is_on_top() -> None:
    """The dog is drawn over the cat, and its name first."""
    boxes = torch.tensor([[10.0, 30, 50, 55], [10, 30, 50, 55]])
    instances = Instances(boxes, torch.tensor([1, 0]), scores=torch.tensor([0.9, 0.2]))
    assert tuple(drawn(Scene((60, 80), instances))[54, 30]) == colour(1)


@given(st.lists(st.tuples(st.integers(0, 280), st.integers(0, 180)), max_size=40))
def test_names_hide_neither_one_another_nor_the_middle_of_a_thing(
    corners: list[tuple[int, int]],
) -> None:
    centres = [(x + 20.0, y + 20.0) for x, y in corners]
    sheet = _Sheet(ImageDraw.Draw(Image.new("RGB", (320, 220))), (320, 220), centres)
    for x, y in corners:
        sheet.name((x, y, x + 40, y + 40), 0, "something 0.99")
    for index, place in enumerate(sheet.taken):
        assert place[0] >= 0
        assert place[1] >= 0
        assert place[2] <= 320
        assert place[3] <= 220
        assert not any(_overlap(place, other) for other in sheet.taken[:index])
        assert not any(place[0] < x < place[2] and place[1] < y < place[3] for x, y in centres)


def test_a_name_is_set_as_pillow_sets_it() -> None:
    """Lines are 1 pixel wide at 320 x 220: ink begins 2 pixels from the left of the name's ground
    and 1 below its top. Blue asks for white letters."""
    ours, theirs = Image.new("RGB", (320, 220)), Image.new("RGB", (320, 220))
    sheet = _Sheet(ImageDraw.Draw(ours), ours.size, [])
    sheet.name((20, 30, 200, 100), 0, "Ag")
    ((x1, y1, x2, y2),) = sheet.taken
    pen, font = ImageDraw.Draw(theirs), ImageFont.load_default(sheet.letters)
    left, top, _, _ = font.getbbox("Ag")
    pen.rectangle([x1, y1, x2 - 1, y2 - 1], fill=colour(0))
    pen.text((x1 + 2 - left, y1 + 1 - top), "Ag", fill=(255, 255, 255), font=font)
    assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_colours_are_unlike_one_another() -> None:
    colours = np.array([colour(label) for label in range(20)])
    apart = np.abs(colours[:, None] - colours[None]).sum(-1) + 1000 * np.eye(20)
    assert apart.min() > 40


def test_contact_sheet() -> None:
    """Columns 30 wide, rows 20 and 10 high, 5 between and around."""
    pictures = [Image.new("RGB", size, "red") for size in [(30, 20), (10, 10), (30, 10)]]
    sheet = contact_sheet(pictures, columns=2, gap=5)
    assert sheet.size == (5 + 30 + 5 + 30 + 5, 5 + 20 + 5 + 10 + 5)
    red = (np.asarray(sheet) == (255, 0, 0)).all(-1)
    assert red[5:25, 5:35].all()
    assert red[10:20, 50:60].all()  # in the middle of its cell
    assert red[30:40, 5:35].all()
    assert red.sum() == 30 * 20 + 10 * 10 + 30 * 10


def test_contact_sheet_with_captions() -> None:
    pictures = [Image.new("RGB", (100, 50))] * 2
    plain, told = (contact_sheet(pictures, 2, captions) for captions in ((), ("truth", "found")))
    assert told.width == plain.width
    assert told.height > plain.height
    assert contact_sheet([], 3).size[1] == 8
