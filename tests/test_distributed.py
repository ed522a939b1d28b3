"""A single process needs nothing special; two make the run of one, and stop together."""

import math
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sightline import checkpoint, distributed
from sightline.data.loader import Batch, Loader
from sightline.errors import SightlineError
from sightline.layers.norm import freeze_batchnorm
from sightline.types import Classes, Images, Loss, Scene
from tests import tiny
from tests.test_train import agree, lines, loop, plain, step


def test_one_process_is_the_whole_world() -> None:
    model, values = tiny.Tiny(), torch.tensor([1.0, 2.0])
    with distributed.joined("cpu") as device:
        assert device == torch.device("cpu")
        assert (distributed.rank(), distributed.world()) == (0, 1)
        assert distributed.wrap(model, device) is model
        assert torch.equal(distributed.total(values), values)
        assert distributed.gathered("a") == ["a"]
        assert distributed.agreed(True)
        assert not distributed.agreed(False)
        with distributed.unsynced(model):
            distributed.same_buffers(model)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line() -> None:
    with pytest.raises(SightlineError, match="device cuda: process 0 finds 0 GPUs"):
        distributed.pick_device("cuda")
    assert distributed.pick_device("auto") == torch.device("cpu")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def in_two(work: Callable[[int], Any], port: int, second: int = 0) -> None:
    """Run it in two processes that know one another, forked, so that nothing is imported a second
    time. One that waits for the other for ever is a failure, and so is an exit code of the first
    that is not 0, or of the second that is not as given."""
    fork = multiprocessing.get_context("fork")
    started = [fork.Process(target=_joined, args=(work, rank, port)) for rank in range(2)]
    for process in started:
        process.start()
    limit = time.monotonic() + 60
    for process in started:
        process.join(timeout=max(0, limit - time.monotonic()))
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    assert codes == [0, second]


def _joined(work: Callable[[int], Any], rank: int, port: int) -> None:
    torch.set_num_threads(1)  # a forked process cannot use its parent's
    sys.modules["hotcoco"] = None  # type: ignore[assignment]  # its threads were not forked
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(place, WORLD_SIZE="2", RANK=str(rank))
    work(rank)


forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@forks
def test_two_processes_are_one(tmp_path: Path, free_port: int) -> None:
    """Half the batch each, whole or in two parts."""

    def work(rank: int) -> None:
        with distributed.joined("cpu"):
            for parts in (1, 2):
                found = step(tiny.recipe(tmp_path, plain, batch=8, accumulate=parts))
                torch.save(found, tmp_path / f"{rank}-{parts}.pt")

    in_two(work, free_port)
    alone = step(tiny.recipe(tmp_path, plain, batch=8))
    for name in ("0-1.pt", "1-1.pt", "0-2.pt", "1-2.pt"):
        agree(alone, torch.load(tmp_path / name, weights_only=True))


def frozen(classes: Classes) -> tiny.Tiny:
    """With buffers, which processes share, and yet blind to how a batch is divided."""
    model = tiny.Tiny(dropout=0)
    freeze_batchnorm(model)
    return model


@forks
@pytest.mark.parametrize(("model", "parts"), [(plain, 1), (frozen, 2)])
def test_a_run_of_two_processes_is_a_run_of_one(
    tmp_path: Path, free_port: int, model: Callable[[Classes], tiny.Tiny], parts: int
) -> None:
    """The whole loop: one log, one set of files, the numbers of one process. Of the last six
    pictures of a pass one process has batches of one, which make one part where the other's make
    two."""
    shared = tiny.recipe(tmp_path / "two", model, ema=0.9, accumulate=parts)
    in_two(lambda rank: loop.train(shared), free_port)
    loop.train(tiny.recipe(tmp_path / "one", model, ema=0.9))
    one, two = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert len(one) == len(two)
    for first, second in zip(one, two, strict=True):
        assert first["loss" if "lr" in first else "train"] == pytest.approx(
            second["loss" if "lr" in second else "train"], abs=1e-4
        )
    for first, second in zip(one, two, strict=True):
        assert first.get("val") == pytest.approx(second.get("val"), abs=1e-3, nan_ok=True)
    first = load_file(tmp_path / "one" / "model.safetensors")
    second = load_file(tmp_path / "two" / "model.safetensors")
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=1e-4)


@forks
@pytest.mark.parametrize(("name", "steps"), [("train_loader", 1), ("eval_loader", 6)])
@pytest.mark.parametrize("asked", [0, 1])
def test_a_signal_to_one_process_stops_both(
    tmp_path: Path, free_port: int, name: str, steps: int, asked: int
) -> None:
    """It takes the workers along: one process is without its second batch, while the other has its
    own and knows of nothing."""
    recipe, given = tiny.recipe(tmp_path), getattr(loop, name)

    class Ended(Loader):
        def __iter__(self) -> Iterator[Batch]:
            yield next(super().__iter__())
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("DataLoader worker is killed by signal")

    def ended(*values: Any, **named: Any) -> Loader:
        loader = given(*values, **named)
        loader.__class__ = Ended
        return loader

    def work(rank: int) -> None:
        if rank == asked:
            setattr(loop, name, ended)  # of this process alone
        with pytest.raises(KeyboardInterrupt):
            loop.train(recipe)

    in_two(work, free_port)
    progress = checkpoint.read_progress(tmp_path / "last.safetensors")
    assert (progress["step"], progress["passes"]) == (steps, 0)


class Overgrown(tiny.Tiny):
    """Not a number for one validation picture."""

    def losses(self, outputs: Any, images: Images, targets: list[Scene]) -> dict[str, Loss]:
        losses = super().losses(outputs, images, targets)
        if not self.training and any(scene.path == "4.png" for scene in targets):
            losses["side"] = Loss(losses["side"].total * math.nan, losses["side"].count)
        return losses


def overgrown(classes: Classes) -> Overgrown:
    return Overgrown()


@forks
def test_a_validation_loss_that_is_not_finite_stops_both(tmp_path: Path, free_port: int) -> None:
    """Pictures 0, 2 and 4 are one process's, in batches of two and one."""

    def work(rank: int) -> None:
        with pytest.raises(SightlineError, match=r"pass 1: the validation loss .* on 4.png;"):
            loop.train(tiny.recipe(tmp_path, overgrown))

    in_two(work, free_port)


@forks
@pytest.mark.parametrize("moment", ["gradients", "clip", "validate", "measure_batch", "keep_best"])
def test_a_killed_process_ends_the_other_with_one_line(
    tmp_path: Path, free_port: int, moment: str
) -> None:
    """As the system kills where the memory is full: without a word to the other, which ends within
    the minute that both are given."""
    given = getattr(loop, moment)

    def killed(*values: Any, **named: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    def work(rank: int) -> None:
        setattr(loop, moment, killed if rank == 1 else given)
        with pytest.raises(SightlineError, match="another process of this run has ended"):
            loop.train(tiny.recipe(tmp_path))

    in_two(work, free_port, second=-signal.SIGKILL)


KILLED = """
import os, signal, sys, time
from importlib import import_module
from pathlib import Path
from sightline.errors import as_command
from tests import tiny

folder, loop = Path(sys.argv[1]), import_module("sightline.train")

def killed(*values):
    (folder / "killed").write_text(str(time.time()))
    os.kill(os.getpid(), signal.SIGKILL)

def work():
    loop.train(tiny.recipe(folder))
    return 0

if os.environ["RANK"] == "1":
    loop.clip = killed
code = as_command(work)
print("exit code", code, file=sys.stderr)
sys.exit(code)
"""


@forks
@pytest.mark.slow
def test_under_torchrun_a_killed_process_ends_the_other_within_a_minute(tmp_path: Path) -> None:
    """Torchrun asks the other to stop by SIGTERM, while it waits for the one that is no more."""
    (tmp_path / "run.py").write_text(KILLED)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node", "2", str(tmp_path / "run.py"), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert time.time() - float((tmp_path / "killed").read_text()) < 60
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if "error: " in line and "rank" not in line]
    assert [line for line in told if "another process of this run has ended" in line] == told
    assert len(told) == 1
    assert "exit code 2" in done.stderr
