"""Which point learns what, by hand and by a naive loop; training and answers as torchvision's; what
an ignore region takes away."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models.detection import FCOS as Torchvision
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import box_area, sigmoid_focal_loss
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from sightline.errors import SightlineError
from sightline.models import create
from sightline.models.fcos import (
    Points,
    boxes_at,
    centreness_of,
    distances_to,
    level_ranges,
    match_points,
)
from sightline.ops.anchors import point_grid
from sightline.ops.match import NEGATIVE, NEUTRAL
from sightline.types import Images, Instances, Scene
from sightline.weights.torchvision import read_torchvision

STRIDES = (8, 16, 32, 64, 128)
SMALL: dict[str, Any] = {"backbone": "test_resnet", "channels": 64, "convs": 1}


def grid(height: int, width: int, offset: float = 0.5) -> Points:
    """The points of five levels over a picture."""
    shapes = [(math.ceil(height / s), math.ceil(width / s)) for s in STRIDES]
    places = [point_grid(shape, (s, s), offset) for s, shape in zip(STRIDES, shapes, strict=True)]
    each = torch.tensor([len(p) for p in places])
    ranges = torch.tensor(level_ranges(STRIDES))
    strides = torch.tensor(STRIDES).float()
    return Points(
        torch.cat(places), strides.repeat_interleave(each), ranges.repeat_interleave(each, 0)
    )


def test_distances_by_hand() -> None:
    points, boxes = torch.tensor([[30.0, 40]]), torch.tensor([[10.0, 15, 60, 45]])
    distances = distances_to(boxes, points)
    assert distances.tolist() == [[20, 25, 30, 5]]
    assert boxes_at(points, distances).tolist() == boxes.tolist()


def test_centreness_by_hand() -> None:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), and l, t, r, b in this order."""
    distances = torch.tensor([[5.0, 7, 5, 7], [10, 4, 40, 4], [10, 4, 40, 36], [0, 4, 40, 4]])
    expected = [1, math.sqrt(1 / 4), math.sqrt(1 / 4 * 1 / 9), 0]
    assert centreness_of(distances).tolist() == pytest.approx(expected)


def test_level_ranges_are_the_papers() -> None:
    """Section 3.2: m_2 to m_7 are 0, 64, 128, 256, 512 and infinity."""
    ends = [(0, 64), (64, 128), (128, 256), (256, 512), (512, math.inf)]
    assert level_ranges(STRIDES) == ends


def naive(
    points: Points, objects: list[list[float]], ignore: list[bool], radius: float
) -> list[int]:
    """Section 3.2, point by point and box by box."""
    matches = []
    for (x, y), stride in zip(points.places.tolist(), points.strides.tolist(), strict=True):
        low = {8: 0, 16: 64, 32: 128, 64: 256, 128: 512}[stride]
        high = {8: 64, 16: 128, 32: 256, 64: 512, 128: math.inf}[stride]
        smallest, match = math.inf, NEGATIVE
        for row, (x1, y1, x2, y2) in enumerate(objects):
            left, top, right, bottom = x - x1, y - y1, x2 - x, y2 - y
            fits = min(left, top, right, bottom) > 0 and not ignore[row]
            fits = fits and low <= max(left, top, right, bottom) <= high
            if radius > 0:  # the point is in a square around the middle, too
                middle, half = ((x1 + x2) / 2, (y1 + y2) / 2), radius * stride
                fits = fits and abs(x - middle[0]) < half and abs(y - middle[1]) < half
            if fits and (x2 - x1) * (y2 - y1) < smallest:
                smallest, match = (x2 - x1) * (y2 - y1), row
        matches.append(match)
    return matches


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([1.5, 0.75, 0.0]))
def test_equals_the_naive_loop(seed: int, radius: float) -> None:
    """Whole numbers, so that points lie on sides and distances at the ends of ranges."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 60, (6, 2, 2), generator=generator).float() * 4
    objects = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)
    ignore = torch.rand(6, generator=generator) < 0.2
    points = grid(200, 240)
    found = match_points(points, objects, ignore, radius)
    assert found.tolist() == naive(points, objects.tolist(), ignore.tolist(), radius)


def positive_places(points: Points, box: list[float], radius: float) -> list[list[float]]:
    found = match_points(points, torch.tensor([box]), torch.tensor([False]), radius)
    return [*points.places[found == 0].tolist()]


def test_centre_sampling_by_hand() -> None:
    """A box of 40 x 48 around (32, 32): the farthest side is less than 64 pixels from everywhere
    in it, so it is P3's, whose points are 4, 12, 20, ... Within 12 pixels (1.5 strides) of its
    middle those at 28 and 36 in both directions, for 20 and 44 are 12 away; in all of it also
    those at 12, 20, ..., 52 across and 12, ..., 52 down."""
    points, box = grid(128, 128), [12.0, 8, 52, 56]
    near = [[x, y] for y in (28, 36) for x in (28, 36)]
    assert positive_places(points, box, 1.5) == near
    everywhere = [[x, y] for y in (12, 20, 28, 36, 44, 52) for x in (20, 28, 36, 44)]
    assert positive_places(points, box, 0) == everywhere


def test_of_two_boxes_the_smaller_takes_the_point() -> None:
    points = grid(64, 64)
    boxes = torch.tensor([[0.0, 0, 60, 60], [16, 16, 40, 40], [0, 0, 60, 61]])
    found = match_points(points, boxes, torch.zeros(3, dtype=torch.bool), 0)
    at = {tuple(p): n for p, n in zip(points.places.tolist(), found.tolist(), strict=True)}
    assert (at[20, 20], at[4, 4]) == (1, 0)


def their_model(**options: Any) -> Any:
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        norm_layer=nn.BatchNorm2d,
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    plain = {"min_size": 96, "max_size": 160, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    return Torchvision(backbone, 4, head=FCOSHead(256, 1, 4, num_convs=2), **plain, **options)


def with_weights_of(theirs: Any, folder: Path, **options: Any) -> Any:
    ours = create(
        "fcos", 3, backbone="resnet18", even_points=True, score="root", convs=2, **options
    )
    torch.save(theirs.state_dict(), folder / "theirs.pth")
    ours.load_state_dict(read_torchvision(folder / "theirs.pth").tensors)
    return ours


def scenes_and_targets() -> tuple[list[Scene], list[dict[str, Tensor]]]:
    """Three pictures, the last without a thing, for ours and for torchvision's."""
    found: list[tuple[list[list[float]], list[int]]] = [
        ([[5, 8, 60, 70], [50, 20, 150, 90], [52, 24, 70, 44]], [0, 2, 1]),
        ([[10, 10, 40, 30], [0, 40, 140, 95]], [1, 1]),
        ([], []),
    ]
    scenes, targets = [], []
    for boxes, labels in found:
        box, label = torch.tensor(boxes).float().reshape(-1, 4), torch.tensor(labels).long()
        scenes.append(Scene((96, 160), Instances(box, label)))
        targets.append({"boxes": box.double(), "labels": label + 1})
    return scenes, targets


NAMES = {"class": "classification", "box": "bbox_regression", "centreness": "bbox_ctrness"}


@pytest.mark.parametrize("background", [False, True])
def test_losses_and_gradients_are_torchvisions(background: bool, tmp_path: Path) -> None:
    """One training step in double precision, but for the targets. torchvision has a sigmoid for
    background, too, which learns to say no at every point; ours has none. Where it says no already
    all is the same; else its focal loss as a negative of every point is the difference."""
    torch.manual_seed(0)
    theirs = their_model()
    last = theirs.head.classification_head.cls_logits
    last.weight.data[0], last.bias.data[0] = 0.0, 0.0 if background else -60.0
    ours = with_weights_of(theirs, tmp_path).double().train()
    theirs.double().train()
    pixels = torch.rand(3, 3, 96, 160, dtype=torch.float64)
    scenes, targets = scenes_and_targets()
    mine = ours(Images(pixels, torch.tensor([[96, 160]] * 3)), scenes)
    seen: list[Tensor] = []
    last.register_forward_hook(lambda module, inputs, output: seen.append(output[:, 0].flatten()))
    their = theirs(list(pixels), targets)
    silent = torch.cat(seen)
    extra = sigmoid_focal_loss(silent, torch.zeros_like(silent), reduction="sum")
    assert (extra > 1) == background
    their["classification"] = their["classification"] - extra / mine["class"].count
    for name, their_name in NAMES.items():
        assert mine[name].count > 10
        assert mine[name].mean().item() == pytest.approx(their[their_name].item(), rel=1e-6), name
    sum(loss.mean() for loss in mine.values()).backward()
    sum(their.values()).backward()
    for parameter in theirs.parameters():
        parameter.data = parameter.grad
    torch.save(theirs.state_dict(), tmp_path / "gradients.pth")
    gradients = read_torchvision(tmp_path / "gradients.pth").tensors
    for name, parameter in ours.named_parameters():
        apart = (parameter.grad - gradients[name]).norm() / gradients[name].norm()
        assert apart < 1e-5, name


def test_outputs_and_answers_are_torchvisions(tmp_path: Path) -> None:
    """Dense outputs level by level and the detections, in double precision: among them boxes that
    lie beyond the picture and are left without area, which both answer."""
    torch.manual_seed(0)
    theirs = their_model(score_thresh=0.3, topk_candidates=50, detections_per_img=40)
    nn.init.normal_(theirs.head.classification_head.cls_logits.bias, std=2.0)
    theirs.head.classification_head.cls_logits.bias.data[0] = -60.0
    ours = with_weights_of(theirs, tmp_path, threshold=0.3, candidates=50, top=40)
    ours.double().eval()
    theirs.double().eval()
    pixels = torch.rand(2, 3, 96, 160, dtype=torch.float64)
    with torch.no_grad():
        outputs = ours.outputs(Images(pixels, torch.tensor([[96, 160]] * 2)))
        dense = theirs.head(list(theirs.backbone(pixels).values()))
        found = ours.select(outputs, Images(pixels, torch.tensor([[96, 160]] * 2)))
        answers = theirs(list(pixels))
    same = {"logits": dense["cls_logits"][..., 1:], "distances": dense["bbox_regression"]}
    for name, expected in same.items():
        torch.testing.assert_close(torch.cat(getattr(outputs, name), dim=1), expected)
    torch.testing.assert_close(torch.cat(outputs.centreness, 1), dense["bbox_ctrness"][..., 0])
    for row, answer in enumerate(answers):
        assert len(answer["scores"]) == 40
        torch.testing.assert_close(found.scores[row], answer["scores"])
        torch.testing.assert_close(found.boxes[row], answer["boxes"])
        assert torch.equal(found.labels[row], answer["labels"] - 1)
    assert (box_area(found.boxes.flatten(0, 1)) == 0).any()


def their_matches(points: Points, boxes: Tensor) -> list[int]:
    """What torchvision's class makes of these points, laid as anchors around them."""
    theirs = their_model()
    theirs.head.compute_loss = lambda targets, outputs, anchors, matched: matched
    half = points.strides[:, None] / 2
    anchors = torch.cat([points.places - half, points.places + half], dim=1)
    each = [int((points.strides == stride).sum()) for stride in STRIDES]
    targets = [{"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.long)}]
    return theirs.compute_loss(targets, None, [anchors], each)[0].tolist()


def test_matches_are_torchvisions() -> None:
    """Boxes at random, whose areas differ by more than torchvision's numbers tell apart."""
    torch.manual_seed(0)
    low = torch.rand(40, 2) * 500
    boxes = torch.cat([low, low + 8 + torch.rand(40, 2) ** 3 * 900], dim=1)
    points = grid(800, 1088, offset=0.0)
    found = match_points(points, boxes, torch.zeros(40, dtype=torch.bool), 1.5).tolist()
    assert found == their_matches(points, boxes)
    assert len(set(found)) > 30


def test_where_matches_differ_from_torchvisions_on_purpose() -> None:
    """Of areas near one another the smaller counts, however near: torchvision takes them from 1e8
    in 32 bits, steps of 8 square pixels, and then the first box. A distance at the very end of a
    range, 64 pixels, is in both levels' range as the paper has it; torchvision's in neither."""
    points = grid(64, 64, offset=0.0)
    nearly = torch.tensor([[8.0, 8, 40, 40], [8, 8, 40, 39.95]])
    ours = match_points(points, nearly, torch.zeros(2, dtype=torch.bool), 1.5).tolist()
    assert (set(ours), set(their_matches(points, nearly))) == ({NEGATIVE, 1}, {NEGATIVE, 0})
    points = grid(128, 128, offset=0.0)
    box = torch.tensor([[0.0, 0, 128, 128]])
    ours = match_points(points, box, torch.zeros(1, dtype=torch.bool), 1.5).tolist()
    their = their_matches(points, box)
    at = [n for n, place in enumerate(points.places.tolist()) if place == [64, 64]]
    assert [ours[n] for n in at] == [0, 0, NEGATIVE, NEGATIVE]
    assert [their[n] for n in at] == [NEGATIVE] * 4


def test_an_ignore_region_takes_negatives_away_and_adds_none() -> None:
    """The losses of the positive points stay to the bit, that of the classes is a sum over fewer;
    no label of the region makes a difference."""
    torch.manual_seed(0)
    model = create("fcos", 3, **SMALL).eval()
    images = Images(torch.rand(1, 3, 96, 128), torch.tensor([[96, 128]]))
    with torch.no_grad():
        outputs = model.outputs(images)

    def losses(*region: float, label: int = 0) -> dict[str, Any]:
        boxes = torch.tensor([[4.0, 4, 40, 40], [10, 50, 44, 90], *([region] if region else [])])
        things = Instances(boxes, torch.tensor([0, 2, label])[: len(boxes)])
        things.ignore = torch.tensor([False, False, True])[: len(boxes)]
        with torch.no_grad():
            found: dict[str, Any] = model.losses(outputs, images, [Scene((96, 128), things)])
        return found

    plain = losses()
    for left in range(40, 110, 10):
        region = (float(left), float(left - 40), 126.0, 95.0)
        with_region = losses(*region)
        torch.testing.assert_close(with_region, losses(*region, label=1), rtol=0, atol=0)
        for name in ("box", "centreness"):
            torch.testing.assert_close(with_region[name], plain[name], rtol=0, atol=0)
        assert with_region["class"].total < plain["class"].total
        assert with_region["class"].count == plain["class"].count > 0


def test_ignored_points_by_hand() -> None:
    """The left half of a picture of 64 x 64 that is padded to 128 is ignored: of P3's 16 columns
    the middles of the first four lie in it; in the padding below a point is as the one above it on
    the rim."""
    model = create("fcos", 3, **SMALL)
    points = grid(128, 128)
    things = Instances(torch.tensor([[0.0, 0, 32, 64]]), torch.tensor([0]))
    things.ignore = torch.tensor([True])
    found = model.match(points, Scene((64, 64), things))[:256].reshape(16, 16)
    assert (found[:, :4] == NEUTRAL).all()
    assert (found[:, 4:] == NEGATIVE).all()


@pytest.mark.parametrize("box_loss", ["giou", "l2"])
@pytest.mark.parametrize("distances", ["relu", "exp"])
def test_box_losses_by_hand(distances: Any, box_loss: Any) -> None:
    """One point (20, 20) in a box of 16 x 16 around it, on P3: it is to say one stride to each
    side. It says exp(s x) = e^0 = 1 or relu(x) = 1, but for the right side, where 2 is said. The
    union is then 16 x 24, as is the hull: GIoU = IoU = 2 / 3. In squares: (2 - 1)^2."""
    model = create("fcos", 1, **SMALL, distances=distances, box_loss=box_loss)
    raw = torch.tensor([[[1.0, 1, 2, 1]]])
    if distances == "exp":
        raw = raw.log() / 3
        model.scales.data[0] = 3.0
    said = model.read_distances(raw, 0)[0]
    goal = distances_to(torch.tensor([[12.0, 12, 28, 28]]), torch.tensor([[20.0, 20]])) / 8
    expected = {"giou": 1 - 2 / 3, "l2": 1.0}[box_loss]
    assert model.distance_loss(said, goal).item() == pytest.approx(expected)


def test_scores_by_hand() -> None:
    """A class of 0.8 with centreness 0.45: 0.36, or its root 0.6."""
    logits = torch.tensor([[[0.8]]]).logit()
    centreness = torch.tensor([[0.45]]).logit()
    for score, expected in (("product", 0.36), ("root", 0.6)):
        model = create("fcos", 1, **SMALL, score=score)
        assert model.likeness(logits, centreness).item() == pytest.approx(expected)


def test_weights_that_diverged_are_answered() -> None:
    """Distances without bound (exp) stay finite, and NaN scores find nothing."""
    images = Images(torch.zeros(1, 3, 64, 64), torch.tensor([[64, 64]]))
    model = create("fcos", 1, **SMALL, distances="exp", threshold=0.0).eval()
    nn.init.constant_(model.box_head.last[0].bias, 1e9)
    with torch.no_grad():
        assert model(images).boxes.isfinite().all()
        nn.init.constant_(model.box_head.last[1].bias, float("nan"))
        assert (model(images).scores <= 0).all()


@pytest.mark.usefixtures("unchecked_shapes")  # they would refuse it first
@pytest.mark.parametrize("option", ["distances", "score", "box_loss"])
def test_a_choice_that_there_is_not(option: str) -> None:
    with pytest.raises(SightlineError, match="'else' is none of "):
        create("fcos", 1, **SMALL, **{option: "else"})


def test_a_backbone_of_two_maps_has_four_levels() -> None:
    model = create("fcos", 1, backbone="vit_tiny_patch16_224", channels=64, convs=1).eval()
    images = Images(torch.zeros(1, 3, 64, 64), torch.tensor([[64, 64]]))
    with torch.no_grad():
        outputs = model.outputs(images)
        points = model.points(outputs, images)
    assert len(outputs.logits) == len(model.strides)
    assert points.ranges[-1].tolist()[1] == math.inf


def test_every_level_answers_for_sizes_of_its_own() -> None:
    """The network has two maps of stride 32; taken both, one would have the range 256 to 256."""
    model = create("fcos", 1, backbone="tv_mobilenet_v3_large", channels=64, convs=1)
    assert model.strides == [8, 16, 32, 64, 128]
    assert all(low < high for low, high in level_ranges(model.strides))
