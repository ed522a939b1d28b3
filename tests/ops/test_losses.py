import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from sightline.ops.losses import (
    IGNORED,
    binary_cross_entropy_sum,
    cross_entropy_sum,
    hard_negatives,
    sigmoid_focal,
    smooth_l1,
    softmax_focal,
)


def test_smooth_l1_by_hand() -> None:
    # beta 2: at distance 1 the parabola 0.5 * 1 / 2, at distance 3 the line 3 - 0.5 * 2.
    found = smooth_l1(torch.tensor([1.0, -3.0]), torch.zeros(2), beta=2.0)
    assert found.tolist() == [0.25, 2.0]


@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0])
def test_smooth_l1_equals_torch(beta: float) -> None:
    a, b = torch.randn(50), torch.randn(50)
    torch.testing.assert_close(
        smooth_l1(a, b, beta), F.smooth_l1_loss(a, b, reduction="none", beta=beta)
    )


def test_smooth_l1_gradient() -> None:
    a = torch.randn(10, dtype=torch.float64, requires_grad=True)
    b = torch.randn(10, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: smooth_l1(x, b, 0.3), (a,))


def test_cross_entropy_leaves_out_the_ignored() -> None:
    # Equal logits over 4 classes cost log 4 each.
    logits = torch.zeros(3, 4, requires_grad=True)
    total, count = cross_entropy_sum(logits, torch.tensor([0, IGNORED, 3]))
    total.backward()
    assert total.item() == pytest.approx(2 * math.log(4))
    assert count == 2
    assert (logits.grad[1] == 0).all()


def test_weights_of_classes_change_the_sum_and_not_the_number() -> None:
    """Equal logits over 4 classes cost log 4 each, here 2.5 and 1 times."""
    labels, weights = torch.tensor([0, IGNORED, 3]), torch.tensor([2.5, 1, 1, 1])
    for kind in (torch.float32, torch.bfloat16):
        total, count = cross_entropy_sum(torch.zeros(3, 4, dtype=kind), labels, weights)
        assert total.item() == pytest.approx(3.5 * math.log(4), rel=1e-2)
        assert count == 2
    logits = torch.randn(3, 4)
    plain = cross_entropy_sum(logits, labels)
    ones = cross_entropy_sum(logits, labels, torch.ones(4))
    torch.testing.assert_close(plain, ones)


def test_binary_cross_entropy_leaves_out_the_ignored() -> None:
    logits = torch.zeros(3, requires_grad=True)
    total, count = binary_cross_entropy_sum(logits, torch.tensor([0, 1, IGNORED]))
    total.backward()
    assert total.item() == pytest.approx(2 * math.log(2))
    assert count == 2
    assert logits.grad.tolist() == [0.5, -0.5, 0.0]


def test_nothing_costs_nothing() -> None:
    logits = torch.zeros(0, 4, requires_grad=True)
    total, count = cross_entropy_sum(logits, torch.zeros(0, dtype=torch.long))
    total.backward()
    assert (total.item(), count.item()) == (0, 0)
    assert logits.grad.shape == (0, 4)


def test_counts_are_exact_whatever_the_logits_are() -> None:
    labels = torch.ones(257, dtype=torch.long)  # bfloat16 would make it 256
    assert cross_entropy_sum(torch.zeros(257, 2, dtype=torch.bfloat16), labels)[1] == 257
    assert binary_cross_entropy_sum(torch.zeros(257, dtype=torch.bfloat16), labels)[1] == 257


def test_sigmoid_focal_by_hand() -> None:
    """A logit of log 3 is a probability of 3/4. Right, for a 1: (1/4)^2 x -log 3/4, times 0.25.
    Wrong, for a 0: (3/4)^2 x -log 1/4, times 0.75."""
    logits = torch.full((2,), math.log(3))
    found = sigmoid_focal(logits, torch.tensor([1, 0]), alpha=0.25, gamma=2.0)
    expected = [0.25 * (1 / 16) * math.log(4 / 3), 0.75 * (9 / 16) * math.log(4)]
    assert found.tolist() == pytest.approx(expected)


def test_softmax_focal_by_hand() -> None:
    """Logits log 6, log 1, log 1: probabilities 3/4, 1/8, 1/8; gamma 2 weighs the first by 1/16
    where it is right, the second by (7/8)^2."""
    logits = torch.tensor([[6.0, 1, 1]]).log().repeat(2, 1)
    found = softmax_focal(logits, torch.tensor([0, 1]), gamma=2.0)
    expected = [math.log(4 / 3) / 16, math.log(8) * 49 / 64]
    assert found.tolist() == pytest.approx(expected)


def test_focal_with_gamma_0_is_cross_entropy() -> None:
    logits, hot = torch.randn(20, 5), torch.randint(0, 2, (20, 5))
    torch.testing.assert_close(
        sigmoid_focal(logits, hot, alpha=None, gamma=0),
        F.binary_cross_entropy_with_logits(logits, hot.float(), reduction="none"),
    )
    labels = torch.randint(0, 5, (20,))
    torch.testing.assert_close(
        softmax_focal(logits, labels, gamma=0), F.cross_entropy(logits, labels, reduction="none")
    )


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("alpha", [0.25, 0.5])
def test_sigmoid_focal_equals_torchvision(alpha: float, gamma: float) -> None:
    """Values and gradients, also far out, where a probability is 0 or 1 to the last digit."""
    logits = torch.cat([torch.randn(200), torch.tensor([-60.0, 60.0])]).requires_grad_()
    hot = torch.cat([torch.randint(0, 2, (200,)), torch.tensor([1, 0])])
    ours = sigmoid_focal(logits, hot, alpha, gamma)
    theirs = sigmoid_focal_loss(logits, hot.float(), alpha, gamma)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(loss.sum(), logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_two_classes_of_a_softmax_are_one_sigmoid() -> None:
    """Their logits' difference is the sigmoid's logit."""
    logits, labels = torch.randn(30, 2), torch.randint(0, 2, (30,))
    torch.testing.assert_close(
        softmax_focal(logits, labels), sigmoid_focal(logits[:, 1] - logits[:, 0], labels, None)
    )


@pytest.mark.parametrize("loss", [sigmoid_focal, softmax_focal])
def test_focal_under_autocast_is_summed_in_single_precision(loss: Any) -> None:
    """A thousand logits of 0 in bfloat16, which has 8 bits: their sum must keep its digits."""
    logits = torch.zeros(1001, 1 if loss is sigmoid_focal else 2, dtype=torch.bfloat16)
    labels = torch.ones_like(logits) if loss is sigmoid_focal else torch.ones(1001).long()
    with torch.autocast("cpu", torch.bfloat16):
        total = loss(logits, labels).sum()
    assert total.dtype == torch.float32
    alpha = 0.25 if loss is sigmoid_focal else 1
    assert total.item() == pytest.approx(1001 * math.log(2) / 4 * alpha, rel=1e-5)


def test_focal_gradients() -> None:
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    hot, labels = torch.randint(0, 2, (6, 3)), torch.randint(0, 3, (6,))
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal(x, hot), (logits,))
    assert torch.autograd.gradcheck(lambda x: softmax_focal(x, labels), (logits,))


def test_focal_of_nothing() -> None:
    logits = torch.zeros(0, 4, requires_grad=True)
    total = sigmoid_focal(logits, torch.zeros(0, 4)).sum()
    total = total + softmax_focal(logits, torch.zeros(0, dtype=torch.long)).sum()
    total.backward()
    assert total == 0
    assert logits.grad.shape == (0, 4)


def test_hard_negatives_by_hand() -> None:
    """The two worst of three negatives, whatever the others cost; all where fewer are there."""
    losses = torch.tensor([[5.0, 1, 9, 3], [1, 2, 3, 4]])
    negative = torch.tensor([[True, True, False, True], [True, False, False, False]])
    found = hard_negatives(losses, negative, torch.tensor([2, 3]))
    assert found.tolist() == [[True, False, False, True], [True, False, False, False]]
    assert not hard_negatives(losses, negative, torch.tensor([0, 0])).any()
    nothing = hard_negatives(losses[:, :0], negative[:, :0], torch.tensor([1, 1]))
    assert nothing.shape == (2, 0)


def naive_hard_negatives(losses: Tensor, negative: Tensor, counts: Tensor) -> Tensor:
    found = torch.zeros_like(negative)
    for picture, count in enumerate(counts.tolist()):
        places = [i for i in range(losses.shape[1]) if negative[picture, i]]
        worst = sorted(places, key=lambda i: (-float(losses[picture, i]), i))
        found[picture, worst[:count]] = True
    return found


def test_hard_negatives_equal_a_loop() -> None:
    for _ in range(20):
        losses = torch.randint(0, 6, (4, 30)).float()  # many are equal
        negative, counts = torch.rand(4, 30) < 0.6, torch.randint(0, 25, (4,))
        expected = naive_hard_negatives(losses, negative, counts)
        assert hard_negatives(losses, negative, counts).equal(expected)
