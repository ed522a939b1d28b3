"""Training as torchvision's, both forms of the classes and of the shifts, and first weights."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

from benchmarks.random_twins import tame
from sightline import weights
from sightline.errors import SightlineError
from sightline.models import create
from sightline.models.retinanet import of_class
from sightline.ops.losses import smooth_l1, softmax_focal
from sightline.ops.match import NEUTRAL
from sightline.types import Images, Instances, Scene
from sightline.weights.torchvision import read_torchvision

SIZE = (96, 128)
OPTIONS: dict[str, Any] = {"backbone": "test_resnet", "channels": 32, "convs": 1}


def their_model(name: str, background: float = -40.0) -> Any:
    """``background`` is the logit of their first row."""
    build = getattr(torchvision.models.detection, name)
    theirs = build(
        weights=None,
        weights_backbone=None,
        num_classes=4,
        min_size=96,
        max_size=128,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
    )
    tame(theirs)
    # Answers of an untrained model are all alike: these differ from anchor to anchor.
    last = theirs.head.classification_head.cls_logits
    torch.nn.init.normal_(last.weight, std=0.1)
    torch.nn.init.normal_(theirs.head.regression_head.bbox_reg.weight, std=0.03)
    with (
        torch.no_grad()
    ):  # a row for background, which no anchor ever learns to be, is theirs alone
        last.weight.unflatten(0, (9, 4))[:, 0] = 0
        last.bias.view(9, 4)[:, 0] = background
    theirs.train()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # else what one picture gives depends on the other
    return theirs


def with_weights_of(theirs: Any, folder: Path) -> Any:
    """Ours; from here on both in double precision."""
    torch.save(theirs.state_dict(), folder / "theirs.pth")
    theirs.double()
    return weights.load(folder / "theirs.pth").double()


def two_pictures() -> tuple[Images, list[Scene]]:
    """With five things and one."""
    boxes = torch.tensor(
        [[5.0, 8, 60, 70], [50, 20, 110, 90], [0, 0, 30, 25], [70, 0, 128, 30], [3, 60, 50, 96]]
    )
    few = torch.tensor([[30.0, 20, 100, 85]])
    images = Images(torch.rand(2, 3, *SIZE, dtype=torch.float64), torch.tensor([SIZE] * 2))
    scenes = [
        Scene(SIZE, Instances(boxes, torch.tensor([0, 2, 1, 1, 0]))),
        Scene(SIZE, Instances(few, torch.tensor([2]))),
    ]
    return images, scenes


def their_losses(theirs: Any, images: Images, scenes: list[Scene]) -> dict[str, Tensor]:
    """Of torchvision's labels, 0 is none of the classes."""
    things = [scene.things for scene in scenes]
    targets = [{"boxes": t.boxes.double(), "labels": t.labels + 1} for t in things]
    found = theirs(list(images.pixels), targets)
    return {"class": found["classification"], "box": found["bbox_regression"]}


@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2"])
def test_losses_are_torchvisions(name: str, tmp_path: Path) -> None:
    """Of one picture they are equal. Of two, torchvision's is the mean of each picture's own mean,
    ours the mean over the positive anchors of both."""
    torch.manual_seed(0)
    theirs = their_model(name)
    ours = with_weights_of(theirs, tmp_path)
    images, scenes = two_pictures()
    singles = []
    for row in range(2):
        alone = Images(images.pixels[row : row + 1], images.sizes[row : row + 1])
        mine = ours(alone, scenes[row : row + 1])
        expected = their_losses(theirs, alone, scenes[row : row + 1])
        for key, loss in mine.items():
            assert loss.count > 0
            assert loss.mean().item() == pytest.approx(expected[key].item(), rel=1e-6), key
        singles.append(mine)
    both, expected = ours(images, scenes), their_losses(theirs, images, scenes)
    for key, loss in both.items():
        one, two = (single[key] for single in singles)
        mean_of_means = (one.mean() + two.mean()) / 2
        assert mean_of_means.item() == pytest.approx(expected[key].item(), rel=1e-6), key
        of_all = (one.total + two.total) / (one.count + two.count)
        assert loss.mean().item() == pytest.approx(of_all.item(), rel=1e-6), key
        assert loss.mean().item() != pytest.approx(expected[key].item(), rel=1e-4), key


@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2"])
def test_gradients_are_torchvisions(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = their_model(name)
    ours = with_weights_of(theirs, tmp_path)
    images, scenes = two_pictures()
    alone = Images(images.pixels[:1], images.sizes[:1])
    sum(loss.mean() for loss in ours(alone, scenes[:1]).values()).backward()
    sum(their_losses(theirs, alone, scenes[:1]).values()).backward()
    for parameter in theirs.parameters():
        parameter.data = parameter.grad
    torch.save(theirs.state_dict(), tmp_path / "gradients.pth")
    gradients = read_torchvision(tmp_path / "gradients.pth").tensors
    for key, parameter in ours.named_parameters():
        apart = (parameter.grad - gradients[key]).norm() / gradients[key].norm()
        assert apart < 1e-5, key


def test_torchvision_has_a_row_for_background(tmp_path: Path) -> None:
    """A sigmoid that is to be 0 at all anchors: with logit 0 it costs each anchor that is not
    neutral 0.75 x 0.5^2 x log 2. Ours have no such row; all else is equal."""
    torch.manual_seed(0)
    theirs = their_model("retinanet_resnet50_fpn", background=0.0)
    ours = with_weights_of(theirs, tmp_path)
    images, scenes = two_pictures()
    alone = Images(images.pixels[:1], images.sizes[:1])
    mine, expected = ours(alone, scenes[:1]), their_losses(theirs, alone, scenes[:1])
    anchors = torch.cat(ours.anchors(ours.outputs(alone), alone))
    counted = int((ours.match(anchors, scenes[0]) != NEUTRAL).sum())
    more = counted * 0.75 * 0.25 * math.log(2) / mine["class"].count.item()
    assert expected["class"].item() == pytest.approx(mine["class"].mean().item() + more, rel=1e-6)
    assert more > 0.1 * mine["class"].mean().item()


def answers(model: Any, canvas: tuple[int, int] = (128, 128)) -> Tensor:
    """The mean over all anchors of how likely each class is."""
    images = Images(torch.rand(1, 3, *canvas), torch.tensor([canvas]))
    with torch.no_grad():
        logits = torch.cat(model.outputs(images).logits, dim=1)
    return model.likeness(logits).mean(dim=(0, 1))


@pytest.mark.parametrize("classes", [1, 3])
def test_the_prior(classes: int) -> None:
    """Each of C sigmoids starts at 0.01, its bias is -log 99; a softmax has 0.01 for all C classes
    together: exp(0) C / (exp(0) C + 99 C) = 1 / 100."""
    torch.manual_seed(0)
    model = create("retinanet", classes, **OPTIONS).eval()
    assert model.class_head.last.bias.tolist() == pytest.approx([-math.log(99)] * 9 * classes)
    torch.testing.assert_close(answers(model), torch.full((classes,), 0.01), rtol=0.1, atol=0)
    model = create("retinanet", classes, scores="softmax", **OPTIONS).eval()
    cell = [0.0] * classes + [math.log(99 * classes)]
    assert model.class_head.last.bias.tolist() == pytest.approx(cell * 9)
    expected = torch.full((classes,), 0.01 / classes)
    torch.testing.assert_close(answers(model), expected, rtol=0.1, atol=0)


def test_the_first_loss_is_small() -> None:
    """With the prior, A anchors without an object cost 0.75 x 0.01^2 x -log 0.99 a class."""
    torch.manual_seed(0)
    model = create("retinanet", 3, **OPTIONS).eval()
    images = Images(torch.rand(1, 3, *SIZE), torch.tensor([SIZE]))
    with torch.no_grad():
        outputs = model.outputs(images)
        losses = model.losses(outputs, images, [Scene(SIZE)])
    anchors = sum(level.shape[1] for level in outputs.logits)
    assert anchors == 9 * (12 * 16 + 6 * 8 + 3 * 4 + 2 * 2 + 1)
    each = 0.75 * 0.01**2 * -math.log(0.99)
    assert losses["class"].total.item() == pytest.approx(3 * anchors * each, rel=0.1)
    assert (losses["box"].total, losses["class"].count, losses["box"].count) == (0, 0, 0)


def test_the_softmax_form_by_a_loop() -> None:
    """C + 1 classes, background last, and shifts of each class, anchor by anchor."""
    torch.manual_seed(0)
    model = create("retinanet", 3, scores="softmax", class_agnostic=False, **OPTIONS).eval()
    images, scenes = two_pictures()
    images = images._replace(pixels=images.pixels.float())
    with torch.no_grad():
        outputs = model.outputs(images)
        losses = model.losses(outputs, images, scenes)
    anchors = torch.cat(model.anchors(outputs, images))
    logits, deltas = torch.cat(outputs.logits, dim=1), torch.cat(outputs.deltas, dim=1)
    assert (logits.shape[2], deltas.shape[2]) == (4, 3 * 4)
    classed = shifted = torch.zeros(())
    for picture, scene in enumerate(scenes):
        for row, match in enumerate(model.match(anchors, scene).tolist()):
            label = 3 if match < 0 else int(scene.things.labels[match])
            if match != -2:
                classed = classed + softmax_focal(logits[picture, row][None], torch.tensor([label]))
            if match >= 0:
                (x1, y1, x2, y2), (a1, b1, a2, b2) = scene.things.boxes[match], anchors[row]
                goal = torch.stack(
                    [
                        ((x1 + x2) - (a1 + a2)) / 2 / (a2 - a1),
                        ((y1 + y2) - (b1 + b2)) / 2 / (b2 - b1),
                        ((x2 - x1) / (a2 - a1)).log(),
                        ((y2 - y1) / (b2 - b1)).log(),
                    ]
                )
                own = deltas[picture, row, 4 * label : 4 * label + 4]
                shifted = shifted + smooth_l1(own, goal, beta=0).sum()
    torch.testing.assert_close(losses["class"].total, classed.squeeze(), rtol=1e-4, atol=0)
    torch.testing.assert_close(losses["box"].total, shifted, rtol=1e-4, atol=0)


def test_of_class() -> None:
    deltas = torch.arange(24.0).view(1, 2, 12)
    found = of_class(deltas, torch.tensor([[2, 0]]))
    assert found.tolist() == [[[8, 9, 10, 11], [12, 13, 14, 15]]]
    one = torch.rand(1, 2, 4)
    assert torch.equal(of_class(one, torch.tensor([[2, 0]])), one)


def test_select_by_a_loop() -> None:
    """The best ``candidates`` pairs of each level above the threshold, and of two that overlap, in
    one class, the better."""
    torch.manual_seed(0)
    model = create("retinanet", 2, candidates=20, top=15, **OPTIONS).eval()
    torch.nn.init.normal_(model.class_head.last.weight, std=0.5)
    torch.nn.init.constant_(model.class_head.last.bias, -1.0)
    images = Images(torch.rand(1, 3, *SIZE), torch.tensor([SIZE]))
    with torch.no_grad():
        outputs = model.outputs(images)
        found = model.select(outputs, images)
    entered = []
    for grid, logits, deltas in zip(
        model.anchors(outputs, images), outputs.logits, outputs.deltas, strict=True
    ):
        pairs = [
            (float(score), label, grid[row], deltas[0, row])
            for row, scores in enumerate(logits[0].sigmoid())
            for label, score in enumerate(scores)
            if score > 0.05
        ]
        entered += sorted(pairs, key=lambda pair: -pair[0])[:20]
    kept: list[tuple[float, int, Tensor]] = []
    for score, label, anchor, delta in sorted(entered, key=lambda pair: -pair[0]):
        size, middle = anchor[2:] - anchor[:2], (anchor[2:] + anchor[:2]) / 2
        middle, half = middle + delta[:2] * size, delta[2:].exp() * size / 2
        low = (middle - half).clamp(min=0)
        high = torch.minimum(middle + half, torch.tensor([128.0, 96.0]))
        box = torch.cat([low, high])
        rivals = [other for _, named, other in kept if named == label]
        if all(torchvision.ops.box_iou(box[None], other[None]) <= 0.5 for other in rivals):
            kept.append((score, label, box))
    assert len(entered) > 50
    assert len(kept) > 15
    torch.testing.assert_close(found.scores[0], torch.tensor([score for score, _, _ in kept[:15]]))
    assert found.labels[0].tolist() == [label for _, label, _ in kept[:15]]
    torch.testing.assert_close(found.boxes[0], torch.stack([box for _, _, box in kept[:15]]))


def test_the_paper_s_pyramid_and_torchvision_s_first() -> None:
    """P6 from C5, 128 channels here, or from P5."""
    paper, first = (
        create("retinanet", 1, extra=extra, **OPTIONS) for extra in ("convs_c5", "convs")
    )
    assert paper.fpn.p6.in_channels == paper.backbone.channels[-1]
    assert first.fpn.p6.in_channels == 32
    assert paper.strides == [8, 16, 32, 64, 128]


def test_a_backbone_has_maps_of_three_strides() -> None:
    for backbone, has in (
        ("vit_tiny_patch16_224", r"16, 16, 16"),
        ("tv_mobilenet_v3_large_ssd", "16, 32"),
    ):
        told = rf"backbone '{backbone}' has maps of strides \[{has}\], but none of 8"
        with pytest.raises(SightlineError, match=told):
            create("retinanet", 1, backbone=backbone)
    model = create("retinanet", 1, backbone="tv_mobilenet_v3_large", channels=8, convs=1).eval()
    with torch.no_grad():
        pyramid = model.outputs(Images(torch.zeros(1, 3, 128, 128), torch.tensor([[128, 128]])))[0]
    assert [128 // level.shape[-1] for level in pyramid] == model.strides == [8, 16, 32, 64, 128]


@pytest.mark.usefixtures("unchecked_shapes")  # the checks of types would be first
def test_options_that_are_none() -> None:
    with pytest.raises(SightlineError, match="box_loss is l1 or giou"):
        create("retinanet", 1, box_loss="l2", **OPTIONS)
    with pytest.raises(SightlineError, match="scores are sigmoid or softmax"):
        create("retinanet", 1, scores="tanh", **OPTIONS)


def test_weights_that_diverged_find_nothing() -> None:
    model = create("retinanet", 1, **OPTIONS).eval()
    torch.nn.init.constant_(model.class_head.last.bias, float("nan"))
    images = Images(torch.zeros(1, 3, 64, 64), torch.tensor([[64, 64]]))
    with torch.no_grad():
        assert (model(images).scores <= 0).all()
