"""Files that are whole or not there, and a state that comes back to the last bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from sightline import checkpoint
from sightline.checkpoint import (
    alone,
    differences,
    enter_folder,
    load_state,
    read_progress,
    save_state,
)
from sightline.errors import SightlineError
from sightline.optim import Ema, adamw, sgd


def net() -> nn.Module:
    """Channels-last, whose strides the optimiser's state shares; and a BatchNorm."""
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    return layers.to(memory_format=torch.channels_last)


def steps(model: nn.Module, optimizer: Optimizer, ema: Ema, numbers: range) -> None:
    for number in numbers:
        torch.manual_seed(number)
        model(torch.rand(2, 3, 8, 8)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update(model, number)


@pytest.mark.parametrize("build", [sgd, adamw])
def test_a_state_comes_back_to_the_last_bit(build: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = net()
    optimizer, ema = build(model, lr=0.01), Ema(model, 0.9)
    steps(model, optimizer, ema, range(3))
    save_state(tmp_path / "s.safetensors", model, optimizer, ema, {"step": 3, "best": 0.1})
    steps(model, optimizer, ema, range(3, 6))
    again = net()
    optimizer2, ema2 = build(again, lr=0.01), Ema(again, 0.9)
    load_state(tmp_path / "s.safetensors", again, optimizer2, ema2)
    assert read_progress(tmp_path / "s.safetensors") == {"step": 3, "best": 0.1}
    steps(again, optimizer2, ema2, range(3, 6))
    for one, other in ((model.state_dict(), again.state_dict()), (ema.values, ema2.values)):
        assert all(torch.equal(value, other[name]) for name, value in one.items())
    kept = [s for s in optimizer2.state.values() for s in s.values() if torch.is_tensor(s)]
    first = next(value for value in kept if value.ndim == 4)
    assert first.is_contiguous(memory_format=torch.channels_last)


def test_a_momentum_of_zero_has_no_buffer_and_is_no_problem(tmp_path: Path) -> None:
    model = net()
    optimizer, ema = sgd(model, lr=0.01, momentum=0.0), Ema(model, 0.9)
    steps(model, optimizer, ema, range(1))
    save_state(tmp_path / "s.safetensors", model, optimizer, None, {})
    load_state(tmp_path / "s.safetensors", model, sgd(model, lr=0.01, momentum=0.0), None)


def test_tied_weights_are_saved(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    save_state(tmp_path / "s.safetensors", model, sgd(model, lr=0.1), None, {})
    load_state(tmp_path / "s.safetensors", model, sgd(model, lr=0.1), None)


def test_a_damaged_state_is_one_line(tmp_path: Path) -> None:
    model, path = net(), tmp_path / "s.safetensors"
    save_state(path, model, sgd(model, lr=0.1), None, {"step": 1})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(SightlineError, match=r"s\.safetensors: damaged or cut short"):
        read_progress(path)


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    model, path = net(), tmp_path / "s.safetensors"
    save_state(path, model, sgd(model, lr=0.1), None, {"step": 1})
    other = nn.Linear(2, 2)
    with pytest.raises(SightlineError, match="the state of another model"):
        load_state(path, other, sgd(other, lr=0.1), None)


def test_differences_are_told_field_by_field() -> None:
    before = {"name": "a", "settings": {"lr": 1, "out": "x", "gone": None, "size": [1, 2]}}
    now = {"name": "a", "settings": {"lr": 0.5, "out": "y", "new": True, "size": [1, 3]}}
    assert differences(before, now, free=["settings.out"]) == [
        "settings.lr: 1.0 in the run, 0.5 now",
        "settings.gone: null in the run, absent now",
        "settings.size: [1, 2] in the run, [1, 3] now",
        "settings.new: absent in the run, true now",
    ]


def test_one_is_one_whole_or_not() -> None:
    assert differences({"lr": 1}, {"lr": 1.0}) == []
    assert differences({"lr": 1}, {"lr": True}) == ["lr: 1.0 in the run, true now"]


def test_another_machine_is_told(tmp_path: Path) -> None:
    run, threads = tmp_path / "run.json", torch.get_num_threads()
    made = {"recipe": {"a": 1}, "machine": {"threads": threads, "device": "AVX2"}}
    run.write_text(json.dumps(made))
    found = enter_folder(run, tmp_path / "none", {"a": 1}, {"threads": 9, "device": "AVX512"})
    assert found == ['device: "AVX2" in the run, "AVX512" now']


def test_a_broken_run_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"recipe": {')
    with pytest.raises(SightlineError, match=r"run\.json: not the description of a run"):
        enter_folder(tmp_path / "run.json", tmp_path / "none", {}, {})


def test_a_state_without_its_description_is_refused(tmp_path: Path) -> None:
    (tmp_path / "last.safetensors").touch()
    with pytest.raises(SightlineError, match=r"run\.json is missing"):
        enter_folder(tmp_path / "run.json", tmp_path / "last.safetensors", {}, {})


def test_before_the_first_checkpoint_a_recipe_may_change(tmp_path: Path) -> None:
    run, state = tmp_path / "run.json", tmp_path / "last.safetensors"
    run.write_text(json.dumps({"recipe": {"lr": 1}, "machine": {"threads": 1}}))
    assert enter_folder(run, state, {"lr": 2}, {}) == []
    state.touch()
    with pytest.raises(SightlineError, match=r"lr: 1\.0 in the run, 2\.0 now"):
        enter_folder(run, state, {"lr": 2}, {})


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(SightlineError, match="no run can be kept here"), alone(folder):
            pass


def test_the_folder_is_made_on_every_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint.os, "name", "other")
    with alone(tmp_path / "a" / "run"):
        assert (tmp_path / "a" / "run").is_dir()


def test_a_flipped_bit_of_a_state_is_one_line(tmp_path: Path) -> None:
    model, path = net(), tmp_path / "s.safetensors"
    save_state(path, model, sgd(model, lr=0.1), None, {"step": 1})
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    with pytest.raises(SightlineError, match=r"s\.safetensors: damaged"):
        read_progress(path)


@pytest.mark.parametrize("threads", [0, -1, "2", None, 10**30, 1.5, True])
def test_a_number_of_threads_that_is_none_is_one_line(threads: Any, tmp_path: Path) -> None:
    run = tmp_path / "run.json"
    run.write_text(json.dumps({"recipe": {}, "machine": {"threads": threads}}))
    with pytest.raises(SightlineError, match=r"run\.json: not the description of a run"):
        enter_folder(run, tmp_path / "none", {}, {})
