"""What ends badly from outside: a full disk, a worker or a process killed, data that change. One
line each, within seconds, and the last checkpoint as it was."""

import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline import checkpoint
from sightline.data.coco import write_coco
from sightline.data.folder import open_dataset
from sightline.errors import SightlineError
from sightline.journal import Journal
from sightline.recipes.recipe import Recipe
from tests import tiny

loop = import_module("sightline.train")  # the attribute of that name is the function


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Within, a file that grows beyond ``size`` bytes meets the error of a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = loop.record

    def filled(run: Any, *arguments: Any) -> None:
        record(run, *arguments)
        if run.progress.step == 3:
            soft = (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
            resource.setrlimit(resource.RLIMIT_FSIZE, soft)

    with monkeypatch.context() as patch, disk_of(1 << 30):
        patch.setattr(loop, "record", filled)
        with pytest.raises(SightlineError, match=r"last\.safetensors: cannot be written"):
            loop.train(tiny.recipe(tmp_path))
    assert checkpoint.read_progress(tmp_path / "last.safetensors")["step"] == 2
    assert not list(tmp_path.glob(".*writing*"))
    assert loop.train(tiny.recipe(tmp_path)).passes == 3


def test_a_log_on_a_full_disk_is_one_line(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.symlink_to("/dev/full")
    with pytest.raises(SightlineError, match=r"log\.jsonl: cannot be written \(No space left"):
        Journal(log).write({"step": 1})


@pytest.mark.parametrize("place", ["/proc/run", "/sys/run", "file/run"])
def test_a_folder_that_cannot_be_written_is_one_line(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(SightlineError, match=f"{place}: no run can be kept here"):
        loop.train(tiny.recipe(Path(place)))


def on_folder(out: Path, data: Path, **settings: Any) -> Recipe:
    return replace(tiny.recipe(out, **settings), data=partial(open_dataset, path=data))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    splits = tiny.squares(train=8, val=2)
    write_coco(splits.train, tmp_path / "data", "train")
    write_coco(splits.val, tmp_path / "data", "val")
    return tmp_path / "data"


def gone(path: Path) -> None:
    path.unlink()


def resized(path: Path) -> None:
    Image.new("RGB", (40, 32)).save(path)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    ("change", "told"),
    [(gone, "No such file"), (resized, "is 40x32, its annotation says 32x32"), (cut_short, "as a")],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_changes_during_training_is_one_line(
    change: Any,
    told: str,
    workers: int,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finish = loop.finish_pass

    def finished(run: Any, stop: Any) -> None:
        finish(run, stop)
        change(data / "train" / "000003.png")

    monkeypatch.setattr(loop, "finish_pass", finished)
    with pytest.raises(SightlineError, match=rf"000003\.png.*{told}"):
        loop.train(on_folder(tmp_path / "run", data, workers=workers))
    assert checkpoint.read_progress(tmp_path / "run" / "last.safetensors")["passes"] == 1


def test_labels_that_change_between_two_starts_are_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(run: Any, *arguments: Any) -> None:
        raise loop.Stopped

    recipe = on_folder(tmp_path / "run", data)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "finish_pass", stopped)
        with pytest.raises(KeyboardInterrupt):
            loop.train(recipe)
    file = data / "annotations" / "instances_train.json"
    labels = file.read_text()
    file.write_text(labels.replace('"category_id": 1', '"category_id": 0', 1))
    with pytest.raises(SightlineError, match="its pictures or labels have changed"):
        loop.train(recipe)
    file.write_text(labels)
    assert loop.train(recipe).passes == 3


def test_a_killed_worker_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = loop.record

    def killing(run: Any, *arguments: Any) -> None:
        record(run, *arguments)
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        time.sleep(0.5)

    monkeypatch.setattr(loop, "record", killing)
    began = time.monotonic()
    with pytest.raises(SightlineError, match="a process that reads pictures was ended"):
        loop.train(tiny.recipe(tmp_path, workers=1, save_every=0))
    assert time.monotonic() - began < 30
