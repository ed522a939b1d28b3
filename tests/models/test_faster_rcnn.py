"""Training as torchvision's, what the builder makes of its options, and weights that diverged."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN as Torchvision
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from sightline.models import create
from sightline.types import Images, Instances, Scene
from sightline.weights.torchvision import read_torchvision

EVERYTHING = 10**6  # samples: so many that nothing is left to chance


def their_model() -> Any:
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    return Torchvision(
        backbone,
        num_classes=4,
        min_size=96,
        max_size=128,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        rpn_pre_nms_top_n_train=100,
        rpn_post_nms_top_n_train=100,
        rpn_batch_size_per_image=EVERYTHING,
        box_batch_size_per_image=EVERYTHING,
        box_positive_fraction=0.5,
    )


def with_weights_of(theirs: Any, folder: Path) -> Any:
    ours = create(
        "faster_rcnn",
        3,
        backbone="resnet18",
        even_anchors=True,
        training_candidates=100,
        training_proposals=100,
    )
    ours.rpn.samples = EVERYTHING
    ours.box_head.sampling = replace(ours.box_head.sampling, count=EVERYTHING, positive_share=0.5)
    torch.save(theirs.state_dict(), folder / "theirs.pth")
    ours.load_state_dict(read_torchvision(folder / "theirs.pth").tensors)
    return ours


def test_losses_and_gradients_are_torchvisions(tmp_path: Path) -> None:
    """One training step, both stages, where both learn from all anchors and all proposals; in
    double precision, but for torchvision's targets."""
    torch.manual_seed(0)
    theirs = their_model()
    ours = with_weights_of(theirs, tmp_path).double().train()
    theirs.double().train()
    pixels = torch.rand(2, 3, 96, 128, dtype=torch.float64)
    boxes = torch.tensor(
        [[[5.0, 8, 60, 70], [50, 20, 110, 90]], [[10, 10, 40, 30], [0, 40, 90, 95]]]
    )
    labels = torch.tensor([[0, 2], [1, 1]])
    scenes = [Scene((96, 128), Instances(b, n)) for b, n in zip(boxes, labels, strict=True)]
    mine = ours(Images(pixels, torch.tensor([[96, 128]] * 2)), scenes)
    pairs = zip(boxes.double(), labels + 1, strict=True)
    their = theirs(list(pixels), [{"boxes": b, "labels": n} for b, n in pairs])
    names = {
        "rpn_object": "loss_objectness",
        "rpn_box": "loss_rpn_box_reg",
        "class": "loss_classifier",
        "box": "loss_box_reg",
    }
    for name, their_name in names.items():
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


FORMS: dict[str, dict[str, Any]] = {
    "faster_rcnn": {},
    "faster_rcnn agnostic": {"class_agnostic": True, "training_proposals": 200},
    "faster_rcnn_v2": {},
}


@pytest.mark.parametrize("form", FORMS)
def test_an_ignore_region_takes_negatives_away_and_adds_none(form: str) -> None:
    """Over what is unlabelled, where all candidates are learnt from: the losses of both stages are
    sums over fewer terms, those of the boxes are the same to the bit; and no label of the region
    makes a difference."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"backbone": "test_resnet", "channels": 8, "hidden": 8}
    model = create(form.split()[0], 3, **options, **FORMS[form]).eval()
    model.rpn.samples = EVERYTHING
    model.box_head.sampling = replace(model.box_head.sampling, count=EVERYTHING)
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

    plain, fewer = losses(), 0
    for left in range(50, 110, 10):
        region = (float(left), float(left - 50), 126.0, 95.0)
        with_region = losses(*region)
        torch.testing.assert_close(with_region, losses(*region, label=1), rtol=0, atol=0)
        for name in ("rpn_box", "box"):
            torch.testing.assert_close(with_region[name].total, plain[name].total)
        for name in ("rpn_object", "class"):
            assert with_region[name].total <= plain[name].total + 1e-4, name
            assert with_region[name].count <= plain[name].count
            fewer += int(plain[name].count - with_region[name].count)
    assert fewer > 100


@pytest.mark.parametrize("name", ["faster_rcnn", "faster_rcnn_v2"])
def test_a_backbone_of_two_maps_has_large_anchors_too(name: str) -> None:
    model = create(name, 1, backbone="vit_tiny_patch16_224", channels=8, hidden=8)
    images = Images(torch.zeros(1, 3, 64, 64), torch.tensor([[64, 64]]))
    model.eval()
    anchors = model.rpn.anchors(model.outputs(images).pyramid, images)
    widths = torch.cat(anchors)[:, 2] - torch.cat(anchors)[:, 0]
    assert widths.max() > 500


def test_weights_that_diverged_find_nothing() -> None:
    """NaN shifts of the RPN end in no proposal, not in an index out of bounds."""
    model = create("faster_rcnn", 1, backbone="resnet18", channels=8, hidden=8).eval()
    torch.nn.init.constant_(model.rpn.box_shift.bias, float("nan"))
    images = Images(torch.zeros(1, 3, 64, 64), torch.tensor([[64, 64]]))
    with torch.no_grad():
        assert (model(images).scores <= 0).all()
