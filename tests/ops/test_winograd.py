"""Winograd's convolution against the direct one."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.ops.winograd import learning_conv3x3, transform_weights, winograd_conv3x3


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(0, 5),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.integers(1, 7),
    out=st.integers(1, 7),
    seed=st.integers(0, 2**30),
)
def test_equals_the_direct_convolution(
    batch: int, height: int, width: int, channels: int, out: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x, weight, bias = (
        random(batch, channels, height, width),
        random(out, channels, 3, 3),
        random(out),
    )
    ours = winograd_conv3x3(x, transform_weights(weight), bias)
    torch.testing.assert_close(ours, F.conv2d(x, weight, bias, padding=1), rtol=1e-9, atol=1e-9)


def test_more_tiles_than_are_taken_at_a_time() -> None:
    """70 x 5 tiles a picture: several rounds over the rows; 5 x 5: several over the pictures."""
    weight, bias = torch.randn(3, 2, 3, 3).double(), torch.randn(3).double()
    for shape in ((2, 2, 280, 17), (30, 2, 18, 20), (1, 2, 3, 1200)):
        x = torch.randn(shape).double()
        ours = winograd_conv3x3(x, transform_weights(weight), bias)
        torch.testing.assert_close(ours, F.conv2d(x, weight, bias, padding=1), rtol=1e-9, atol=1e-9)


def test_error_in_float32_stays_small() -> None:
    """Of values of size 1 the sum over 256 channels: within 1e-4, the transforms cost a digit."""
    x, weight = torch.randn(1, 256, 20, 20), torch.randn(64, 256, 3, 3) / 48
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    ours = winograd_conv3x3(x, transform_weights(weight), torch.zeros(64))
    assert (ours - exact).abs().max() < 1e-4


@pytest.mark.parametrize(
    "shape", [(2, 3, 6, 5), (1, 3, 4, 8), (30, 3, 18, 20), (1, 3, 1, 1), (0, 3, 7, 7)]
)
@pytest.mark.parametrize("biased", [True, False])
def test_gradients_equal_those_of_the_direct_convolution(
    shape: tuple[int, ...], biased: bool
) -> None:
    x, weight = torch.randn(shape).double(), torch.randn(4, 3, 3, 3).double()
    given = [value.requires_grad_() for value in (x, weight, torch.randn(4).double())]
    given = given if biased else given[:2]
    bias = given[2] if biased else None
    goal = torch.randn(shape[0], 4, *shape[2:]).double()
    ours = torch.autograd.grad((learning_conv3x3(x, weight, bias) * goal).sum(), given)
    theirs = torch.autograd.grad((F.conv2d(x, weight, bias, padding=1) * goal).sum(), given)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_gradients_are_computed_for_what_learns_alone() -> None:
    x, weight = torch.randn(1, 3, 6, 5), torch.randn(4, 3, 3, 3, requires_grad=True)
    learning_conv3x3(x, weight, None).sum().backward()
    assert x.grad is None
    assert weight.grad is not None


def test_error_of_gradients_in_float32_stays_small() -> None:
    """Within 1e-4 of the largest entry, where a direct convolution has about 1e-6."""
    x, weight = torch.randn(2, 128, 20, 20), torch.randn(128, 128, 3, 3) / 34
    goal = torch.randn(2, 128, 20, 20)
    given = [x.requires_grad_(), weight.requires_grad_()]
    ours = torch.autograd.grad((learning_conv3x3(x, weight, None) * goal).sum(), given)
    exact = [value.detach().double().requires_grad_() for value in given]
    direct = torch.autograd.grad((F.conv2d(*exact, padding=1) * goal.double()).sum(), exact)
    for a, b in zip(ours, direct, strict=True):
        assert (a - b).abs().max() < 1e-4 * b.abs().max()


@pytest.mark.parametrize("channels_last", [False, True])
def test_as_an_operator(channels_last: bool) -> None:
    """What a compiler is told of it is what it does."""
    x = torch.randn(2, 3, 6, 5)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    operator = torch.ops.sightline.winograd_conv3x3.default
    weights = transform_weights(torch.randn(4, 3, 3, 3))
    torch.library.opcheck(operator, (x, weights, torch.randn(4)))
