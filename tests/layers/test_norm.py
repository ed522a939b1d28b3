"""Frozen batch normalisation."""

import copy

import torch
from torch import nn

from sightline.layers.norm import FrozenBatchNorm, freeze_batchnorm


def random_norm(channels: int, eps: float = 1e-5) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, eps=eps)
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        tensor.uniform_(0.5, 2)
    return norm


def test_hand_numbers():
    norm = FrozenBatchNorm(1, eps=0.0)
    norm.weight.fill_(3), norm.bias.fill_(1), norm.running_mean.fill_(2), norm.running_var.fill_(4)
    x = torch.tensor([2.0, 6.0]).view(1, 1, 1, 2)
    # (2 - 2) / sqrt(4) * 3 + 1 = 1 and (6 - 2) / 2 * 3 + 1 = 7
    assert norm(x).flatten().tolist() == [1, 7]


def test_freezing_keeps_the_answers_and_the_names():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), random_norm(4, eps=0.1), nn.ReLU()).eval()
    twin, x = copy.deepcopy(model), torch.randn(2, 3, 8, 8)
    freeze_batchnorm(model)
    assert torch.equal(model(x), twin(x))
    assert sorted(model.state_dict()) == sorted(twin.state_dict())
    model.load_state_dict(twin.state_dict())
    assert torch.equal(model.train()(x), twin(x)), "train() changes nothing"
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]


def test_the_objects_themselves_freeze():
    norm = random_norm(2)
    outside = [norm]
    freeze_batchnorm(nn.ModuleList(outside))
    assert isinstance(outside[0], FrozenBatchNorm)
    freeze_batchnorm(norm)  # again: nothing to do
    x = torch.randn(1, 2, 3, 3, requires_grad=True)
    norm(x).sum().backward()
    assert x.grad is not None


def test_activation_that_timm_fuses_stays():
    from timm.layers import BatchNormAct2d

    norm = BatchNormAct2d(3).eval()
    x = torch.randn(2, 3, 4, 4)
    expected = norm(x)
    assert (expected >= 0).all()
    freeze_batchnorm(norm)
    assert torch.equal(norm(x), expected)


def test_norm_without_affine_map():
    norm = nn.BatchNorm2d(2, affine=False).eval()
    x = torch.randn(1, 2, 3, 3)
    expected = norm(x)
    freeze_batchnorm(norm)
    assert torch.equal(norm(x), expected)
