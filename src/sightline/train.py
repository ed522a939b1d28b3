"""Training: one loop, from the recipe to the weights.

A run lives in a folder: ``run.json`` (the recipe and the machine), ``log.jsonl``,
``last.safetensors`` (all that the next step depends on), ``best.safetensors`` (the weights of the
best validation) and, at the end, ``model.safetensors``. The same recipe with the same folder goes
on where the run was left, to the same bits: every random choice comes from (seed, epoch, index) in
the loader, from ``Scene.seed`` in a model, and from (seed, step, process) for whatever draws from
the global generators, such as dropout.
"""

import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from sightline import distributed, weights
from sightline.checkpoint import (
    alone,
    enter_folder,
    load_state,
    machine,
    read_progress,
    save_state,
    write_json,
)
from sightline.data.loader import Batch, Loader, eval_loader, train_loader, workers_explained
from sightline.data.packed import Splits, fingerprint
from sightline.errors import SightlineError
from sightline.evaluate import MAIN, kind_of
from sightline.journal import Journal, Stopped, StopRequest, command, pass_text
from sightline.layers.winograd import LearningWinogradConv, take_winograd
from sightline.memory import memory_explained
from sightline.metrics.cocoapi import api_is_there
from sightline.optim import (
    Ema,
    averaged,
    freeze,
    parts_of,
    seed_generators,
    set_lr,
    traceless,
)
from sightline.types import Loss, Scene
from sightline.validation import Sums
from sightline.weights import BEST, FINAL
from sightline.weights.native import card_json, card_of

if TYPE_CHECKING:
    from sightline.recipes.recipe import Recipe, Settings

RUN, LOG, LAST = "run.json", "log.jsonl", "last.safetensors"


@dataclass
class Progress:
    """Where a run stands, in JSON values. Saved with every checkpoint, sums and all, so that a
    resumed run also logs what an undisturbed one would have."""

    step: int = 0  # steps done
    passes: int = 0  # passes done, validation included
    recent: dict[str, float] = field(default_factory=dict)  # sums since the last line of the log
    whole: dict[str, float] = field(default_factory=dict)  # sums since the pass began
    best: float | None = None  # AP or mIoU, or minus the loss where AP cannot be measured
    best_pass: int = 0
    stale: int = 0  # validations since the best
    log: int = 0  # bytes of the log written so far
    ended: str = ""  # why the run is over
    data: str = ""  # fingerprint of what is trained and measured on


@dataclass(frozen=True)
class Run:
    """What the loop works with."""

    recipe: "Recipe"
    device: torch.device
    data: Splits
    repeats: Tensor | None  # how often each training picture comes up in a pass; None: once
    model: Any  # a module with the four methods, preprocess, needs and card
    replica: nn.Module  # the model, its gradients averaged over processes where there are several
    optimizer: Optimizer
    ema: Ema | None
    progress: Progress
    pass_steps: int
    journal: Journal

    @property
    def settings(self) -> "Settings":
        return self.recipe.settings

    @property
    def steps(self) -> int:
        return self.pass_steps * self.recipe.passes


class Result(NamedTuple):
    """What a run leaves behind."""

    folder: Path
    weights: Path  # the best by validation, or the last where there was none
    best: float | None  # AP or mIoU (minus the loss where AP cannot be measured), best pass
    passes: int  # passes made


def train(recipe: "Recipe") -> Result:
    """Make the run, or go on with it, in its folder.

    Raises:
        SightlineError: the folder holds another run; a loss is not finite; the memory is too small.
        KeyboardInterrupt: Ctrl-C or SIGTERM, after a checkpoint.
    """
    folder = recipe.folder
    with distributed.joined(recipe.settings.device) as device, StopRequest() as stop:
        first = distributed.rank() == 0
        journal = Journal(folder / LOG if first else None)
        with alone(folder) if first else nullcontext():
            what, place = recipe.to_json(), machine(device)
            for change in enter_folder(folder / RUN, folder / LAST, what, place):
                journal.say(f"the bits will not be those of an undisturbed run: {change}")
            progress = Progress()
            if (folder / LAST).exists():
                progress = Progress(**read_progress(folder / LAST))
            if progress.ended:
                journal.say(f"{folder}: this run is finished ({progress.ended})")
                return _result(folder, progress)
            run = begin(recipe, device, progress, journal)
            if first and progress.step == 0:
                write_json(folder / RUN, {"recipe": what, "machine": machine(device)})
            try:
                while not progress.ended:
                    with (
                        memory_explained(recipe.batch, run.settings.accumulate),
                        workers_explained(),
                    ):
                        train_pass(run, stop)
                        finish_pass(run, stop)
            except Stopped:
                save(run)
                journal.say(
                    f"stopped after step {progress.step} of {run.steps} and saved; the same "
                    f"command goes on from there: {command()}"
                )
                raise
            finally:
                journal.close()
    result = _result(folder, progress)
    journal.say(f"finished ({progress.ended}); weights: {result.weights}")
    return result


def begin(recipe: "Recipe", device: torch.device, progress: Progress, journal: Journal) -> Run:
    """Build all that the recipe names, after the seed is set, and bring it to where the run was.

    Raises:
        SightlineError: the model could not be built again from its card, and so not be saved.
    """
    settings, last = recipe.settings, recipe.folder / LAST
    seed_generators(settings.seed)
    if settings.deterministic and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    data = recipe.data()
    known, progress.data = progress.data, "-".join(map(fingerprint, data))
    if last.exists() and known != progress.data:
        raise SightlineError(
            f"{recipe.folder}: its pictures or labels have changed since it began: put them back "
            "as they were, or begin anew with another --out"
        )
    repeats = None if recipe.repeats is None else recipe.repeats(data.train)
    model = recipe.model(data.train.classes)
    card_json(card_of(model), recipe.folder / FINAL)  # what cannot be saved is not trained first
    if recipe.prepare is not None:
        recipe.prepare(model, data.train)
    if settings.weights is not None and not last.exists():
        journal.say(weights.transfer(model, settings.weights).table())
    freeze(model, settings.freeze or 0)
    model.to(device)
    if device.type == "cpu" and not (settings.bf16 or settings.compile):
        take_winograd(model, LearningWinogradConv)
    optimizer = recipe.optimizer(model, lr=settings.lr)
    ema = Ema(model, settings.ema) if settings.ema else None
    if last.exists():
        load_state(last, model, optimizer, ema)
        journal.say(f"{recipe.folder}: going on at step {progress.step}")
    if kind_of(model) == "coco" and not api_is_there():
        journal.say("AP is not measured (pip install hotcoco): the loss decides which pass is best")
    journal.cut(progress.log)
    journal.best = progress.best
    if settings.compile:
        model.outputs = torch.compile(model.outputs)  # type: ignore[assignment,arg-type]
    return Run(
        recipe=recipe,
        device=device,
        data=data,
        repeats=repeats,
        model=model,
        replica=distributed.wrap(model, device),
        optimizer=optimizer,
        ema=ema,
        progress=progress,
        pass_steps=len(batches(recipe, data, model, 0, 0, repeats)),
        journal=journal,
    )


def batches(
    recipe: "Recipe",
    data: Splits,
    model: Any,
    epoch: int,
    start: int,
    repeats: Tensor | None = None,
) -> Loader:
    """This process's share of every batch of a pass, after the first ``start`` batches."""
    settings, world = recipe.settings, distributed.world()
    if recipe.batch % world:
        raise SightlineError(f"a batch of {recipe.batch} cannot be shared by {world} processes")
    return train_loader(
        data.train,
        model.preprocess,
        batch=recipe.batch // world,
        seed=settings.seed,
        epoch=epoch,
        start=start,
        augment=recipe.augment,
        workers=settings.workers,
        needs=model.needs,
        rank=distributed.rank(),
        world=world,
        repeats=repeats,
    )


def train_pass(run: Run, stop: StopRequest) -> None:
    """What is left of the present pass over the training pictures."""
    settings, progress = run.settings, run.progress
    begun = progress.passes * run.pass_steps
    run.model.train()
    done = progress.step - begun
    loader = batches(run.recipe, run.data, run.model, progress.passes, done, run.repeats)
    run.journal.start_clock()
    for batch in stop.until(loader):
        # Another process may be out of the loop, its batch lost with the worker that read it: it
        # waits below, and no other message may come before this one.
        stop.check()
        seed_generators(settings.seed, progress.step, distributed.rank())
        lr = set_lr(run.optimizer, run.recipe.schedule(progress.step, run.steps))
        losses = gradients(run, batch)
        losses["norm"] = clip(run, batch)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        if run.ema is not None:
            run.ema.update(run.model, progress.step)
        progress.step += 1
        record(run, losses, lr, len(batch.targets) * distributed.world())
        within = progress.step - begun < run.pass_steps
        if settings.save_every and progress.step % settings.save_every == 0 and within:
            save(run)
    stop.check()


def gradients(run: Run, batch: Batch) -> dict[str, float]:
    """Backward through one batch, in ``accumulate`` parts; gives each loss, and their sum ``loss``.

    A loss is its total over its count, both summed over all parts and processes. The count must be
    known before the first backward pass: of a whole batch the forward pass gives it, of one in
    parts a forward pass beforehand that leaves no trace.
    """
    parts = list(parts_of(batch, run.settings.accumulate))
    # By the setting, the same for all processes, which must send buffers and counts in the same
    # order: the share of one process may be a single picture, and so a single part.
    whole = run.settings.accumulate == 1
    if whole:
        known = [forward(run, run.replica, batch)]
    else:
        with traceless(run.model, run.device), torch.no_grad():
            known = [forward(run, run.model, part) for part in parts]
    names = sorted(known[0])
    totals, counts = _summed(known, names)
    means = dict(zip(names, (totals / counts).tolist(), strict=True))
    if not all(np.isfinite(list(means.values()))):
        _refuse_loss(run, parts, known, means)
    divisors = dict(zip(names, counts.to(torch.float32), strict=True))
    for number, part in enumerate(parts, start=1):
        alone = number < len(parts)
        with distributed.unsynced(run.replica) if alone else nullcontext():
            losses = known[0] if whole else forward(run, run.replica, part)
            loss = sum(losses[name].total / divisors[name] for name in names)
            # Over processes gradients are averaged, and ours are shares of a sum.
            (loss * distributed.world()).backward()
    return {"loss": sum(means.values())} | means


def forward(run: Run, model: nn.Module, batch: Batch) -> dict[str, Loss]:
    images = batch.images.to(run.device)
    targets = [scene.to(run.device) for scene in batch.targets]
    with torch.autocast(run.device.type, torch.bfloat16, enabled=run.settings.bf16):
        losses: dict[str, Loss] = model(images, targets)
    return losses


def _summed(parts: list[dict[str, Loss]], names: list[str]) -> tuple[Tensor, Tensor]:
    """Total and count of each loss over all parts and processes; a count of zero becomes one."""
    sums = [
        torch.stack([torch.stack(part[name]).detach().double() for name in names]) for part in parts
    ]
    totals, counts = distributed.total(torch.stack(sums).sum(0)).unbind(1)
    return totals, counts.clamp(min=1)


def clip(run: Run, batch: Batch) -> float:
    """Scale the gradient down to the largest norm allowed; gives the norm it had."""
    parameters = [p for group in run.optimizer.param_groups for p in group["params"]]
    norm = clip_grad_norm_(parameters, run.settings.clip or float("inf")).item()
    if not np.isfinite(norm):
        paths = [scene.path for scene in batch.targets]
        _refuse(f"step {run.progress.step + 1}: the gradient is not finite (norm {norm})", paths)
    return norm


def _refuse_loss(
    run: Run, parts: list[Batch], losses: list[dict[str, Loss]], means: dict[str, float]
) -> None:
    pairs = zip(parts, losses, strict=True)
    paths = [path for part, terms in pairs for path in _guilty(part, terms)]
    shown = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
    _refuse(f"step {run.progress.step + 1}: the loss is not finite ({shown})", paths)


def _guilty(batch: Batch, losses: Mapping[str, Loss]) -> list[str]:
    """The pictures of a batch, if one of its losses is not finite."""
    if all(loss.total.isfinite() for loss in losses.values()):
        return []
    return [scene.path for scene in batch.targets]


def _refuse(what: str, paths: list[str]) -> None:
    everywhere = [path for process in distributed.gathered(paths) for path in process]
    raise SightlineError(
        f"{what} on {', '.join(everywhere)}; the last checkpoint is as it was. Look at these "
        "pictures and their labels, or lower --lr or set --clip, with another --out"
    )


def record(run: Run, losses: dict[str, float], lr: float, images: int) -> None:
    """Into the running sums, the log and the progress line."""
    progress, journal = run.progress, run.journal
    for sums in (progress.recent, progress.whole):
        for name, value in (losses | {"steps": 1}).items():
            sums[name] = sums.get(name, 0.0) + value
    journal.count(images)
    due = progress.step % run.settings.log_every == 0 or progress.step % run.pass_steps == 0
    if not due and not journal.live:
        return
    means = _means(progress.recent)
    line = f"pass {progress.passes + 1}  loss {means['loss']:.4f}  {journal.speed():.1f} images/s"
    journal.show(progress.step, run.steps, line)
    if due:
        where = {"pass": progress.passes + 1, "step": progress.step, "lr": lr}
        journal.write(where | means | {"images_per_second": round(journal.speed(), 2)})
        progress.recent = {}


def finish_pass(run: Run, stop: StopRequest) -> None:
    """Validate, keep the best weights, decide whether to go on, and save."""
    settings, progress = run.settings, run.progress
    number = progress.passes + 1
    values: dict[str, Any] = {"pass": number, "step": progress.step}
    values |= {"train": _means(progress.whole), "val": {}}
    if number % settings.evaluate_every == 0 or number == settings.passes:
        values["val"] = validate(run, stop)
        keep_best(run, values["val"], number)
    run.journal.write(values)
    run.journal.say(pass_text(values))
    progress.passes, progress.whole, progress.recent = number, {}, {}
    if settings.patience and progress.stale >= settings.patience:
        progress.ended = f"not better for {progress.stale} validations"
    if number == settings.passes:
        progress.ended = f"{number} passes"
    if progress.ended:
        save_weights(run, run.recipe.folder / FINAL, values)
    save(run)


def validate(run: Run, stop: StopRequest) -> dict[str, float]:
    """Loss and COCO's numbers, or those of label maps, on the validation pictures, with the weights
    that are saved: each process takes a share of the pictures. Empty where there are none.

    Raises:
        SightlineError: a loss is not finite.
    """
    data, model = run.data.val, run.model
    if len(data) == 0:
        return {}
    loader = eval_loader(
        data,
        model.preprocess,
        batch=run.recipe.batch // distributed.world(),
        workers=run.settings.workers,
        needs=model.needs,
        rank=distributed.rank(),
        world=distributed.world(),
    )
    sums = Sums(data, kind_of(model))
    guilty: list[str] = []
    model.eval()
    run.journal.show(run.progress.step, run.steps, "validating")
    with averaged(run.model, run.ema), torch.no_grad():
        distributed.same_buffers(model)
        for batch in stop.until(loader):
            losses, found = measure_batch(run, batch)
            sums.add(losses, dict(zip(batch.indices, found, strict=True)))
            if guilty := _guilty(batch, losses):
                break
    if distributed.agreed(len(guilty) > 0):
        _refuse(f"pass {run.progress.passes + 1}: the validation loss is not finite", guilty)
    stop.check()
    return sums.numbers(distributed.gathered(sums.share))


def measure_batch(run: Run, batch: Batch) -> tuple[dict[str, Loss], list[Scene]]:
    """Losses and answers from one run of the dense part, in full precision: as it is evaluated."""
    images = batch.images.to(run.device)
    targets = [scene.to(run.device) for scene in batch.targets]
    outputs = run.model.outputs(images)
    losses: dict[str, Loss] = run.model.losses(outputs, images, targets)
    selected = run.model.select(outputs, images)
    return losses, [scene.to("cpu") for scene in run.model.describe(selected, batch.placements)]


def keep_best(run: Run, numbers: Mapping[str, float], number: int) -> None:
    """Save the weights if no earlier validation was better."""
    progress = run.progress
    if not numbers:
        return
    main = numbers.get(MAIN[kind_of(run.model)], float("nan"))
    score = main if np.isfinite(main) else -numbers["loss"]
    if progress.best is not None and score <= progress.best:
        progress.stale += 1
        return
    progress.best, progress.best_pass, progress.stale = score, number, 0
    run.journal.best = progress.best
    save_weights(run, run.recipe.folder / BEST, {"pass": number, "val": numbers})


def save(run: Run) -> None:
    """The state of the run, from process 0."""
    if distributed.rank() == 0:
        run.progress.log = run.journal.length()
        path = run.recipe.folder / LAST
        save_state(path, run.model, run.optimizer, run.ema, asdict(run.progress))


def save_weights(run: Run, path: Path, numbers: Mapping[str, Any]) -> None:
    """The weights to predict with (averaged, where they are) and the history of the model."""
    if distributed.rank() != 0:
        return
    card = run.model.card
    made = {"recipe": run.recipe.to_json(), "step": run.progress.step, "numbers": dict(numbers)}
    run.model.card = replace(card, history=(*card.history, made))
    with averaged(run.model, run.ema):
        weights.save(run.model, path)
    run.model.card = card


def _means(sums: Mapping[str, float]) -> dict[str, float]:
    return {name: value / sums["steps"] for name, value in sums.items() if name != "steps"}


def _result(folder: Path, progress: Progress) -> Result:
    name = FINAL if progress.best is None else BEST
    return Result(folder, folder / name, progress.best, progress.passes)
