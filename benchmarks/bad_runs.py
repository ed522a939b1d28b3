"""Spoiled runs for ``benchmarks/bad_input.py``: recipes, folders of runs that are to go on, and
command lines; and all kinds of cases by name."""

import json
import random
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.bad_cases import (
    DONE,
    EXAMINED,
    RUN,
    annotations,
    as_line,
    checkpoints,
    command,
    images,
    judged,
    outcome,
    rewritten,
    run_is_whole,
    sightline,
    whole_files,
)
from benchmarks.mutations import json_mutant, mutate
from sightline import optim
from sightline.cli import main
from sightline.data.folder import open_dataset
from sightline.data.transforms import Augment
from sightline.preprocess import Preprocess
from sightline.recipes import RECIPES
from sightline.recipes import __main__ as bare
from sightline.recipes.recipe import AS_THE_RECIPE_SAYS, Recipe, Settings
from sightline.types import Classes
from tests import tiny as tiny_model


def on_squares(classes: Classes) -> tiny_model.Tiny:
    """It finds two classes, on 4 x 4 cells, whatever it is trained on."""
    model = tiny_model.build(classes)
    model.preprocess = Preprocess(fixed=(32, 32))
    return model


def tiny(data: Path | str, *, settings: Settings = AS_THE_RECIPE_SAYS) -> Recipe:
    """A run of a model of two thousand weights.

    Args:
        data: Folder of labelled pictures.
    """
    return Recipe(
        name="tiny",
        model=on_squares,
        data=partial(open_dataset, path=data),
        augment=Augment(flip=0.5),
        optimizer=partial(optim.sgd, weight_decay=1e-3),
        schedule=optim.one_cycle,
        settings=settings.otherwise(passes=2, batch=2, lr=0.05, clip=10.0, freeze=0),
    )


RECIPES["tiny"] = ("benchmarks.bad_runs:tiny", "The recipe of this campaign.")


def recipes(rng: random.Random, material: Path, folder: Path) -> str:
    """A recipe as JSON, or a run that is to go on, with changed files or other arguments."""
    if rng.random() < 0.4:
        values = json.loads((material / "run" / "run.json").read_text())["recipe"]
        mutant, what = json_mutant(values, rng)
        told = judged(command([], partial(as_line, lambda: Recipe.from_json(mutant))))
        return f"recipe, {what}: {outcome(told)}"
    out = folder / "out"
    shutil.copytree(material / "run", out)
    what = "as it was"
    if rng.random() < 0.7:
        path = rng.choice([p for p in sorted(out.iterdir()) if p.is_file() and p.stat().st_size])
        if path.suffix == ".safetensors" and rng.random() < 0.5:
            what = f"{path.name}: {rewritten(path, rng)}"
        else:
            what = f"{path.name}: {mutate(path, rng)}"
    changed: list[object] = []
    if rng.random() < 0.4:
        changed = [f"--{rng.choice(_TRAINING)}", rng.choice(VALUES)]
    data = material / "squares"
    arguments = ["train", "tiny", "--data", data, "--out", out, *RUN, *changed]
    told = sightline(*arguments)
    if told.code == 0:
        run_is_whole(out)
    return f"{what} {changed}: {outcome(told)}"


_TRAINING = (
    *("passes", "batch", "lr", "clip", "weights", "freeze", "seed", "accumulate", "ema", "device"),
    *("evaluate-every", "save-every", "log-every", "patience", "data", "out", "bf16", "workers"),
)


VALUES: tuple[object, ...] = (
    *(
        "",
        " ",
        "0",
        "1",
        "2",
        "-1",
        "0.5",
        "1.5",
        "nan",
        "inf",
        "-inf",
        "1e308",
        "1_0",
        "٣",
        "0x10",
    ),
    *("true", "None", "☃", "a\tb", "--", "-", "*", "**/*", "[", "~", ".", "/dev/null", "/proc"),
    *(
        "nowhere/at/all",
        "x" * 300,
        "x" * 5000,
        "/dev/full",
        "/sys/kernel/a.json",
        "cuda:7",
        "999999",
    ),
)
SOUND: dict[str, list[object]] = {
    "batch": [1, 3],
    "score": [0, 0.2],
    "top": [1, 5],
    "least-background": [2],
    "kind": ["voc", "coco-masks"],
    "to": ["coco", "voc", "yolo"],
    "examples": [0, 2],
    "ious": ["0.5 0.75", 0.5],
    "split": ["train", "val"],
    "device": ["cpu"],
    "val": [0.5],
    "seed": [1],
    "lr": [0.1],
    "ema": [0.9],
}
_COMPUTING = ("batch", "device", "fast", "no-fast", "bf16", "out", "coco-json", "json", "score")
_MEASURING = ("split", "val", "val-seed", "kind", "ious", "sigmas", "choose-scores", "report")
_COMMANDS: dict[str, tuple[str, ...]] = {
    "evaluate": (*_MEASURING, *_COMPUTING),
    "predict": ("per-class-score", "top", "least-background", *_COMPUTING),
    "export": ("to", "photos", "data", "val", "val-seed", "out", "int8", "bf16"),
    "toybox": ("val", "seed", "size", "things"),
    "doctor": ("fix", "examples", "json"),
    "convert": ("to", "out"),
    "demo": ("polish",),
    "train": (*_TRAINING, "config", "help", "short"),
}


def commands(rng: random.Random, material: Path, folder: Path) -> str:
    """Options of one command in any mixture, with values and files of any kind."""
    name = rng.choice(sorted(_COMMANDS))
    files: list[object] = [
        *(material / "checkpoints" / "model.safetensors", material / "images" / "rgb.jpg"),
        *(material / "squares", material / "annotations" / "coco", folder, folder / "no\u202esuch"),
    ]
    words: list[object] = [name]
    if name == "export":  # of a model that is none: to export one takes half a minute
        words += [rng.choice(files[1:])]
    elif name == "train":
        words += ["tiny", "--data", rng.choice((files[2], rng.choice(files))), *RUN]
        words += ["--out", folder / "out", "--passes", 1]
    elif name == "demo":  # into what is no folder: to do it takes minutes
        words += ["--out", rng.choice((files[1], "/dev/null", "/proc", "x" * 300))]
        words += ["--seed", rng.choice(VALUES)]
    elif name in ("doctor", "convert"):
        words += [rng.choice((files[2], files[3], rng.choice(files)))]
        words += [folder / "out" / "copy"] if name == "convert" else []
        words += ["--to", rng.choice(SOUND["to"])] if name == "convert" else []
    elif name == "toybox":
        words += [folder / "out", "--images", rng.choice((0, 1, 2, -1)), "--size", 32, 32]
    else:
        sound = files[:2] if name == "predict" else [files[0], files[3]]
        words += [rng.choice((file, file, rng.choice(files))) for file in sound]
    for _ in range(rng.randint(0, 3)):
        option = rng.choice([rng.choice(_COMMANDS[name]) for _ in range(8)] + ["polish", ""])
        values = [rng.choice(VALUES) for _ in range(rng.choice((0, 1, 1, 1, 2)))]
        if option in SOUND and rng.random() < 0.6:
            values = [*str(rng.choice(SOUND[option])).split()]
        if option in _WRITTEN and rng.random() < 0.7:
            values = [folder / "out" / rng.choice(("a.json", "b/c.json", "", "☃"))]
        words += [f"--{option}", *(v for v in values if (name, v) not in _LONG)]
    if rng.random() < 0.1:
        rng.shuffle(words)
    done = EXAMINED if name == "doctor" else DONE
    told = judged(command([], partial(_as_typed, words, name, rng)), lines=2, done=done)
    whole_files(folder)
    return f"{' '.join(map(str, words))[:300]}: {outcome(told)}"


_WRITTEN = ("out", "coco-json", "choose-scores", "report", "fix")
# What would be done as it is asked for, for hours.
_LONG = {(name, "999999") for name in ("toybox", "train", "evaluate")}


def _as_typed(words: list[object], name: str, rng: random.Random) -> int:
    """By the command line or, some of the training, by the module for bare machines."""
    arguments = [str(word) for word in words]
    if name != "train" or rng.random() < 0.7:
        return main(arguments)
    sys.argv = ["bare", *arguments[1:]]
    return bare.main()


KINDS: dict[str, Callable[[random.Random, Path, Path], str]] = {
    "annotations": annotations,
    "images": images,
    "checkpoints": checkpoints,
    "recipes": recipes,
    "commands": commands,
}
