"""Kill a training with SIGKILL at random moments, and compare its end with an undisturbed one's:
``uv run python -m benchmarks.kill`` (about five minutes on two cores).

A Faster R-CNN with every moving part (BatchNorm, averaged weights, random sampling, augmentation in
two loader processes, checkpoints within a pass) trains on generated scenes. One kill falls into the
writing of a checkpoint and one into a validation: the folder is watched until it is so, and what
the kill left behind is looked at. Exits with 1 if a bit of the weights or a number in the log
differs.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PASSES, STEPS = 5, 8  # steps a pass
SAVE_EVERY = 2
WRITING, VALIDATION, RANDOM = "checkpoint being written", "validation", "random"


def recipe(folder: Path) -> Any:
    """40 steps of four pictures of 96 x 96 pixels."""
    from functools import partial

    from sightline import optim
    from sightline.data.toybox import toybox_splits
    from sightline.data.transforms import Augment
    from sightline.recipes.building import build
    from sightline.recipes.recipe import Recipe, Settings

    return Recipe(
        name="kill",
        model=partial(
            build,
            model="faster_rcnn",
            backbone="resnet18",
            size=(96, 96),
            samples=32,
            channels=32,
            hidden=64,
        ),
        data=partial(toybox_splits, images=4 * STEPS, val=24, size=(96, 96)),
        augment=Augment(flip=0.5, scale=(0.8, 1.25), colour=0.2),
        optimizer=optim.adamw,
        schedule=optim.one_cycle,
        settings=Settings(
            out=folder,
            passes=PASSES,
            batch=4,
            lr=1e-3,
            clip=10.0,
            ema=0.9,
            device="cpu",
            save_every=SAVE_EVERY,
            log_every=1,
        ),
    )


@dataclass(frozen=True)
class Kill:
    """One kill: what it was meant to hit, and what it left behind."""

    aim: str
    seconds: float  # since the training was seen at work
    step: int  # of the last line of the log
    torn: bool  # a half-written checkpoint lies beside the last whole one


def start(folder: Path) -> "subprocess.Popen[bytes]":
    with (folder / "output.txt").open("ab") as output:
        command = [sys.executable, "-m", "benchmarks.kill", "--child", str(folder)]
        return subprocess.Popen(command, stdout=output, stderr=output)


def records(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of the log, without what a clock measured."""
    log = folder / "log.jsonl"
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return [{k: v for k, v in json.loads(x).items() if k != "images_per_second"} for x in lines]


def state_of(folder: Path) -> tuple[int, int]:
    """Step and size of the log: what changes while a run is at work."""
    log = folder / "log.jsonl"
    return (records(folder) or [{"step": 0}])[-1]["step"], log.stat().st_size if log.exists() else 0


def is_validating(folder: Path) -> bool:
    """The last step of a pass is in the log, and its validation is not."""
    last = (records(folder) or [{}])[-1]
    return last.get("step", 1) % STEPS == 0 and "val" not in last


def torn(folder: Path) -> bool:
    beside = folder / ".last.writing.safetensors"
    return beside.exists() and beside.stat().st_size > 0


def kill_once(folder: Path, aim: str, delay: float) -> Kill | None:
    """Start the training, kill it at a moment of the kind, see what is left; None if it ended."""
    (folder / ".last.writing.safetensors").unlink(missing_ok=True)  # of an earlier kill
    before = state_of(folder)
    process = start(folder)
    while process.poll() is None and state_of(folder) == before:
        time.sleep(0.005)  # it is still importing
    seen = time.monotonic()
    while process.poll() is None:
        hit = {
            RANDOM: lambda: time.monotonic() - seen >= delay,
            WRITING: lambda: torn(folder),
            VALIDATION: lambda: is_validating(folder),
        }[aim]()
        if hit:
            if aim == VALIDATION:
                time.sleep(0.1)  # well into it
            process.send_signal(signal.SIGKILL)
            process.wait()
            return Kill(aim, time.monotonic() - seen, state_of(folder)[0], torn(folder))
        time.sleep(0.0002)
    if process.returncode != 0:
        raise SystemExit(f"the training failed: see {folder / 'output.txt'}")
    return None


def was_hit(kill: Kill, folder: Path) -> bool:
    """Whether the kill fell where it was aimed: the loop may have been quicker."""
    if kill.aim == WRITING:
        return kill.torn
    return is_validating(folder) if kill.aim == VALIDATION else True


def disturbed(folder: Path, kills: int, seconds: float, seed: int) -> list[Kill]:
    """Kill the training so many times, then let it end. ``seconds`` is how long the undisturbed one
    was at work; each stretch is a part of that, so that the run lasts for all of them."""
    generator = random.Random(seed)
    aims = [RANDOM] * kills
    aims[kills // 3], aims[2 * kills // 3] = WRITING, VALIDATION
    made: list[Kill] = []
    while len(made) < kills:
        delay = generator.uniform(0, seconds / kills)
        kill = kill_once(folder, aims[len(made)], delay)
        if kill is None:
            raise SystemExit(f"the training ended after {len(made)} kills: choose another --seed")
        if was_hit(kill, folder):
            made.append(kill)
            print(f"{len(made):4}  {kill.aim:<26}{kill.step:8}{kill.seconds:10.2f} s", flush=True)
    if start(folder).wait() != 0:
        raise SystemExit(f"the training failed: see {folder / 'output.txt'}")
    return made


def differing(one: Path, other: Path) -> list[str]:
    """The tensors and lines of the log in which two runs differ."""
    import torch
    from safetensors.torch import load_file

    wrong = []
    for name in ("model.safetensors", "best.safetensors", "last.safetensors"):
        first, second = load_file(one / name), load_file(other / name)
        same = {key for key in first if key in second and torch.equal(first[key], second[key])}
        wrong += [f"{name}: {key}" for key in sorted((first.keys() | second.keys()) - same)]
        print(f"{name}: {len(same)} of {len(first)} tensors are equal bit for bit")
    if records(one) != records(other):
        wrong.append("log.jsonl")
    print(f"log.jsonl: {len(records(one))} and {len(records(other))} lines")
    return wrong


def compare(folder: Path, kills: int, seed: int) -> list[str]:
    """What differs between an undisturbed training and one that is killed again and again."""
    calm, killed = folder / "undisturbed", folder / "killed"
    for each in (calm, killed):
        each.mkdir(parents=True)
    process = start(calm)
    while process.poll() is None and not records(calm):
        time.sleep(0.01)
    began = time.monotonic()
    if process.wait() != 0:
        raise SystemExit(f"the training failed: see {calm / 'output.txt'}")
    seconds = time.monotonic() - began
    print(f"undisturbed: {PASSES} passes of {STEPS} steps in {seconds:.1f} s after the first step")
    print("kill  during                    last step   after")
    disturbed(killed, kills, seconds, seed)
    return differing(calm, killed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help="the training itself, in this folder")
    options = parser.parse_args()
    if options.child is not None:
        from sightline.train import train

        train(recipe(options.child))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        wrong = compare(Path(folder), options.kills, options.seed)
    print("\n".join(["DIFFERENT:", *wrong]) if wrong else "the same run, to the last bit")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
