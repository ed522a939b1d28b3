"""Groups, schedules, freezing, parts of a batch, averaged weights: each by hand."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from sightline.backbones import create_backbone
from sightline.data.loader import train_loader
from sightline.errors import SightlineError
from sightline.optim import (
    Ema,
    adamw,
    averaged,
    cosine,
    freeze,
    one_cycle,
    parts_of,
    poly,
    set_lr,
    sgd,
    stepped,
    traceless,
)
from sightline.preprocess import Preprocess
from tests.tiny import Squares, Tiny


def test_groups_say_what_is_decayed_and_how_fast_the_backbone_learns() -> None:
    """Tiny: a convolution and a BatchNorm in the backbone, a convolution with bias in the head."""
    optimizer = adamw(Tiny(), lr=0.1, weight_decay=0.05, backbone=0.5)
    found = {
        (group["base_lr"], group["weight_decay"], len(group["params"]))
        for group in optimizer.param_groups
    }
    assert found == {(0.05, 0.05, 1), (0.05, 0.0, 2), (0.1, 0.05, 1), (0.1, 0.0, 1)}


def test_norms_can_be_decayed_too() -> None:
    optimizer = sgd(Tiny(), lr=0.1, weight_decay=0.01, decay_norms=True)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.01]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 5


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(SightlineError, match="nothing is left to train"):
        sgd(Tiny().requires_grad_(False), lr=0.1)


@pytest.mark.parametrize("make", [sgd, adamw])
@pytest.mark.parametrize("name", ["weight_decay", "backbone"])
@pytest.mark.parametrize("value", [-1e-4, math.nan, math.inf])
def test_numbers_of_a_group_are_checked(
    make: Callable[..., Optimizer], name: str, value: float
) -> None:
    with pytest.raises(SightlineError, match=f"{name} must be at least 0 and finite, not {value}"):
        make(Tiny(), lr=0.1, **{name: value})


def test_set_lr_scales_every_group() -> None:
    optimizer = sgd(Tiny(), lr=0.1, backbone=0.5, decay_norms=True)
    assert set_lr(optimizer, 0.2) == pytest.approx(0.02)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.02])


def test_stepped_falls_to_a_tenth_twice() -> None:
    """Over 1200 steps: from 800 and from 1100."""
    at = partial(stepped, steps=1200, warmup=0.0)
    assert [at(s) for s in (1, 799)] == [1, 1]
    assert [at(s) for s in (800, 1099)] == pytest.approx([0.1, 0.1])
    assert [at(s) for s in (1100, 1199)] == pytest.approx([0.01, 0.01])


def test_warmup_is_linear() -> None:
    """A tenth of 100 steps: a thousandth at step 0, half way at step 5, there at step 10."""
    at = partial(stepped, steps=100, at=(), warmup=0.1)
    assert [at(0), at(5), at(10), at(99)] == pytest.approx([0.001, 0.5005, 1, 1])


def test_poly_falls_to_nothing() -> None:
    """To the power of 2: a quarter at half of the run."""
    at = partial(poly, steps=100, power=2.0, warmup=0.0)
    assert [at(step) for step in (1, 50, 100)] == pytest.approx([0.99**2, 0.25, 0])


def test_cosine_halves_at_half() -> None:
    at = partial(cosine, steps=100, warmup=0.0, final=0.2)
    assert [at(50), at(100)] == pytest.approx([0.6, 0.2])
    assert at(25) == pytest.approx(0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2)


def test_one_cycle_rises_and_falls() -> None:
    at = partial(one_cycle, steps=100, rise=0.4, start=0.1, final=0.01)
    assert [at(0), at(20), at(40), at(70), at(100)] == pytest.approx([0.1, 0.55, 1, 0.505, 0.01])


@pytest.mark.parametrize("schedule", [stepped, poly, cosine, one_cycle])
def test_schedules_serve_a_run_of_one_step(schedule: partial[float]) -> None:
    assert 0 < schedule(0, 1) <= 1


class Fine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = create_backbone("test_resnet")
        self.head = nn.Conv2d(8, 8, 1)


def test_freezing_keeps_stem_and_first_stage() -> None:
    model = Fine()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    freeze(model, 2)
    stem, first, second, *_ = model.backbone.stages()
    assert not any(p.requires_grad for stage in (stem, first) for p in stage.parameters())
    assert all(p.requires_grad for p in [*second.parameters(), *model.head.parameters()])
    optimizer = sgd(model, lr=0.1)
    model.train()
    sum(level.sum() for level in model.backbone(torch.rand(2, 3, 64, 64))).backward()
    optimizer.step()
    frozen = {id(v) for stage in (stem, first) for v in stage.state_dict(keep_vars=True).values()}
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) in frozen:
            assert torch.equal(value, before[name]), name
    moved = model.backbone.stages()[2].state_dict(keep_vars=True)
    assert all(torch.isfinite(value).all() for value in moved.values())


def test_freezing_more_than_there_is_is_refused() -> None:
    with pytest.raises(SightlineError, match="cannot freeze 9 stages: the backbone has"):
        freeze(Fine(), 9)


@pytest.mark.parametrize(("count", "sizes"), [(1, [7]), (3, [3, 2, 2]), (9, [1] * 7)])
def test_parts_of_a_batch(count: int, sizes: list[int]) -> None:
    """Together they are the batch; more parts than pictures are as many as pictures."""
    loader = train_loader(Squares(7), Preprocess(short=None), batch=7, seed=0, epoch=0)
    batch = next(iter(loader))
    parts = list(parts_of(batch, count))
    assert [len(part.targets) for part in parts] == sizes
    assert torch.equal(torch.cat([part.images.pixels for part in parts]), batch.images.pixels)
    assert [i for part in parts for i in part.indices] == batch.indices
    assert [s.seed for part in parts for s in part.targets] == [s.seed for s in batch.targets]


def test_traceless_leaves_buffers_and_generators() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout())
    generator = torch.get_rng_state()
    with traceless(model, torch.device("cpu")):
        model(torch.rand(2, 3, 4, 4))
    assert torch.equal(torch.get_rng_state(), generator)
    assert model[0].num_batches_tracked == 0
    assert torch.equal(model[0].running_mean, torch.zeros(3))


def test_ema_by_hand() -> None:
    """Weights 0, then 1, 1: decay min(0.5, 1/10) gives 0.9, min(0.5, 2/11) gives 1 - 0.1 x 2/11."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = Ema(model, decay=0.5)
    nn.init.ones_(model.weight)
    ema.update(model, 0)
    assert ema.values["weight"].item() == pytest.approx(0.9)
    ema.update(model, 1)
    assert ema.values["weight"].item() == pytest.approx(1 - 0.1 * 2 / 11)
    for step in range(100, 102):
        nn.init.zeros_(model.weight)
        ema.values["weight"].fill_(1)
        ema.update(model, step)
        assert ema.values["weight"].item() == pytest.approx(0.5)


def test_ema_takes_the_place_of_tied_weights_and_gives_it_back() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    ema = Ema(model, decay=0.5)
    own = model[0].weight.detach().clone()
    ema.values["0.weight"].fill_(3)
    ema.values["1.weight"].fill_(3)
    with averaged(model, ema):
        assert (model[1].weight == 3).all()
    with averaged(model, None):
        assert torch.equal(model[1].weight, own)
    assert torch.equal(model[0].weight, own)
    assert (ema.values["0.weight"] == 3).all()
