"""Batches: which pictures, in which order, varied how, on which process.

An epoch's plan is a pure function of (number of pictures, their shapes, how often each is to come
up, batch, seed, epoch), known before the first picture is read. So training resumes in the middle
of an epoch by skipping batches, and any number of workers or processes sees the same batches.

A plan is made of turns: turn i + k x I is picture i of I, for the k-th time in this epoch (from 0),
so that the same picture is varied in another way each time.
"""

import gc
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.utils.data
from torch import Tensor

from sightline.data.images import torchcodec_decoder
from sightline.data.packed import Dataset, lean
from sightline.data.parcel import Parcel
from sightline.data.transforms import Augment
from sightline.errors import SightlineError
from sightline.ops.masks import rasterise
from sightline.preprocess import Preparing, Preprocess
from sightline.shapes import Float, Int, UInt8
from sightline.types import Images, Placement, Scene

# Width / height at which a new group of pictures begins: 4:3, 3:2 and 16:9 lie inside one, as do
# their upright twins. On COCO's photos, batches of 8 then are 4 % padding instead of 55 %.
_SHAPES = (1 / 1.6, 1 / 1.4, 1 / 1.25, 1.0, 1.25, 1.4, 1.6)


class Batch(NamedTuple):
    images: Images
    targets: list[Scene]  # placed in the batch, seed set
    placements: list[Placement]
    indices: list[int]


def mix(*numbers: int) -> int:
    """A seed in 0..2^63-1 that depends on all the numbers and their order."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Loader:
    """A sequence of batches that can be gone through again; an error in a worker is raised here, as
    the one line it is."""

    def __init__(self, samples: "_Samples", plan: list[list[int]], workers: int) -> None:
        if workers < 0:
            raise SightlineError(f"workers must be at least 0, not {workers}")
        if workers:
            torchcodec_decoder()
        self._batches: torch.utils.data.DataLoader[Any] = torch.utils.data.DataLoader(
            _Batches(samples, plan),
            batch_size=None,
            num_workers=workers,
            collate_fn=Parcel.pack if workers else _as_it_is,
            worker_init_fn=_keep_shared,
            pin_memory=torch.cuda.is_available(),
            # Its own generator: by default it would draw from the global one, which training uses.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        # Python's collector writes into every object that it looks at, and so gives each process
        # pages of its own: 80 MB each in the midst of an epoch.
        gc.freeze()
        try:
            for received in self._batches:
                batch = received.unpack() if isinstance(received, Parcel) else received
                if isinstance(batch, SightlineError):
                    raise batch
                yield batch
        finally:
            gc.unfreeze()


def _keep_shared(worker: int) -> None:
    gc.freeze()


@contextmanager
def workers_explained() -> Iterator[None]:
    """Around the use of a loader: PyTorch tells of a worker that was ended in the midst of whatever
    the process does, and on the way from it a batch may be cut off.

    Raises:
        SightlineError: in place of that.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise SightlineError(
            "a process that reads pictures was ended from outside, often because the memory is "
            "full: lower --workers or --batch and start again"
        ) from error


def _as_it_is(batch: Any) -> Any:
    return batch


def train_loader(
    dataset: Dataset,
    preprocess: Preprocess,
    *,
    batch: int,
    seed: int,
    epoch: int,
    start: int = 0,
    augment: Augment | None = None,
    workers: int = 0,
    needs: frozenset[str] = frozenset(),
    rank: int = 0,
    world: int = 1,
    repeats: Float[Tensor, " I"] | None = None,
) -> Loader:
    """One epoch from its batch number ``start`` on: every picture once, or as often as ``repeats``
    says (see ``draw_turns``), shuffled by (seed, epoch).

    ``batch`` pictures a process; together the processes see what one would with world x batch, and
    all make the same number of steps, each with a picture at least (see ``plan_epoch``).

    Raises:
        SightlineError: fewer pictures than processes, or the data set lacks what ``needs`` names.
    """
    if len(dataset) < world:
        raise SightlineError(
            f"{len(dataset)} pictures are too few to train on with {world} process"
            f"{'' if world == 1 else 'es'}"
        )
    _check_needs(dataset, needs)
    if augment is not None:
        augment = replace(augment, mirrored=dataset.classes.mirrored)
    once = range(len(dataset))
    turns = once if repeats is None else draw_turns(repeats, seed, epoch).tolist()
    groups = _groups(dataset)
    groups = [groups[turn % len(dataset)] for turn in turns]
    plan = plan_epoch(groups, batch * world, seed, epoch, least=world)
    shares = [[turns[row] for row in share(rows, rank, world)] for rows in plan[start:]]
    samples = _Samples(lean(dataset, needs), preprocess, needs, augment, mix(seed, epoch))
    return Loader(samples, shares, workers)


def eval_loader(
    dataset: Dataset,
    preprocess: Preparing,
    *,
    batch: int,
    workers: int = 0,
    needs: frozenset[str] = frozenset(),
    rank: int = 0,
    world: int = 1,
) -> Loader:
    """Every picture once, unvaried, those of like shape together. A process may have one batch more
    than another, or none.

    Raises:
        SightlineError: batches of no picture.
    """
    if batch < 1:
        raise SightlineError(f"batch must be at least 1, not {batch}")
    shapes = [height / width for height, width in map(dataset.size, range(len(dataset)))]
    order = sorted(range(len(dataset)), key=lambda index: (shapes[index], index))[rank::world]
    plan = [order[first : first + batch] for first in range(0, len(order), batch)]
    return Loader(_Samples(lean(dataset, needs), preprocess, needs, None, 0), plan, workers)


def _check_needs(dataset: Dataset, needs: frozenset[str]) -> None:
    """A field is present in all scenes of a data set or in none."""
    scene = lean(dataset, needs).scene(0)
    known = vars(scene) | vars(scene.things) | scene.things.extra
    for name in sorted(needs):
        if known.get(name) is None:
            raise SightlineError(f"the model trains on {name}, and the data set has none")


def _groups(dataset: Dataset) -> list[int]:
    sizes = [dataset.size(index) for index in range(len(dataset))]
    return np.digitize([width / height for height, width in sizes], _SHAPES).tolist()


def draw_turns(repeats: Float[Tensor, " I"], seed: int, epoch: int) -> Int[Tensor, " T"]:
    """The turns of an epoch in which picture i comes up ``repeats[i]`` (1 or more) times on
    average: as often as the whole part says, and once more with the probability of the fraction.

    All epochs have the same number of turns, since the schedule of a run must know its steps
    beforehand. So the fractions are not rounded one by one: laid end to end (in an order of the
    epoch's own) they are a line, scaled to a whole length, and a comb of spacing 1 with a random
    offset picks the pictures that its teeth hit: systematic sampling.
    """
    generator = torch.Generator().manual_seed(mix(seed, epoch, -2))
    whole = repeats.double().floor()
    order = torch.randperm(len(repeats), generator=generator)
    ends = (repeats.double() - whole)[order].cumsum(0)
    length = ends[-1].round()
    if length > 0:
        offset = torch.rand((), generator=generator, dtype=torch.float64)
        ends = ends * (length / ends[-1])
        ends[-1] = length
        teeth = (ends + offset).floor().clamp(max=length)
        whole[order] += teeth.diff(prepend=teeth.new_zeros(1))
    counts = whole.long()
    pictures = torch.arange(len(repeats)).repeat_interleave(counts)
    times = torch.arange(len(pictures)) - (counts.cumsum(0) - counts)[pictures]
    return (pictures + len(repeats) * times).sort().values


def plan_epoch(
    groups: Sequence[int], batch: int, seed: int, epoch: int, least: int = 1
) -> list[list[int]]:
    """The pictures of each batch: every one once, batches of one group while they are full.

    What is left over in the groups is put together at the end. If that does not fill whole batches,
    the last full batch is added and all of it divided evenly: no batch is a mere remnant. Where a
    batch would still have fewer than ``least`` (with one picture a process), the remnant sits out
    this epoch.
    """
    generator = torch.Generator().manual_seed(mix(seed, epoch, -1))
    waiting: dict[int, list[int]] = defaultdict(list)
    plan: list[list[int]] = []
    for picture in torch.randperm(len(groups), generator=generator).tolist():
        group = waiting[groups[picture]]
        group.append(picture)
        if len(group) == batch:
            plan.append(group.copy())
            group.clear()
    tail = [picture for group in sorted(waiting) for picture in waiting[group]]
    if len(tail) % batch and plan:
        tail += plan.pop()
    parts = -(-len(tail) // batch)
    if len(tail) < least * parts:
        parts = len(tail) // batch
        tail = tail[: parts * batch]
    return plan + [share(tail, part, parts) for part in range(parts)]


def share(pictures: list[int], part: int, parts: int) -> list[int]:
    """One of ``parts`` consecutive shares, of sizes that differ by one at most."""
    first, last = (len(pictures) * end // parts for end in (part, part + 1))
    return pictures[first:last]


@dataclass(frozen=True)
class _Samples:
    """A batch from its turns. Lives in the workers."""

    dataset: Dataset
    preprocess: Preparing
    needs: frozenset[str]
    augment: Augment | None
    seed: int

    def batch(self, turns: list[int]) -> Batch:
        indices = [turn % len(self.dataset) for turn in turns]
        pairs = [self._sample(*both) for both in zip(turns, indices, strict=True)]
        images, placements = self.preprocess([picture for picture, _ in pairs])
        canvas = self.preprocess.canvas([placement.size for placement in placements])
        placed = zip(placements, pairs, strict=True)
        targets = [placement.scene(scene, canvas) for placement, (_, scene) in placed]
        return Batch(images, targets, placements, indices)

    def _sample(self, turn: int, index: int) -> tuple[UInt8[Tensor, "3 H W"], Scene]:
        """The picture and its truth, with all masks as maps."""
        seed = mix(self.seed, turn)
        scene = replace(self._needed(self.dataset.scene(index)), seed=seed)
        picture = self.dataset.picture(index)
        if self.augment is not None:
            generator = torch.Generator().manual_seed(seed)
            picture, scene = self.augment(picture, scene, generator, self.preprocess.size)
        if scene.things.masks is not None:
            maps = rasterise(scene.things.masks, scene.size)
            scene = replace(scene, things=replace(scene.things, masks=maps))
        return picture, scene

    def _needed(self, scene: Scene) -> Scene:
        """Without what the model does not train on."""
        things = replace(
            scene.things,
            masks=scene.things.masks if "masks" in self.needs else None,
            keypoints=scene.things.keypoints if "keypoints" in self.needs else None,
        )
        return replace(
            scene,
            things=things,
            semantic=scene.semantic if "semantic" in self.needs else None,
            panoptic=scene.panoptic if "panoptic" in self.needs else None,
            captions=scene.captions if "captions" in self.needs else None,
        )


@dataclass(frozen=True)
class _Batches(torch.utils.data.Dataset[Batch | SightlineError]):
    """What torch's DataLoader indexes: batch after batch."""

    samples: _Samples
    plan: list[list[int]]

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> Batch | SightlineError:
        try:
            return self.samples.batch(self.plan[step])
        except SightlineError as error:
            return error
