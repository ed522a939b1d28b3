"""What every model, data set and metric must do, as functions that assert. What every backbone must
do is in ``tests/backbones``.

A model, as a ``Case``, is tried on pictures of two sizes with coloured rectangles in them: small
enough to be learnt by heart in seconds, so that the contracts also hold for a model that answers
something.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import sightline.models
from benchmarks.near_ties import answer_ties
from sightline import weights
from sightline.agreement import agree
from sightline.data.packed import Dataset
from sightline.export import to_graph, write_onnx
from sightline.fuse import fuse
from sightline.metrics.detection import coco_numbers
from sightline.metrics.evaluation import Evaluation
from sightline.metrics.semantic import semantic_numbers
from sightline.ops import boxes as box_ops
from sightline.ops.suppress import Detections, Selection
from sightline.runtime import Exported, Header, form_of_answers
from sightline.types import Classes, Images, Instances, Loss, Placement, Scene

COLOURS = ((230, 40, 40), (40, 200, 60), (60, 80, 240))
CLASSES = Classes(("red", "green", "blue"), stuff=("ground",))


def unchanged(images: Images, targets: Sequence[Scene]) -> Images:
    return images


@dataclass(frozen=True)
class Case:
    """A model and how it is brought to answer.

    ``bring`` adds what comes from outside to a batch (proposals, say). ``right`` asserts that
    answers are what the pictures show, after ``steps`` steps of AdamW at ``lr``.
    """

    name: str  # in MODELS
    right: Callable[[list[Scene], list[Scene]], None]
    options: dict[str, Any] = field(default_factory=dict)
    bring: Callable[[Images, Sequence[Scene]], Images] = unchanged
    steps: int = 80
    lr: float = 1e-3

    def build(self) -> Any:
        torch.manual_seed(0)
        return sightline.models.create(self.name, CLASSES, **self.options)

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])


class Batch(NamedTuple):
    images: Images
    targets: list[Scene]
    placements: list[Placement]


def pictures() -> tuple[list[Tensor], list[Scene]]:
    """Two pictures, one broad and one high, with three and two rectangles."""
    found = [
        ((96, 128), [[8, 10, 48, 50], [60, 20, 120, 60], [30, 56, 80, 92]], [0, 1, 2]),
        ((128, 96), [[10, 12, 60, 58], [32, 70, 84, 120]], [2, 0]),
    ]
    drawn, scenes = [], []
    for (height, width), boxes, labels in found:
        picture = torch.full((3, height, width), 128, dtype=torch.uint8)
        semantic = torch.full((height, width), 3)
        for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
            picture[:, y1:y2, x1:x2] = torch.tensor(COLOURS[label], dtype=torch.uint8)[
                :, None, None
            ]
            semantic[y1:y2, x1:x2] = label
        things = Instances(torch.tensor(boxes).float(), torch.tensor(labels))
        things.extra = {
            "words": torch.tensor(labels)[:, None] + torch.arange(3),
            "number": things.boxes[:, 2:3] - things.boxes[:, :1],
        }
        drawn.append(picture)
        scenes.append(Scene((height, width), things, semantic=semantic, seed=height))
    return drawn, scenes


def batch_of(case: Case, model: Any, drawn: list[Tensor], scenes: list[Scene]) -> Batch:
    images, placements = model.preprocess(drawn)
    canvas = tuple(images.pixels.shape[-2:])
    targets = [p.scene(s, canvas) for p, s in zip(placements, scenes, strict=True)]
    return Batch(case.bring(images, targets), targets, placements)


_TRAINED: dict[str, Any] = {}


def trained(case: Case) -> Any:
    """The model after it has learnt the two pictures by heart; made once. Do not change it."""
    if str(case) not in _TRAINED:
        _TRAINED[str(case)] = fit(case)
    return _TRAINED[str(case)]


def fit(case: Case) -> Any:
    model = case.build().train()
    batch = batch_of(case, model, *pictures())
    optimizer = torch.optim.AdamW(model.parameters(), case.lr)
    for step in range(case.steps):
        for group in optimizer.param_groups:
            group["lr"] = case.lr * min(1.0, (step + 1) / 10, 2 * (1 - step / case.steps))
        torch.manual_seed(step)
        targets = [replace(scene, seed=step) for scene in batch.targets]
        optimizer.zero_grad()
        total(model(batch.images, targets)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
    return model.eval()


def total(losses: dict[str, Loss]) -> Tensor:
    return sum((loss.mean() for loss in losses.values()), torch.zeros(()))


def assert_every_parameter_learns(case: Case) -> None:
    """Finite losses, and a gradient for every parameter: with things, without, with crowds
    alone."""
    drawn, scenes = pictures()
    without = [replace(scene, things=scene.things[:0]) for scene in scenes]
    crowds = [replace(scene, things=_ignored(scene.things)) for scene in scenes]
    model = case.build().train()
    for given in (scenes, without, crowds):
        batch = batch_of(case, model, drawn, given)
        assert_gradients(model, batch.images, batch.targets)


def assert_learns_without_regions(case: Case) -> None:
    """As above where the proposals from outside, which the model must take, are all empty slots."""
    model = case.build().train()
    batch = batch_of(case, model, *pictures())
    assert batch.images.regions is not None
    empty = batch.images._replace(regions=torch.zeros_like(batch.images.regions))
    without = [replace(scene, things=scene.things[:0]) for scene in batch.targets]
    assert_gradients(model, empty, without)


def assert_gradients(model: Any, images: Images, targets: list[Scene]) -> None:
    model.zero_grad()
    losses = model(images, targets)
    assert losses
    for name, loss in losses.items():
        assert loss.total.isfinite(), name
        assert loss.count >= 0, name
    total(losses).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def _ignored(things: Instances) -> Instances:
    return replace(things, ignore=torch.ones_like(things.ignore))


def assert_ignore_regions_teach_nothing(case: Case) -> None:
    """What an ignored thing is said to be is without effect on losses and gradients, and a picture
    that is nothing but one ignore region (and unlabelled) has no loss."""
    drawn, scenes = pictures()
    model = case.build().eval()
    things = scenes[0].things
    crowd = replace(things, ignore=torch.tensor([False, True, False]))
    other = replace(crowd, labels=torch.tensor([0, 2, 2]))
    other.extra = {
        name: torch.stack([column[0], column[2], column[2]])
        for name, column in crowd.extra.items()
        if isinstance(column, Tensor)
    }
    results = []
    for given in (crowd, other):
        batch = batch_of(case, model, drawn[:1], [replace(scenes[0], things=given)])
        model.zero_grad()
        losses = model(batch.images, batch.targets)
        total(losses).backward()
        results.append((losses, {n: p.grad.clone() for n, p in model.named_parameters()}))
    torch.testing.assert_close(*results)

    height, width = scenes[0].size
    whole = things[:1]
    whole = replace(
        whole,
        boxes=torch.tensor([[0.0, 0.0, width, height]]),
        ignore=torch.tensor([True]),
    )
    unlabelled = torch.full((height, width), 255)
    batch = batch_of(
        case, model, drawn[:1], [replace(scenes[0], things=whole, semantic=unlabelled)]
    )
    for name, loss in model(batch.images, batch.targets).items():
        assert loss.total == 0, name


def assert_batch_equals_singles(case: Case) -> None:
    """What a picture is answered does not depend on its neighbours in the batch."""
    model = trained(case)
    batch = batch_of(case, model, *pictures())
    with torch.no_grad():
        together = tensors(model(batch.images))
        for row in range(len(batch.targets)):
            single = Images(*(None if v is None else v[row : row + 1] for v in batch.images))
            for both, alone in zip(together, tensors(model(single)), strict=True):
                torch.testing.assert_close(both[row : row + 1], alone, rtol=1e-4, atol=1e-4)


def assert_learns_by_heart(case: Case) -> None:
    """Answers, in the pixels of the original pictures, are what the pictures show."""
    model = trained(case)
    drawn, scenes = pictures()
    batch = batch_of(case, model, drawn, scenes)
    with torch.no_grad():
        answers = model.describe(model(batch.images), batch.placements)
    assert [answer.size for answer in answers] == [scene.size for scene in scenes]
    case.right(answers, scenes)


def assert_saves_and_loads(case: Case, folder: Path) -> None:
    """The same answers, bit for bit, the same preprocessing, and the class names."""
    model = trained(case)
    weights.save(model, folder / "model.safetensors")
    loaded = weights.load(folder / "model.safetensors")
    assert loaded.card == model.card
    assert loaded.preprocess == model.preprocess
    batch = batch_of(case, model, *pictures())
    with torch.no_grad():
        for ours, theirs in zip(
            tensors(model(batch.images)), tensors(loaded(batch.images)), strict=True
        ):
            assert torch.equal(ours, theirs)


def assert_fused_equals_eager(case: Case) -> None:
    """Made fast, the model answers as before: the same slots, in the same order."""
    model = trained(case)
    batch = batch_of(case, model, *pictures())
    with torch.no_grad():
        for eager, fast in zip(
            tensors(model(batch.images)), tensors(fuse(model)(batch.images)), strict=True
        ):
            torch.testing.assert_close(eager, fast, rtol=1e-3, atol=1e-3)


def assert_exports(case: Case) -> None:
    """``torch.export`` takes ``outputs`` + ``select`` whole, open in batch, height and width, and
    answers as eager does: on the batch it has seen and on one picture of another shape. The form of
    its answers is known without weights."""
    model = trained(case)
    drawn, scenes = pictures()
    batch, alone = (batch_of(case, model, drawn[:n], scenes[:n]) for n in (2, 1))
    # Guards are notes on the example; what counts is that the values are right.
    graph = to_graph(model, batch.images).module(check_guards=False)
    for images in (batch.images, alone.images):
        given = {name: value for name, value in images._asdict().items() if value is not None}
        with torch.no_grad():
            for eager, exported in zip(
                tensors(model(images)), tensors(graph(**given)), strict=True
            ):
                torch.testing.assert_close(eager, exported, rtol=1e-4, atol=1e-3)
    with torch.device("meta"):
        form = form_of_answers(case.build().eval())
    assert form == form_of_answers(model)


def assert_becomes_onnx(case: Case, folder: Path) -> None:
    """ONNX Runtime answers as eager does: on the batch that was seen and on one picture of another
    shape."""
    model = trained(case)
    drawn, scenes = pictures()
    batch, alone = (batch_of(case, model, drawn[:n], scenes[:n]) for n in (2, 1))
    write_onnx(model, batch.images, Header.of(model), folder / "model.onnx")
    assert_same_answers(model, Exported.open(folder / "model.onnx"), [batch.images, alone.images])


def assert_compiles(case: Case) -> None:
    """Fused and compiled into one graph, which takes batches of any shape, it answers as before."""
    model = trained(case)
    drawn, scenes = pictures()
    batches = [batch_of(case, model, drawn[:n], scenes[:n]).images for n in (2, 1)]
    assert_same_answers(model, fuse(model, compile=True), batches)


def assert_same_answers(model: Any, other: Any, batches: list[Images]) -> None:
    """Or such as differ by near ties, each of which is seen."""
    for images in batches:
        with torch.no_grad():
            ours, theirs = model(images), other(images)
        found = agree(ours, theirs)
        assert found.matched + found.labelled > 0
        assert found.holds or not untied(ours, theirs, model.selection), found


def untied(ours: Any, theirs: Any, selection: Selection) -> list[str]:
    """The detections that only one gives, without a near tie that is seen."""
    left = []
    for row in range(len(ours.scores)):
        one, two = (Detections(*(v[row] for v in given[:3])) for given in (ours, theirs))
        left += answer_ties(one, two, selection)[1]
    return left


def tensors(selected: Any) -> list[Tensor]:
    """All tensors of a tensor, a NamedTuple or a dict of such."""
    if isinstance(selected, Tensor):
        return [selected]
    parts = selected.values() if isinstance(selected, dict) else selected
    return [tensor for part in parts for tensor in tensors(part)]


def boxes_are_right(answers: list[Scene], scenes: list[Scene]) -> None:
    """AP75 is at least 0.95: things found with their labels before anything false is claimed."""
    named = [replace(scene, image_id=number) for number, scene in enumerate(scenes)]
    assert coco_numbers(named, answers, CLASSES)["AP75"] >= 0.95


def answers_of(answer: Scene, scene: Scene) -> Instances:
    """For each true thing the best scored answer on it."""
    overlaps = box_ops.iou(scene.things.boxes, answer.things.boxes)
    same = (overlaps > 0.5) & (scene.things.labels[:, None] == answer.things.labels)
    return answer.things[torch.where(same, answer.things.scores, 0).argmax(dim=1)]


def map_is_right(answers: list[Scene], scenes: list[Scene]) -> None:
    """mIoU is at least 0.95."""
    assert semantic_numbers(scenes, answers, CLASSES)["mIoU"] >= 0.95


CONTRACTS = [
    assert_every_parameter_learns,
    assert_learns_without_regions,
    assert_ignore_regions_teach_nothing,
    assert_batch_equals_singles,
    assert_learns_by_heart,
    assert_saves_and_loads,
    assert_fused_equals_eager,
    assert_exports,
]


def assert_dataset(dataset: Dataset) -> None:
    """What a loader and an evaluation rely on."""
    ids = [dataset.scene(index).image_id for index in range(len(dataset))]
    assert len(set(ids)) == len(ids) > 0
    for index in range(len(dataset)):
        picture, scene, size = dataset.picture(index), dataset.scene(index), dataset.size(index)
        assert picture.dtype == torch.uint8
        assert tuple(picture.shape) == (3, *size)
        assert scene.size == size
        things, (height, width) = scene.things, size
        assert (box_ops.area(things.boxes) > 0).all()
        assert torch.equal(box_ops.clip(things.boxes, torch.tensor([height, width])), things.boxes)
        assert ((things.labels >= 0) & (things.labels < len(dataset.classes))).all()
        assert things.scores is None
        scene.things.boxes += 1  # what was given away is not the data set's own
        assert torch.equal(dataset.scene(index).things.boxes + 1, scene.things.boxes)


def assert_metric(
    measure: Callable[[Sequence[Scene], Sequence[Scene], Classes], Evaluation], number: str
) -> None:
    """The truth itself is worth 1, nothing 0, and neither the order of the pictures nor a picture
    without a thing changes that; every class has its number."""
    truths = [replace(s, image_id=n, semantic=None) for n, s in enumerate(pictures()[1])]
    truths.append(replace(truths[0], things=truths[0].things[:0], image_id=len(truths)))
    perfect = [
        replace(s, things=replace(s.things, scores=torch.linspace(0.9, 0.8, len(s.things))))
        for s in truths
    ]
    nothing = [replace(s, things=s.things[:0]) for s in perfect]
    assert measure(truths, perfect, CLASSES)[number] == 1
    assert measure(truths[::-1], perfect[::-1], CLASSES)[number] == 1
    assert measure(truths, nothing, CLASSES)[number] == 0
    assert list(measure(truths, perfect, CLASSES).per_class) == list(CLASSES.names)
