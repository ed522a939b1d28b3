"""A model made fast: what is folded, what is left alone, and that answers stay."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sightline import create, fuse, save
from sightline.backbones import create_backbone
from sightline.errors import SightlineError
from sightline.fuse import fold_norms
from sightline.layers.norm import FrozenBatchNorm
from sightline.types import Images


def stir(model: nn.Module) -> nn.Module:
    """Statistics and affine maps as after a training."""
    generator = torch.Generator().manual_seed(0)
    for norm in model.modules():
        if isinstance(norm, _BatchNorm | FrozenBatchNorm):
            for name, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5)):
                getattr(norm, name).data.copy_(
                    torch.rand(norm.running_mean.shape, generator=generator) + low
                )
            norm.running_var.copy_(torch.rand(norm.running_var.shape, generator=generator) + 0.5)
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(m, _BatchNorm | FrozenBatchNorm) for m in model.modules())


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenetv3_large_100", "regnetx_002", "tv_mobilenet_v3_large"]
)
def test_every_norm_of_a_backbone_is_folded(name: str, frozen: bool) -> None:
    body = stir(create_backbone(name, frozen_norm=frozen)).double()
    pixels = torch.randn(2, 3, 64, 96).double()
    with torch.no_grad():
        before = body(pixels)
        assert norms(body) > 0
        fold_norms(body)
        assert norms(body) == 0
        torch.testing.assert_close(before, body(pixels))


class Forked(nn.Module):
    """What must not be folded, and what must: each norm's name says which."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.read_twice = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.shared, self.after_shared = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.first = nn.BatchNorm2d(3)
        self.plain, self.folded = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.alias = self.folded

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.conv(x)
        y = y + self.read_twice(y)
        y = self.after_shared(self.shared(y)) + self.shared(x)
        return self.alias(self.plain(y))


class ByData(nn.Module):
    """Cannot be traced: it decides by what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.part = Forked()

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x) if x.sum() > 0 else x


class Careful(ByData):
    """Cannot be traced: it refuses what is no tensor, with an error of its own."""

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise SightlineError("no pixels")
        return self.part(x)


@pytest.mark.parametrize("build", [Forked, ByData, Careful])
def test_only_what_the_norm_alone_reads_is_folded(build: Any) -> None:
    model = stir(build())
    x = torch.rand(1, 3, 4, 4)
    with torch.no_grad():
        before = model(x)
        fold_norms(model)
        torch.testing.assert_close(before, model(x))
    part = model if isinstance(model, Forked) else model.part
    left = {name for name, module in part.named_modules() if isinstance(module, _BatchNorm)}
    assert left == {"read_twice", "after_shared", "first"}


class SharedByParts(nn.Module):
    """One convolution in two parts, each with a norm of its own; cannot be traced whole."""

    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv2d(3, 3, 1)
        self.one = nn.Sequential(conv, nn.BatchNorm2d(3))
        self.two = nn.Sequential(conv, nn.BatchNorm2d(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.two(x) if x.sum() > 0 else x


def test_a_convolution_that_parts_share_is_not_folded() -> None:
    model, x = stir(SharedByParts()), torch.rand(1, 3, 4, 4)
    with torch.no_grad():
        before = model(x)
        fold_norms(model)
        assert torch.equal(before, model(x))


class Standardised(nn.Conv2d):
    """Its weights are not what it multiplies with."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight / self.weight.std()
        return torch.nn.functional.conv2d(x, weight, self.bias, padding=self.padding)


def test_a_convolution_of_its_own_kind_is_left_alone() -> None:
    model = stir(nn.Sequential(Standardised(4, 4, 3, padding=1), nn.BatchNorm2d(4)))
    x = torch.rand(1, 4, 5, 5)
    with torch.no_grad():
        before = model(x)
        fold_norms(model)
        assert torch.equal(before, model(x))


@pytest.fixture(scope="module")
def small() -> Any:
    torch.manual_seed(0)
    return stir(create("faster_rcnn", 3, backbone="resnet18", channels=256, short=64, long=96))


def batch() -> Images:
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    return Images(pixels, torch.tensor([[64, 96], [50, 96]]))


def test_the_model_itself_stays(small: Any, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in small.state_dict().items()}
    fast = fuse(small)
    assert fast.preprocess == small.preprocess
    assert fast.card == small.card
    after = small.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(SightlineError, match="save the one it was made of"):
        save(fast, tmp_path / "fast.safetensors")


def test_outputs_stay(small: Any) -> None:
    with torch.no_grad():
        before, after = small.outputs(batch()), fuse(small).outputs(batch())
    for ours, theirs in zip(before, after, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert (a - b).abs().max() <= 1e-4 * a.abs().max()


def test_a_fused_model_is_left_as_it_is(small: Any) -> None:
    fast = fuse(small)
    assert fuse(fast) is fast
    for wish in ({"dtype": torch.bfloat16}, {"compile": True}):
        with pytest.raises(SightlineError, match="fused already"):
            fuse(fast, **wish)


def test_bfloat16_computes_in_it_and_answers_in_pixels(small: Any) -> None:
    fast = fuse(small, torch.bfloat16)
    with torch.no_grad():
        selected = fast(batch())
    assert fast.backbone.body.conv1.weight.dtype == torch.bfloat16
    assert selected.boxes.dtype == torch.float32
