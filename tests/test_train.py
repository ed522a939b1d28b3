"""The loop: it learns, resumes to the same bits wherever it stops, and says what is wrong."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sightline import checkpoint
from sightline.data.balance import repeat_factors
from sightline.errors import SightlineError
from sightline.journal import Journal
from sightline.recipes.recipe import Recipe
from sightline.types import Classes, Images, Loss, Scene
from sightline.weights import native
from tests import tiny

loop = import_module("sightline.train")  # the attribute of that name is the function


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the package catches it."""


def kill_at(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, call: int) -> None:
    """The function's n-th call, from 1, does its work and is the last thing that happens."""
    function, calls = getattr(module, name), []

    def killed(*arguments: Any, **keywords: Any) -> Any:
        calls.append(name)
        answer = function(*arguments, **keywords)
        if len(calls) == call:
            raise Killed
        return answer

    monkeypatch.setattr(module, name, killed)


def lines(folder: Path) -> list[dict[str, Any]]:
    """The log without what a clock measured."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if k != "images_per_second"} for r in records]


def same_files(one: Path, other: Path) -> None:
    for name in ("model.safetensors", "best.safetensors", "last.safetensors"):
        first, second = load_file(one / name), load_file(other / name)
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert torch.equal(value, second[key]), f"{name}: {key}"
    assert lines(one) == lines(other)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    loop.train(tiny.recipe(folder, ema=0.9))
    return folder


def test_learns(undisturbed: Path) -> None:
    passes = [record for record in lines(undisturbed) if "val" in record]
    assert [record["pass"] for record in passes] == [1, 2, 3]
    assert passes[-1]["train"]["loss"] < 0.7 * passes[0]["train"]["loss"]
    assert passes[-1]["val"]["AP50"] > passes[0]["val"]["AP50"]


def test_logs_every_other_step(undisturbed: Path) -> None:
    """Six steps a pass (22 pictures in fours, the last ten as 3, 3, 4): a line after 2, 4 and 6."""
    steps = [record for record in lines(undisturbed) if "lr" in record]
    assert [record["step"] for record in steps] == list(range(2, 19, 2))
    assert set(steps[0]) == {"pass", "step", "lr", "loss", "object", "side", "norm"}
    first = steps[0]
    assert first["loss"] == pytest.approx(first["object"] + first["side"])


MOMENTS: dict[str, tuple[str, str, int]] = {
    "before any checkpoint": ("train", "record", 1),
    "after a step": ("train", "record", 9),
    "after the optimiser, before the count": ("train", "set_lr", 12),
    "while the first checkpoint is written": ("native", "seal", 1),
    "while a checkpoint is written": ("native", "seal", 5),
    "during validation": ("train", "measure_batch", 3),
    "after validation, before the best is saved": ("train", "validate", 2),
    "after the best is saved": ("train", "keep_best", 3),
    "after the final weights are saved": ("train", "save_weights", 3),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_goes_on_to_the_same_bits(
    moment: str, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name, call = MOMENTS[moment]
    recipe = tiny.recipe(tmp_path, ema=0.9)
    with monkeypatch.context() as patch:
        kill_at(patch, {"train": loop, "native": native}[module], name, call)
        with pytest.raises(Killed):
            loop.train(recipe)
    loop.train(recipe)
    same_files(undisturbed, tmp_path)


def test_repeated_pictures_go_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass is the longer for them, every pass alike; another share is another run."""

    def recipe(folder: str, threshold: float = 1.0) -> Recipe:
        made = tiny.recipe(tmp_path / folder, passes=2)
        return replace(made, repeats=partial(repeat_factors, threshold=threshold))

    loop.train(recipe("whole"))
    turns = round(repeat_factors(tiny.Squares(22), 1.0).sum().item())
    assert turns > 24  # more than 6 steps
    ends = [record["step"] for record in lines(tmp_path / "whole") if "val" in record]
    assert ends == [-(-turns // 4), 2 * -(-turns // 4)]
    with monkeypatch.context() as patch:
        kill_at(patch, loop, "record", 9)
        with pytest.raises(Killed):
            loop.train(recipe("killed"))
    with pytest.raises(
        SightlineError, match=r"repeats.arguments.threshold: 1.0 in the run, 0.5 now"
    ):
        loop.train(recipe("killed", threshold=0.5))
    loop.train(recipe("killed"))
    same_files(tmp_path / "whole", tmp_path / "killed")


def told(model: Any, data: Any) -> None:
    model.told = data


def test_a_recipe_may_tell_the_model_of_the_training_pictures(tmp_path: Path) -> None:
    recipe = replace(tiny.recipe(tmp_path), prepare=told)
    run = loop.begin(recipe, torch.device("cpu"), loop.Progress(), Journal(None))
    assert run.model.told == tiny.Squares(22)


def test_more_workers_change_nothing(undisturbed: Path, tmp_path: Path) -> None:
    loop.train(tiny.recipe(tmp_path, ema=0.9, workers=2))
    for name in ("model.safetensors", "best.safetensors"):
        first, second = load_file(undisturbed / name), load_file(tmp_path / name)
        assert all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(
    number: int,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = loop.record

    def signalled(run: Any, *arguments: Any) -> None:
        record(run, *arguments)
        if run.progress.step == 9:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "record", signalled)
        with pytest.raises(KeyboardInterrupt):
            loop.train(tiny.recipe(tmp_path, ema=0.9))
    assert signal.getsignal(number) is before
    assert "stopped after step 9 of 18 and saved; the same command" in capsys.readouterr().out
    assert checkpoint.read_progress(tmp_path / "last.safetensors")["step"] == 9
    loop.train(tiny.recipe(tmp_path, ema=0.9))
    same_files(undisturbed, tmp_path)


def test_finished_says_so(undisturbed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (undisturbed / "last.safetensors").stat().st_mtime_ns
    result = loop.train(tiny.recipe(undisturbed, ema=0.9))
    assert "this run is finished (3 passes)" in capsys.readouterr().out
    assert (undisturbed / "last.safetensors").stat().st_mtime_ns == before
    assert result.weights == undisturbed / "best.safetensors"
    assert result.passes == 3


def test_another_recipe_is_refused_field_by_field(undisturbed: Path) -> None:
    other = tiny.recipe(undisturbed, ema=0.9, lr=0.1, batch=2)
    with pytest.raises(SightlineError) as caught:
        loop.train(other)
    assert "settings.batch: 4.0 in the run, 2.0 now" in str(caught.value)
    assert "settings.lr: 0.05 in the run, 0.1 now" in str(caught.value)
    assert "seed" not in str(caught.value)


def test_threads_are_restored(undisturbed: Path) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        loop.train(tiny.recipe(undisturbed, ema=0.9))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(threads)


class Poisoned(tiny.Tiny):
    """Not a number for one picture, from the second pass on."""

    def losses(self, outputs: Any, images: Images, targets: list[Scene]) -> dict[str, Loss]:
        losses = super().losses(outputs, images, targets)
        self.seen = getattr(self, "seen", 0) + len(targets)
        if self.training and self.seen > 30 and any(s.path == "7.png" for s in targets):
            total, count = losses["side"]
            losses["side"] = Loss(total * float("nan"), count)
        return losses


def poisoned(classes: Classes) -> Poisoned:
    return Poisoned()


class Overgrown(tiny.Tiny):
    """Not a number for one validation picture, once the third pass is trained."""

    def losses(self, outputs: Any, images: Images, targets: list[Scene]) -> dict[str, Loss]:
        losses = super().losses(outputs, images, targets)
        self.seen = getattr(self, "seen", 0) + len(targets) * self.training
        if not self.training and self.seen == 3 * 22 and any(s.path == "4.png" for s in targets):
            total, count = losses["object"]
            losses["object"] = Loss(total / 0, count)
        return losses


def overgrown(classes: Classes) -> Overgrown:
    return Overgrown()


def test_a_validation_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    """Before anything of that pass is saved; batches of four, the second of two pictures."""
    with pytest.raises(SightlineError) as caught:
        loop.train(tiny.recipe(tmp_path, overgrown, save_every=0))
    assert str(caught.value) == (
        "pass 3: the validation loss is not finite on 4.png, 5.png; the last checkpoint is as it "
        "was. Look at these pictures and their labels, or lower --lr or set --clip, with another "
        "--out"
    )
    progress = checkpoint.read_progress(tmp_path / "last.safetensors")
    assert progress["passes"] == 2
    assert progress["best_pass"] <= 2
    assert not (tmp_path / "model.safetensors").exists()


def exploding(classes: Classes) -> tiny.Tiny:
    """Finite losses whose gradient is not: the root of zero."""
    model = tiny.Tiny()
    losses = model.losses

    def rooted(*arguments: Any) -> dict[str, Loss]:
        first = losses(*arguments)
        return first | {"side": Loss((first["side"].total * 0).sqrt(), first["side"].count)}

    model.losses = rooted  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, accumulate: int) -> None:
    recipe = tiny.recipe(tmp_path, poisoned, accumulate=accumulate, passes=9)
    with pytest.raises(SightlineError, match=r"step \d+: the loss is not finite .*side nan") as e:
        loop.train(recipe)
    assert "7.png" in str(e.value)
    assert str(e.value).endswith("with another --out")  # the same folder refuses a changed recipe
    assert str(e.value).count(".png") <= 4 // accumulate
    last = load_file(tmp_path / "last.safetensors")
    assert last
    assert all(value.isfinite().all() for value in last.values())


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=r"step 1: the gradient is not finite"):
        loop.train(tiny.recipe(tmp_path, exploding))


def without_card(classes: Classes) -> tiny.Tiny:
    model = tiny.Tiny()
    del model.card
    return model


def with_module(classes: Classes) -> tiny.Tiny:
    model = tiny.Tiny()
    model.card = replace(model.card, options={"heads": {"mask": torch.nn.Identity()}})
    return model


@pytest.mark.parametrize(
    ("model", "what"), [(without_card, "no card"), (with_module, "'heads' of tiny is no plain")]
)
def test_a_model_that_cannot_be_saved_is_not_trained(
    tmp_path: Path, model: Callable[[Classes], tiny.Tiny], what: str
) -> None:
    with pytest.raises(SightlineError, match=rf"^.*{what}.* in sightline\.models\.MODELS.*$"):
        loop.train(tiny.recipe(tmp_path, model))
    assert not (tmp_path / "run.json").exists()  # written before the first step


def hungry(classes: Classes) -> tiny.Tiny:
    model = tiny.Tiny()
    model.outputs = lambda images: torch.empty(1 << 60)  # type: ignore[assignment,method-assign]
    return model


def test_out_of_memory_says_what_to_lower(tmp_path: Path) -> None:
    with pytest.raises(
        SightlineError, match=r"out of memory with --batch 4 --accumulate 1: .*, with another --out"
    ):
        loop.train(tiny.recipe(tmp_path, hungry))


def test_fine_tuning_starts_from_weights(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says what it took from them; a run that goes on does not ask for them again."""
    source = tmp_path / "source.safetensors"
    source.write_bytes((undisturbed / "best.safetensors").read_bytes())
    run = tmp_path / "run"
    loop.train(tiny.recipe(run, lr=1e-12, passes=1, weights=str(source), ema=0.0))
    told = capsys.readouterr().out
    assert f"weights from {source}:" in told
    assert "loaded" in told
    first, given = load_file(run / "model.safetensors"), load_file(source)
    torch.testing.assert_close(first["head.weight"], given["head.weight"])
    source.unlink()
    (run / "model.safetensors").unlink()
    progress = checkpoint.read_progress(run / "last.safetensors")
    assert progress["ended"] == "1 passes"
    loop.train(tiny.recipe(run, lr=1e-12, passes=1, weights=str(source), ema=0.0))


def test_bf16_trains(undisturbed: Path, tmp_path: Path) -> None:
    """Eight bits of mantissa: the first steps' loss agrees to a few hundredths, the weights are
    kept in full precision, and so are the answers that are measured."""
    loop.train(tiny.recipe(tmp_path, ema=0.9, bf16=True))
    full, half = lines(undisturbed), lines(tmp_path)
    assert half[0]["loss"] != full[0]["loss"]
    assert half[0]["loss"] == pytest.approx(full[0]["loss"], rel=0.03)
    assert half[-1]["train"]["loss"] < 0.7 * half[3]["train"]["loss"]
    assert load_file(tmp_path / "model.safetensors")["head.weight"].dtype == torch.float32


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_the_dense_part_can_be_compiled(tmp_path: Path) -> None:
    loop.train(tiny.recipe(tmp_path / "plain", plain, passes=1))
    loop.train(tiny.recipe(tmp_path / "fast", plain, passes=1, compile=True))
    one, other = (load_file(tmp_path / each / "model.safetensors") for each in ("plain", "fast"))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=0, atol=1e-4)


def test_stops_early(tmp_path: Path) -> None:
    """With a learning rate of almost nothing, no validation is better than the first."""
    result = loop.train(tiny.recipe(tmp_path, plain, lr=1e-12, passes=9, patience=2))
    assert result.passes == 3
    assert checkpoint.read_progress(tmp_path / "last.safetensors")["best_pass"] == 1


def test_validates_every_other_pass_and_the_last(tmp_path: Path) -> None:
    loop.train(tiny.recipe(tmp_path, evaluate_every=2))
    passes = [record for record in lines(tmp_path) if "val" in record]
    assert [bool(record["val"]) for record in passes] == [False, True, True]


def test_a_validation_cut_short_by_ctrl_c_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal ended the loader's workers, and with them the loader."""
    stop, given = loop.StopRequest(), loop.eval_loader

    def ended(*values: Any, **named: Any) -> Any:
        yield next(iter(given(*values, **named)))
        stop.asked = True
        raise RuntimeError("DataLoader worker is killed by signal")

    run = loop.begin(
        tiny.recipe(tmp_path), torch.device("cpu"), loop.Progress(), loop.Journal(None)
    )
    monkeypatch.setattr(loop, "eval_loader", ended)
    with pytest.raises(loop.Stopped):
        loop.validate(run, stop)


def no_val() -> tiny.Splits:
    return tiny.squares(val=0)


def test_trains_without_validation_pictures(tmp_path: Path) -> None:
    result = loop.train(replace(tiny.recipe(tmp_path, passes=1), data=no_val))
    assert result.best is None
    assert result.weights == tmp_path / "model.safetensors"
    assert result.weights.exists()


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    """A record lock does not hold within one process, hence another."""
    code = (
        f"import fcntl, sys; file = open({str(tmp_path / '.lock')!r}, 'w')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX); print('in', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdin is not None
    assert other.stdout is not None
    assert other.stdout.readline() == b"in\n"
    with pytest.raises(SightlineError, match="another run is at work"):
        loop.train(tiny.recipe(tmp_path))
    other.stdin.close()
    other.wait()
    other.stdout.close()


def step(recipe: Recipe) -> tuple[dict[str, float], list[Tensor]]:
    """Losses and gradients of the first step, alone."""
    progress, journal = loop.Progress(), loop.Journal(None)
    run = loop.begin(recipe, torch.device("cpu"), progress, journal)
    batch = next(iter(loop.batches(recipe, run.data, run.model, epoch=0, start=0)))
    losses = loop.gradients(run, batch)
    return losses, [p.grad.clone() for p in run.model.parameters()]


def plain(classes: Classes) -> tiny.Tiny:
    """Without BatchNorm and dropout, which see a batch as it is divided."""
    return tiny.Tiny(norm=False, dropout=0)


def agree(one: Any, other: Any) -> None:
    """Within 1e-5 (the bound of the house), and not for want of a gradient."""
    assert one[0] == pytest.approx(other[0], abs=1e-5)
    for first, second in zip(one[1], other[1], strict=True):
        assert first.abs().max() > 1e-3
        torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_a_batch_in_parts_is_the_whole_batch(tmp_path: Path, parts: int) -> None:
    agree(
        step(tiny.recipe(tmp_path, plain, batch=8)),
        step(tiny.recipe(tmp_path, plain, batch=8, accumulate=parts)),
    )


def test_parts_leave_no_other_trace(tmp_path: Path) -> None:
    """BatchNorm's statistics move once for each part, as without the pass that counts."""
    recipe = tiny.recipe(tmp_path, batch=8, accumulate=2)
    run = loop.begin(recipe, torch.device("cpu"), loop.Progress(), loop.Journal(None))
    batch = next(iter(loop.batches(recipe, run.data, run.model, epoch=0, start=0)))
    run.model.train()
    loop.gradients(run, batch)
    assert run.model.backbone[1].num_batches_tracked == 2
