"""Default boxes, matching and mining by hand; torchvision's SSD300 and SSDLite320 as twins."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision.models.detection as theirs
from torch import Tensor
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from sightline import weights
from sightline.errors import SightlineError
from sightline.models import create
from sightline.models.ssd import cell_boxes, default_cells, extra_levels
from sightline.ops.match import NEUTRAL
from sightline.types import Images, Instances, Scene

SMALL: dict[str, Any] = {"backbone": "test_resnet", "channels": 32}


def small(side: int = 128) -> Any:
    return create("ssd", 3, side=side, **SMALL).eval()


def boxes_of(name: str, side: int, levels: list[int]) -> Tensor:
    """The default boxes of the published form, for maps of so many cells a side."""
    model = create(name, 3, side=side, **SMALL)
    maps = [torch.zeros(1, 1, cells, cells) for cells in levels]
    boxes: Tensor = torch.cat(model.default_boxes(maps))
    return boxes


SSD300, SSD512 = [38, 19, 10, 5, 3, 1], [64, 32, 16, 8, 4, 2, 1]


def test_the_boxes_of_a_cell_by_hand() -> None:
    """Scale 0.16 and 0.36 of 100 pixels: squares of 16 and sqrt(16 x 36) = 24, then 16 stretched
    and squeezed by sqrt(4) = 2; nothing wider than the picture: 90 x 2 becomes 100."""
    near = {"rtol": 1e-6, "atol": 0}
    half = cell_boxes(0.16, 0.36, [4], 100)[:, 2:]
    torch.testing.assert_close(half, torch.tensor([[8.0, 8], [12, 12], [16, 4], [4, 16]]), **near)
    wide = cell_boxes(0.9, 1.0, [4], 100)[2]
    torch.testing.assert_close(wide, torch.tensor([-50, -22.5, 50, 22.5]), **near)


def test_the_published_sizes() -> None:
    """8732 and 24564 boxes (table 7); conv4_3 has one of 0.07 x 300 = 21 pixels around (4, 4), the
    last map one of 0.87 x 300 = 261 around the middle."""
    boxes = boxes_of("ssd", 300, SSD300)
    assert len(boxes) == 8732
    assert len(boxes_of("ssd", 512, SSD512)) == 24564
    torch.testing.assert_close(boxes[0], torch.tensor([-6.5, -6.5, 14.5, 14.5]))
    torch.testing.assert_close(boxes[-4], torch.tensor([19.5, 19.5, 280.5, 280.5]))
    assert [level.stride for level in extra_levels(300)] == [32, 64, 100, 300]
    assert [level.stride for level in extra_levels(512)] == [32, 64, 128, 256, 512]
    assert [(level.kernel, level.step, level.padding) for level in extra_levels(300)] == [
        *[(3, 2, 1)] * 2,
        *[(3, 1, 0)] * 2,
    ]


PAIRS, TRIPLES = [[2], [2, 3], [2, 3], [2, 3], [2], [2]], [[2, 3]] * 6
SCALES = [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05]
SCALES_512 = [0.07, 0.15, 0.30, 0.45, 0.60, 0.75, 0.90, 1.05]
TWINS = {
    "ssd 300": DefaultBoxGenerator(PAIRS, scales=SCALES, steps=[8, 16, 32, 64, 100, 300]),
    "ssd 512": DefaultBoxGenerator(
        [PAIRS[0], *[[2, 3]] * 4, [2], [2]], scales=SCALES_512, steps=[8 * 2**k for k in range(7)]
    ),
    "ssdlite 320": DefaultBoxGenerator(TRIPLES, min_ratio=0.2, max_ratio=0.95),
}


@pytest.mark.parametrize("form", TWINS)
def test_default_boxes_are_torchvisions(form: str) -> None:
    name, size = form.split()
    levels = {"300": SSD300, "512": SSD512, "320": [20, 10, 5, 3, 2, 1]}[size]
    side = int(size)
    images = ImageList(torch.zeros(1, 3, side, side), [(side, side)])
    expected = TWINS[form](images, [torch.zeros(1, 1, cells, cells) for cells in levels])[0]
    torch.testing.assert_close(boxes_of(name, side, levels), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("size", [64, 100, 128, 222, 300, 321])
def test_every_size_ends_in_one_cell(size: int) -> None:
    model = small(size)
    pyramid = model.outputs(Images(torch.zeros(1, 3, size, size), torch.tensor([[size] * 2])))[0]
    cells = [features.shape[-1] for features in pyramid]
    assert cells[0] == -(-size // 8)
    assert cells[1] == -(-size // 16)
    assert cells[-1] == 1
    middle = torch.cat(model.default_boxes(pyramid))[-4:].mean(dim=0)
    torch.testing.assert_close(middle[:2] + middle[2:], torch.full((2,), float(size)))


@pytest.mark.parametrize("name", ["ssd", "ssdlite"])
@pytest.mark.parametrize("backbone", ["tv_mobilenet_v3_large", "msra_resnet50", "dla34"])
def test_cells_are_laid_over_the_whole_picture(name: str, backbone: str) -> None:
    """On networks that have more maps than the two that are wanted: the middles of a level's boxes
    lie half a cell within the sides. 128 pixels are 16 cells of stride 8, or 8 of stride 16."""
    model = create(name, 3, backbone=backbone, side=128, channels=32).eval()
    with torch.no_grad():
        pyramid = model.outputs(Images(torch.zeros(1, 3, 128, 128), torch.tensor([[128, 128]])))[0]
    first = 8 if name == "ssd" else 16
    for boxes, stride in zip(model.default_boxes(pyramid)[:2], (first, 2 * first), strict=True):
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        ends = torch.tensor([stride / 2, 128 - stride / 2])
        torch.testing.assert_close(torch.stack([middles.min(), middles.max()]), ends)


@pytest.mark.parametrize(("backbone", "side"), [("vgg11", 300), ("densenet121", 70)])
def test_a_map_is_rounded_up(backbone: str, side: int) -> None:
    """VGG pools by maxima, DenseNet by means: 300 pixels make 38 and 19 cells, 70 make 9 and 5,
    which rounded down would be 8 and 4, too few for the levels behind."""
    model = create("ssd", 3, backbone=backbone, side=side, channels=32).eval()
    with torch.no_grad():
        pyramid = model.outputs(Images(torch.zeros(1, 3, side, side), torch.tensor([[side] * 2])))[
            0
        ]
    cells = {300: [38, 19, 10, 5, 3, 1], 70: [9, 5, 3, 1]}[side]
    assert [level.shape[-1] for level in pyramid] == cells


def test_what_cannot_be_built() -> None:
    with pytest.raises(SightlineError, match="64 pixels a side or more, not 32"):
        small(32)
    with pytest.raises(SightlineError, match="none of 8"):
        create("ssd", 3, backbone="vit_tiny_patch16_224")
    with pytest.raises(SightlineError, match=r"maps of strides \[16, 32\], but none of 8"):
        create("ssd", 3, backbone="tv_mobilenet_v3_large_ssd")
    with pytest.raises(SightlineError, match="has 6 levels: it needs 7 scales, not 2"):
        default_cells(6, 300, [0.1, 0.2])
    with pytest.raises(SightlineError, match="no pretrained weights of the reduced"):
        create("ssdlite", 3, pretrained=True)


def scene(*boxes: list[float], ignore: list[int] | None = None) -> Scene:
    things = Instances(torch.tensor(boxes).float().view(-1, 4), torch.arange(len(boxes)) % 3)
    things.ignore = torch.tensor(ignore or [0] * len(boxes)).bool()
    return Scene((128, 128), things)


def test_each_object_has_its_best_box() -> None:
    """A small object that no box overlaps by half has one all the same, and each box of an IoU of
    0.5 or more has the object it overlaps most."""
    model = small()
    boxes = torch.tensor([[0.0, 0, 40, 40], [0, 0, 40, 60], [80, 80, 120, 120], [0, 90, 9, 99]])
    target = scene([0, 0, 40, 44], [95, 95, 105, 105])
    assert model.match(boxes, target).tolist() == [0, 0, 1, -1]
    ignored = scene([0, 0, 40, 44], [95, 95, 105, 105], ignore=[0, 1])
    assert model.match(boxes, ignored).tolist() == [0, 0, NEUTRAL, -1]
    assert model.match(boxes, scene()).tolist() == [-1] * 4


def test_three_negatives_for_each_positive() -> None:
    """By hand: costs log(1 + e^x) of logits (x, 0), background second; one positive box, so that of
    the five negatives the three largest count; a picture without a thing teaches nothing."""
    model = small()
    x = torch.tensor([0.0, -3, 2, 1, 4, 3])
    logits = torch.stack([torch.stack([x, torch.zeros(6)], dim=1)] * 2)
    labels = torch.tensor([[0, 1, 1, 1, 1, 1], [1] * 6])
    cost = F.softplus(x)  # of background; that of the object at x = 0 is log 2 as well
    expected = cost[0] + cost[4] + cost[5] + cost[2]
    torch.testing.assert_close(model.class_loss(logits, labels), expected)
    without = torch.tensor([[0, 1, 1, 1, -1, 1], [1] * 6])
    torch.testing.assert_close(model.class_loss(logits, without), expected - cost[4] + cost[3])


def test_an_ignore_region_takes_negatives_away() -> None:
    model = small()
    torch.manual_seed(0)
    images = Images(torch.rand(1, 3, 128, 128), torch.tensor([[128, 128]]))
    with torch.no_grad():
        outputs = model.outputs(images)
        outputs = outputs._replace(logits=[torch.randn_like(level) for level in outputs.logits])
        first: list[float] = [4, 4, 40, 40]
        plain = model.losses(outputs, images, [scene(first)])
        other = model.losses(outputs, images, [scene(first, [50, 0, 128, 128], ignore=[0, 1])])
    torch.testing.assert_close(other["box"], plain["box"], rtol=0, atol=0)
    assert other["class"].count == plain["class"].count
    assert other["class"].total < plain["class"].total


BUILDERS: dict[str, Any] = {
    "ssd300_vgg16": theirs.ssd300_vgg16,
    "ssdlite320_mobilenet_v3_large": theirs.ssdlite320_mobilenet_v3_large,
}
# Pixels a side, pictures, precision and how near.
TRIED = {
    "ssd300_vgg16": (300, 1, torch.float32, 1e-4),
    "ssdlite320_mobilenet_v3_large": (320, 2, torch.float64, 1e-6),
}


@torch.no_grad()
def their_model(name: str, pixels: Tensor) -> Any:
    """Scores spread as trained ones are, on pixels of the right size."""
    torch.manual_seed(0)
    plain = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    model = BUILDERS[name](weights=None, weights_backbone=None, num_classes=4, **plain)
    model.train()
    features = list(model.backbone(pixels).values())
    for part, spread in ((model.head.classification_head, 2.0), (model.head.regression_head, 1.0)):
        for module, level in zip(part.module_list, features, strict=True):
            last = [m for m in module.modules() if isinstance(m, torch.nn.Conv2d)][-1]
            last.weight *= spread / module(level).std()
    return model


def ours_of(model: Any, folder: Path) -> Any:
    torch.save(model.state_dict(), folder / "theirs.pth")
    return weights.load(folder / "theirs.pth")


@pytest.mark.parametrize("name", BUILDERS)
def test_losses_and_gradients_are_torchvisions(name: str, tmp_path: Path) -> None:
    """One training step on two pictures; VGG16, which takes seconds, on one in single precision."""
    size, count, kind, near = TRIED[name]
    pixels = torch.rand(count, 3, size, size)
    model = their_model(name, pixels)
    ours = ours_of(model, tmp_path).to(kind).train()
    model.to(kind).train()
    boxes = torch.tensor(
        [[[15.0, 28, 160, 170], [250, 20, 275, 60]], [[10, 10, 40, 90], [0, 40, 290, 280]]]
    )[:count]
    labels = torch.tensor([[0, 2], [1, 1]])[:count]
    scenes = [Scene((size, size), Instances(b, n)) for b, n in zip(boxes, labels, strict=True)]
    mine = ours(Images(pixels.to(kind), torch.tensor([[size, size]] * count)), scenes)
    pairs = zip(boxes.to(kind), labels + 1, strict=True)
    their = model(list(pixels.to(kind)), [{"boxes": b, "labels": n} for b, n in pairs])
    assert mine["box"].count > 10
    for key, their_key in (("class", "classification"), ("box", "bbox_regression")):
        assert mine[key].mean().item() == pytest.approx(their[their_key].item(), rel=near), key
    sum(loss.mean() for loss in mine.values()).backward()
    sum(their.values()).backward()
    for parameter in model.parameters():
        parameter.data = parameter.grad
    torch.save(model.state_dict(), tmp_path / "gradients.pth")
    gradients = weights.read(tmp_path / "gradients.pth").tensors
    # What comes before a BatchNorm has, but for rounding, no gradient of its own.
    rounding = 1e-6 * max(gradients[key].norm() for key, _ in ours.named_parameters())
    for key, parameter in ours.named_parameters():
        apart = (parameter.grad - gradients[key]).norm()
        assert apart <= 10 * near * gradients[key].norm() + rounding, key
