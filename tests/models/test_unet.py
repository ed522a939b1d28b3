"""U-Net as segmentation_models_pytorch's, with its weights; every kind of way down."""

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sightline.models import create
from sightline.types import Images, Scene

_THEIR_NAMES = (
    (r"^encoder\.", "backbone.body."),
    (r"^decoder\.blocks\.(\d)\.conv1\.", r"decoder.steps.\1.first."),
    (r"^decoder\.blocks\.(\d)\.conv2\.", r"decoder.steps.\1.second."),
    (r"^segmentation_head\.0\.", "score."),
)


def renamed(state: dict[str, Any]) -> dict[str, Any]:
    for pattern, ours in _THEIR_NAMES:
        state = {re.sub(pattern, ours, name): value for name, value in state.items()}
    return state


def twins() -> tuple[Any, Any]:
    library = pytest.importorskip("segmentation_models_pytorch")
    theirs = library.Unet("resnet18", encoder_weights=None, classes=4)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.running_mean, std=0.1)
    ours = create("unet", 4, backbone="resnet18")
    ours.load_state_dict(renamed(theirs.state_dict()))
    return ours, theirs


def test_answers_are_the_library_s() -> None:
    ours, theirs = twins()
    pixels = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        mine = ours.eval()(Images(pixels, torch.tensor([[64, 96]] * 2)))
        torch.testing.assert_close(mine, theirs.eval()(pixels), rtol=1e-4, atol=1e-5)


def test_losses_and_gradients_are_the_library_s() -> None:
    ours, theirs = (model.double().train() for model in twins())
    pixels = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    maps = torch.randint(0, 4, (2, 64, 96))
    maps[:, :20] = 255
    scenes = [Scene((64, 96), semantic=each) for each in maps]
    mine = ours(Images(pixels, torch.tensor([[64, 96]] * 2)), scenes)["pixel"].mean()
    their = F.cross_entropy(theirs(pixels), maps, ignore_index=255)
    assert mine.item() == pytest.approx(their.item(), rel=1e-9)
    mine.backward()
    their.backward()
    gradients = renamed({name: p.grad for name, p in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        apart = (parameter.grad - gradients[name]).norm() / gradients[name].norm()
        assert apart < 1e-6, name


@pytest.mark.parametrize("size", [(64, 96), (61, 35), (33, 32)])
@pytest.mark.parametrize(
    "backbone",
    [
        "test_resnet",  # maps from stride 4 on: two steps without one beside
        "resnet18",  # from stride 2
        "vgg11_bn",  # from stride 1, as in the paper
        "test_vit",  # one map of stride 16
    ],
)
def test_a_map_is_as_large_as_its_picture(backbone: str, size: tuple[int, int]) -> None:
    model = create("unet", 3, backbone=backbone, channels=(16, 8)).eval()
    images = Images(torch.randn(1, 3, *size), torch.tensor([size]))
    with torch.no_grad():
        assert model(images).shape == (1, 3, *size)


def test_the_maps_beside_are_those_of_the_way_down() -> None:
    """ResNet-18: strides 2, 4, 8, 16 with 64, 64, 128, 256 channels beside, the last step alone;
    under them, at stride 32, 512."""
    decoder = create("unet", 3, backbone="resnet18").decoder
    given = [step.first[0].in_channels for step in decoder.steps]
    assert given == [512 + 256, 256 + 128, 128 + 64, 64 + 64, 32]
    assert decoder.targets == [16, 8, 4, 2, 1]


def test_maps_beside_of_a_network_that_timm_lacks() -> None:
    """torchvision's MobileNetV3: strides 2, 4, 8, 16 with 16, 24, 40, 80 channels beside; under
    them, at stride 32, 960."""
    decoder = create("unet", 3, backbone="tv_mobilenet_v3_large").decoder
    given = [step.first[0].in_channels for step in decoder.steps]
    assert given == [960 + 80, 256 + 40, 128 + 24, 64 + 16, 32]
