"""FCN as torchvision's, with its weights: answers, losses, gradients."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from sightline import weights
from sightline.errors import SightlineError
from sightline.models import create
from sightline.types import Classes, Images, Scene
from sightline.weights.torchvision import read_torchvision

SIZES = torch.tensor([[65, 97]] * 2)  # no multiple of any stride


def their_model(name: str = "fcn_resnet50", classes: int = 21) -> Any:
    """Random weights, and statistics as if it had seen something."""
    model = getattr(torchvision.models.segmentation, name)(
        weights=None, weights_backbone=None, num_classes=classes, aux_loss=True
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.running_mean, std=0.1)
    return model


def with_weights_of(theirs: Any, folder: Path) -> Any:
    torch.save(theirs.state_dict(), folder / "theirs.pth")
    return weights.load(folder / "theirs.pth")


@pytest.mark.parametrize("name", ["fcn_resnet50", "fcn_resnet101"])
def test_answers_are_torchvisions(name: str, tmp_path: Path) -> None:
    """Row 0, their background, is our last."""
    theirs = their_model(name).eval()
    ours = with_weights_of(theirs, tmp_path)
    pixels = torch.randn(2, 3, 65, 97)
    with torch.no_grad():
        mine, their = ours(Images(pixels, SIZES)), theirs(pixels)["out"]
    assert mine.shape == (2, 21, 65, 97)
    torch.testing.assert_close(mine, their.roll(-1, dims=1), rtol=1e-4, atol=1e-5)


def test_the_classes_are_voc_s_and_background_is_stuff(tmp_path: Path) -> None:
    ours = with_weights_of(their_model(), tmp_path)
    assert ours.card.classes.names[:2] == ("aeroplane", "bicycle")
    assert ours.card.classes.ids == tuple(range(1, 21))
    assert ours.card.classes.stuff == ("background",)
    assert ours.card.model == "fcn"


def test_a_user_s_own_classes(tmp_path: Path) -> None:
    ours = with_weights_of(their_model(classes=3), tmp_path)
    assert ours.card.classes == Classes(("class 1", "class 2"), (1, 2), stuff=("background",))


def test_losses_and_gradients_are_torchvisions(tmp_path: Path) -> None:
    """One training step of its reference script, whose second loss weighs 0.5; dropout, which draws
    at random, is off. In double precision."""
    theirs = their_model()
    ours = with_weights_of(theirs, tmp_path).double().train()
    theirs.double().train()
    for model in (ours, theirs):
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    ours.auxiliary = 0.5
    pixels = torch.randn(2, 3, 65, 97, dtype=torch.float64)
    maps = torch.randint(0, 21, (2, 65, 97))
    maps[:, :20, :30] = 255
    ours_of = torch.where(maps == 255, 255, (maps - 1) % 21)
    scenes = [Scene((65, 97), semantic=each) for each in ours_of]
    mine = ours(Images(pixels, SIZES), scenes)
    their = {k: F.cross_entropy(v, maps, ignore_index=255) for k, v in theirs(pixels).items()}
    assert mine["pixel"].mean().item() == pytest.approx(their["out"].item(), rel=1e-6)
    assert mine["auxiliary"].mean().item() == pytest.approx(0.5 * their["aux"].item(), rel=1e-6)
    (mine["pixel"].mean() + mine["auxiliary"].mean()).backward()
    (their["out"] + 0.5 * their["aux"]).backward()
    for parameter in theirs.parameters():
        parameter.data = parameter.grad
    torch.save(theirs.state_dict(), tmp_path / "gradients.pth")
    gradients = read_torchvision(tmp_path / "gradients.pth").tensors
    for name, parameter in ours.named_parameters():
        apart = (parameter.grad - gradients[name]).norm() / gradients[name].norm()
        assert apart < 1e-5, name


def test_the_second_head_is_not_asked_in_prediction() -> None:
    model = create("fcn", Classes((), stuff=("sky", "ground")), backbone="test_resnet").eval()
    images = Images(torch.randn(1, 3, 40, 56), torch.tensor([[40, 56]]))
    before = model(images)
    nn.init.constant_(model.auxiliary_head.score.bias, float("nan"))
    assert torch.equal(model(images), before)


def test_a_network_that_cannot_be_dilated_keeps_its_stride() -> None:
    model = create("fcn", 2, backbone="vgg11", output_stride=32).eval()
    images = Images(torch.randn(1, 3, 64, 96), torch.tensor([[64, 96]]))
    assert model(images).shape == (1, 2, 64, 96)


def test_a_network_of_one_map_has_none_for_the_second_head() -> None:
    with pytest.raises(SightlineError, match="last two maps of a backbone, and 'test_vit' has one"):
        create("fcn", 2, backbone="test_vit", output_stride=32)
    with pytest.raises(SightlineError, match=r"'test_vit' has no form with .* stride 8"):
        create("fcn", 2, backbone="test_vit")


def test_weights_of_classes_reach_both_losses() -> None:
    model = create("fcn", Classes((), stuff=("sky", "ground")), backbone="test_resnet").eval()
    images = Images(torch.randn(1, 3, 40, 56), torch.tensor([[40, 56]]))
    target = [Scene((40, 56), semantic=torch.ones(40, 56).long())]
    plain = model(images, target)
    model.weigh(torch.tensor([1.0, 3.0]))
    for name, loss in model(images, target).items():
        torch.testing.assert_close(loss.total, 3 * plain[name].total)
        assert loss.count == plain[name].count
