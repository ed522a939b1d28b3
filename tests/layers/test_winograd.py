"""Which convolutions take Winograd's form, and that they stay what they were."""

from typing import Any

import pytest
import torch
from torch import nn

from sightline.layers.winograd import FixedWinogradConv, LearningWinogradConv, take_winograd

FORMS = [FixedWinogradConv, LearningWinogradConv]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    for form in FORMS:
        monkeypatch.setattr(form, "wide", 16)
    monkeypatch.setattr(LearningWinogradConv, "many", 9)


def convolutions() -> nn.Sequential:
    """Two that suit, and one for each reason not to."""

    class OfItsOwnKind(nn.Conv2d):
        pass

    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(16, 16, 3, padding=1),
        nn.Conv2d(16, 16, 3, padding=1, bias=False),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2),
        nn.Conv2d(16, 16, 3, padding=1, groups=2),
        nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
        OfItsOwnKind(16, 16, 3, padding=1),
        nn.Conv2d(16, 8, 3, padding=1),
        nn.Conv2d(8, 16, 1),
    )


@pytest.mark.parametrize("form", FORMS)
def test_wide_plain_convolutions_of_three_by_three_take_it(form: Any) -> None:
    model, x = convolutions(), torch.randn(1, 16, 9, 10)
    with torch.no_grad():
        before = model(x)
        take_winograd(model, form)
        torch.testing.assert_close(before, model(x), rtol=1e-4, atol=1e-5)
    taken = [True, True, form is FixedWinogradConv, *[False] * 5]
    assert [isinstance(module, form) for module in model] == taken


@pytest.mark.parametrize("size", [(9, 10), (8, 8), (3, 1)])
@pytest.mark.parametrize("step", [2, 3, 4])
def test_a_dilated_convolution_is_many_plain_ones(step: int, size: tuple[int, int]) -> None:
    conv = nn.Conv2d(16, 24, 3, padding=step, dilation=step)
    x = torch.randn(2, 16, *size)
    for layout in (torch.contiguous_format, torch.channels_last):
        given = x.contiguous(memory_format=layout)
        torch.testing.assert_close(FixedWinogradConv(conv)(given), conv(x), rtol=1e-4, atol=1e-5)


def test_the_parameters_are_the_same_under_the_same_names() -> None:
    model = convolutions().eval()
    before = dict(model.named_parameters())
    take_winograd(model, LearningWinogradConv)
    after = dict(model.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert not any(module.training for module in model.modules())


def test_a_shared_convolution_stays_shared() -> None:
    conv = nn.Conv2d(16, 16, 3, padding=1)
    model = nn.ModuleDict({"one": conv, "two": conv})
    take_winograd(model, LearningWinogradConv)
    assert isinstance(model["one"], LearningWinogradConv)
    assert model["one"] is model["two"]


def test_few_tiles_are_learnt_from_directly() -> None:
    """3 x 2 tiles of 4 x 4: the direct convolution, to the bit; 3 x 3: Winograd's."""
    conv = nn.Conv2d(16, 16, 3, padding=1)
    learning = LearningWinogradConv(conv)
    few, many = torch.randn(1, 16, 9, 8), torch.randn(1, 16, 9, 9)
    assert torch.equal(learning(few), conv(few))
    assert not torch.equal(learning(many), conv(many))
    torch.testing.assert_close(learning(many), conv(many), rtol=1e-4, atol=1e-5)
