"""Two libraries trained from scratch on the same folder by the same loop: what ``detectors`` and
``segmenters`` share.

Both see the same batches in the same order, and are measured on the folder's val split by the same
evaluator. A row is written to ``--out`` when it is done, and not made again.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import sightline.models
from sightline.data.folder import open_dataset
from sightline.data.loader import eval_loader, train_loader
from sightline.data.packed import Dataset
from sightline.data.transforms import Augment
from sightline.metrics.evaluation import Evaluation
from sightline.optim import adamw, one_cycle, set_lr, sgd
from sightline.preprocess import Preprocess
from sightline.types import Classes, Scene

BATCH = 8
FLIPS = Augment(flip=0.5)

Measure = Callable[[Sequence[Scene], Sequence[Scene], Classes], Evaluation]


@dataclass(frozen=True)
class Family:
    """One model in both libraries: ours by name and options, the other's as a module with the
    methods of ours."""

    name: str  # in sightline.models.MODELS
    options: Mapping[str, Any]
    theirs: Callable[[Classes], nn.Module]
    preprocess: Preprocess
    augment: Augment = FLIPS
    lr: float = 0.02  # where the schedule is at its height
    optimizer: Literal["sgd", "adamw"] = "sgd"
    needs: frozenset[str] = frozenset()  # of a scene, besides its things

    def build(self, by: str, classes: Classes) -> Any:
        model: Any
        if by == "ours":
            model = sightline.models.create(self.name, classes, **self.options)
        else:
            model = self.theirs(classes)
        model.preprocess = self.preprocess
        return model


def fit(model: Any, family: Family, dataset: Dataset, passes: int, seed: int, workers: int) -> None:
    """The same loop for both: see the module's docstring."""
    loader = partial(
        train_loader,
        dataset,
        model.preprocess,
        batch=BATCH,
        seed=seed,
        augment=family.augment,
        needs=family.needs,
    )
    make = sgd if family.optimizer == "sgd" else adamw
    optimizer = make(model, family.lr)
    steps = len(loader(epoch=0)) * passes
    step = 0
    for epoch in range(passes):
        model.train()
        for batch in loader(epoch=epoch, workers=workers):
            torch.manual_seed(seed * 1_000_003 + step)
            set_lr(optimizer, one_cycle(step, steps))
            losses = model(batch.images, batch.targets)
            total = sum(loss.mean() for loss in losses.values())
            optimizer.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            step += 1
        print(f"  pass {epoch + 1}/{passes}: loss {total.item():.3f}", flush=True)


@torch.no_grad()
def answers(model: Any, dataset: Dataset, workers: int) -> tuple[list[Scene], list[Scene]]:
    """Truths and answers of a whole data set."""
    model.eval()
    truths, answered = [], []
    for batch in eval_loader(dataset, model.preprocess, batch=BATCH, workers=workers):
        answered += model.describe(model(batch.images), batch.placements)
        truths += [dataset.scene(index) for index in batch.indices]
    pairs = zip(answered, truths, strict=True)
    return truths, [replace(a, image_id=t.image_id, path=t.path) for a, t in pairs]


def row(
    key: dict[str, Any], family: Family, measure: Measure, data: Path, workers: int
) -> dict[str, Any]:
    splits = open_dataset(data)
    torch.manual_seed(key["seed"])
    model = family.build(key["by"], splits.train.classes)
    began = time.monotonic()
    fit(model, family, splits.train, key["passes"], key["seed"], workers)
    minutes = (time.monotonic() - began) / 60
    measured = measure(*answers(model, splits.val, workers), splits.val.classes)
    return key | {"minutes": round(minutes, 1), "numbers": measured.to_json()["overall"]}


def compare(
    description: str,
    families: Mapping[str, Family],
    measure: Measure,
    shown: Sequence[str],
    passes: int,
    out: Path,
) -> None:
    """The command line of such a benchmark; ``shown`` are the numbers whose means are printed."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", type=Path)
    parser.add_argument("families", nargs="+", choices=list(families))
    parser.add_argument("--by", nargs="+", default=["ours", "theirs"], choices=["ours", "theirs"])
    parser.add_argument("--passes", type=int, default=passes)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=out)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    done = [json.loads(line) for line in lines]
    rows = []
    for seed, name, by in product(options.seeds, options.families, options.by):
        key = {"family": name, "by": by, "data": options.data.name}
        key |= {"passes": options.passes, "seed": seed}
        made = next((r for r in done if r.items() >= key.items()), None)
        if made is None:
            print(f"{name}, {by}, seed {seed}", flush=True)
            made = row(key, families[name], measure, options.data, options.workers)
            with options.out.open("a") as file:
                file.write(json.dumps(made) + "\n")
        rounded = {number: round(made["numbers"][number], 4) for number in shown}
        print(key | rounded | {"minutes": made["minutes"]}, flush=True)
        rows.append(made)
    for name, by in product(options.families, options.by):
        mine = [r["numbers"] for r in rows if (r["family"], r["by"]) == (name, by)]
        means = (f"{n} {sum(numbers[n] for numbers in mine) / len(mine):.4f}" for n in shown)
        print(f"{name}, {by}: mean {', '.join(means)} over {len(mine)} seeds")
