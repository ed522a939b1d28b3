import gc
import pickle
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sightline.data.folder import open_split
from sightline.data.loader import (
    Batch,
    Loader,
    draw_turns,
    eval_loader,
    mix,
    plan_epoch,
    train_loader,
)
from sightline.data.transforms import Augment
from sightline.errors import SightlineError
from sightline.preprocess import Preprocess
from sightline.types import Classes, Scene
from tests.data.samples import InMemory, boxes_scene, coco_document, write_coco_folder

PREPROCESS = Preprocess(short=32, long=64, multiple=8)
STRONG = Augment(flip=0.5, scale=(0.7, 1.4), crop=0.5, colour=0.5)
SHAPES = [(40, 60), (60, 40), (50, 50), (30, 64)]


def some_data(count: int = 21) -> InMemory:
    """Pictures of four shapes, each with a box and its mask, a keypoint and a map."""
    scenes = []
    for i in range(count):
        height, width = SHAPES[i % 4]
        scene = boxes_scene(
            (height, width),
            [10, 10, 20 + i / 2, 25],
            masks=torch.zeros(1, height, width, dtype=torch.bool),
            keypoints=torch.tensor([[[12.0, 13, 2]]]),
        )
        scene.things.masks[:, 10:25, 10:20] = True
        scene.semantic = torch.full((height, width), i)
        scenes.append(scene)
    return InMemory(scenes, Classes(("a",), keypoints=("nose",), mirrored=(0,)))


def train(data: Any = None, **options: Any) -> Loader:
    defaults: dict[str, Any] = {"batch": 4, "seed": 0, "epoch": 0, "augment": STRONG}
    return train_loader(some_data() if data is None else data, PREPROCESS, **(defaults | options))


def same(first: Sequence[Batch], second: Sequence[Batch]) -> None:
    assert [batch.indices for batch in first] == [batch.indices for batch in second]
    for one, other in zip(first, second, strict=True):
        assert one.images.pixels.equal(other.images.pixels)
        assert one.images.sizes.equal(other.images.sizes)
        assert one.placements == other.placements
        for a, b in zip(one.targets, other.targets, strict=True):
            same_scene(a, b)


def same_scene(a: Scene, b: Scene) -> None:
    assert (a.size, a.seed) == (b.size, b.seed)
    assert a.things.boxes.equal(b.things.boxes)
    assert a.things.ignore.equal(b.things.ignore)
    for name in ("masks", "keypoints"):
        first, second = getattr(a.things, name), getattr(b.things, name)
        assert first is second or first.equal(second)


groups = st.lists(st.integers(0, 3), min_size=1, max_size=60)


@given(groups, st.integers(1, 9), st.integers(0, 99))
def test_the_plan_of_an_epoch(groups: list[int], batch: int, epoch: int) -> None:
    plan = plan_epoch(groups, batch, seed=5, epoch=epoch)
    assert sorted(chain.from_iterable(plan)) == list(range(len(groups)))
    assert len(plan) == -(-len(groups) // batch)
    assert max(map(len, plan)) <= batch
    assert min(map(len, plan)) >= min(batch / 2, len(groups))
    # all but the last few, which hold what the groups had left over, are of one group
    mixed = [len({groups[picture] for picture in pictures}) > 1 for pictures in plan]
    assert not any(mixed[: max(0, len(plan) - 5)])
    assert plan == plan_epoch(groups, batch, seed=5, epoch=epoch)


@given(groups, st.integers(1, 4), st.integers(1, 4))
def test_no_process_is_ever_left_without_a_picture(
    groups: list[int], batch: int, world: int
) -> None:
    if len(groups) < world:
        return
    plan = plan_epoch(groups, batch * world, seed=0, epoch=0, least=world)
    assert all(len(pictures) >= world for pictures in plan)
    left_out = len(groups) - sum(map(len, plan))
    assert left_out == 0 or (batch == 1 and left_out < world)


factors = st.lists(st.sampled_from([1.0, 1.1, 1.5, 2.0, 3.25]), min_size=1, max_size=40)


@given(factors, st.integers(0, 99))
def test_turns_of_an_epoch(repeats: list[float], epoch: int) -> None:
    """Each picture its whole number of times and at most two more; turn i + k x I is the k-th of
    picture i."""
    count = len(repeats)
    turns = draw_turns(torch.tensor(repeats), seed=5, epoch=epoch).tolist()
    times = [sum(turn % count == picture for turn in turns) for picture in range(count)]
    for number, factor in zip(times, repeats, strict=True):
        assert int(factor) <= number <= int(factor) + 2
    assert abs(len(turns) - sum(repeats)) < 0.501
    assert turns == sorted(p + count * k for p in range(count) for k in range(times[p]))
    assert turns == draw_turns(torch.tensor(repeats), seed=5, epoch=epoch).tolist()


def test_pictures_come_up_as_often_as_their_factors_say() -> None:
    """Fractions of 0.25 and 0.5 in 400 epochs, by a comb: 100 and 200 times, standard deviations
    sqrt(400 x 1/4 x 3/4) = 8.7 and 10."""
    repeats = torch.tensor([1.25, 1.0, 1.5, 2.25, 1.25, 1.25, 2.5])  # the fractions sum to 2
    extra = torch.zeros(7)
    for epoch in range(400):
        drawn = torch.bincount(draw_turns(repeats, 0, epoch) % 7, minlength=7) - repeats.long()
        assert drawn.sum() == 2
        extra += drawn
    for number, fraction in zip(extra.tolist(), (repeats % 1).tolist(), strict=True):
        assert abs(number - 400 * fraction) <= 5 * 400**0.5 * (fraction * (1 - fraction)) ** 0.5


@given(factors, st.integers(1, 4), st.integers(1, 3))
def test_every_epoch_has_as_many_batches(repeats: list[float], batch: int, world: int) -> None:
    data = InMemory([boxes_scene(SHAPES[i % 4]) for i in range(len(repeats))])
    if len(repeats) < world:
        return
    chosen: dict[str, Any] = {"repeats": torch.tensor(repeats), "batch": batch, "world": world}
    steps = {len(train(data, epoch=e, rank=r, **chosen)) for e in range(4) for r in range(world)}
    assert len(steps) == 1


def test_pictures_that_are_not_repeated_make_the_plain_plan() -> None:
    same(list(train(epoch=2)), list(train(epoch=2, repeats=torch.ones(21))))


def test_a_repeated_picture_is_varied_anew() -> None:
    repeats = torch.ones(21)
    repeats[4] = 3
    found = [
        target
        for batch in train(repeats=repeats)
        for index, target in zip(batch.indices, batch.targets, strict=True)
        if index == 4
    ]
    assert len(found) == len({target.seed for target in found}) == 3
    once = train()  # the first time it is as it would be without the others
    seeds = {i: t.seed for b in once for i, t in zip(b.indices, b.targets, strict=True)}
    assert seeds[4] in {target.seed for target in found}


@pytest.mark.parametrize(("world", "batch"), [(2, 4), (4, 2)])
def test_repeated_pictures_are_shared_and_resumed_as_others(world: int, batch: int) -> None:
    repeats = torch.linspace(1, 3, 24)
    whole = list(train(some_data(24), batch=8, repeats=repeats))
    same(whole[3:], list(train(some_data(24), batch=8, repeats=repeats, start=3)))
    chosen: dict[str, Any] = {"batch": batch, "world": world, "repeats": repeats}
    shares = [list(train(some_data(24), rank=rank, **chosen)) for rank in range(world)]
    for step, one in enumerate(whole):
        assert [index for s in shares for index in s[step].indices] == one.indices
        assert [t.seed for s in shares for t in s[step].targets] == [t.seed for t in one.targets]


def test_another_epoch_and_another_seed_are_another_order() -> None:
    plans = [
        [*chain(*plan_epoch([0] * 50, 4, seed, epoch))] for seed, epoch in [(0, 0), (0, 1), (1, 0)]
    ]
    assert plans[0] != plans[1] != plans[2] != plans[0]


def test_seeds_depend_on_every_number_and_their_order() -> None:
    seeds = {mix(a, b) for a in range(30) for b in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mix(1, 2, 3) == mix(1, 2, 3)


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_batches(workers: int) -> None:
    needs = frozenset({"masks", "keypoints", "semantic"})
    same(list(train(needs=needs)), list(train(needs=needs, workers=workers)))


def test_a_loader_can_be_gone_through_again() -> None:
    loader = train(workers=1)
    same(list(loader), list(loader))


def test_resuming_gives_exactly_the_rest() -> None:
    whole = list(train(epoch=3))
    for start in (0, 2, 5, 6):
        rest = train(epoch=3, start=start)
        assert len(rest) == 6 - start
        same(whole[start:], list(rest))


@pytest.mark.parametrize(("world", "batch"), [(2, 4), (4, 2), (8, 1)])
def test_the_shares_of_the_processes_make_up_the_batch_of_one(world: int, batch: int) -> None:
    whole = list(train(some_data(24), batch=8))
    shares = [list(train(some_data(24), batch=batch, rank=r, world=world)) for r in range(world)]
    assert {len(share) for share in shares} == {len(whole)}
    for step, one in enumerate(whole):
        parts = [share[step] for share in shares]
        assert [index for part in parts for index in part.indices] == one.indices
        targets = [target for part in parts for target in part.targets]
        for a, b in zip(targets, one.targets, strict=True):
            assert (a.seed, a.size) == (b.seed, b.size)
            assert a.things.boxes.equal(b.things.boxes)
        for part in parts:
            for row, index in enumerate(part.indices):
                height, width = part.images.sizes[row].tolist()
                theirs = one.images.pixels[one.indices.index(index)]
                ours = part.images.pixels[row]
                assert ours[:, :height, :width].equal(theirs[:, :height, :width])


def test_targets_lie_in_the_pixels_of_the_batch() -> None:
    needs = frozenset({"masks", "keypoints", "semantic"})
    for batch in train(augment=None, needs=needs):
        canvas = tuple(batch.images.pixels.shape[-2:])
        for row, (index, target) in enumerate(zip(batch.indices, batch.targets, strict=True)):
            original = some_data().scene(index)
            scale = 32 / min(original.size)  # the short side becomes 32
            if max(original.size) * scale > 64:
                scale = 64 / max(original.size)
            expected = original.things.boxes * scale
            torch.testing.assert_close(target.things.boxes, expected, atol=0.3, rtol=0)
            assert target.size == tuple(batch.images.sizes[row].tolist())
            assert target.things.masks.shape == (1, *canvas)
            assert target.semantic.shape == canvas
            top, left = (round(value * scale) for value in (11, 11))
            assert target.things.masks[0, top, left]
            assert target.things.keypoints[0, 0, 0] == pytest.approx(12 * scale, abs=0.3)


def test_a_large_photo_is_made_smaller_before_its_canvas_is_laid() -> None:
    """16 Mpx and more would be laid around it, of which the model is to see 32 x 32."""
    data = InMemory([boxes_scene((1000, 1200), [10, 10, 700, 900])] * 4, Classes(("a",)))
    (batch,) = train(data, augment=Augment(flip=0, expand=1))
    sizes = [height * width for height, width in (place.original for place in batch.placements)]
    assert max(sizes) > 4_900_000
    assert max(sizes) < 4_930_000


def test_only_what_the_model_needs_is_loaded() -> None:
    [*batches] = train()
    assert all(target.things.masks is None for batch in batches for target in batch.targets)
    assert all(target.things.keypoints is None for batch in batches for target in batch.targets)
    assert all(target.semantic is None for batch in batches for target in batch.targets)


def test_a_model_that_needs_what_the_data_lacks() -> None:
    data = InMemory([boxes_scene((20, 20))])
    for needs in ("masks", "keypoints", "semantic", "panoptic", "words"):
        with pytest.raises(SightlineError, match=f"trains on {needs}, and the data set has none"):
            train(data, needs=frozenset({needs}))


def test_a_model_may_need_an_extra_column() -> None:
    scene = boxes_scene((20, 20))
    scene.things.extra["words"] = torch.arange(len(scene.things))
    [batch] = train(InMemory([scene]), needs=frozenset({"words"}))
    assert batch.targets[0].things.extra["words"].tolist() == scene.things.extra["words"].tolist()


def test_keypoints_are_mirrored_as_the_classes_say() -> None:
    data = some_data(1)
    data.classes = Classes(("a",), keypoints=("l", "r"), mirrored=(1, 0))
    data.scenes[0].things.keypoints = torch.tensor([[[12.0, 13, 2], [40, 13, 1]]])
    [batch] = train(data, augment=Augment(flip=1), needs=frozenset({"keypoints"}))
    assert batch.targets[0].things.keypoints[0, :, 2].tolist() == [1, 2]


class Flawed(InMemory):
    """The third picture cannot be had."""

    def __init__(self, error: Exception) -> None:
        super().__init__([boxes_scene((20, 20)) for _ in range(4)])
        self.error = error

    def picture(self, index: int) -> Tensor:
        if index == 2:
            raise self.error
        return super().picture(index)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_flaw_found_in_a_worker_stays_one_line(workers: int) -> None:
    loader = eval_loader(Flawed(SightlineError("bad.jpg")), PREPROCESS, batch=2, workers=workers)
    with pytest.raises(SightlineError, match=r"^bad\.jpg$"):
        list(loader)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_in_a_worker_stays_a_bug(workers: int) -> None:
    loader = eval_loader(Flawed(ZeroDivisionError("bug")), PREPROCESS, batch=2, workers=workers)
    with pytest.raises(ZeroDivisionError, match="bug"):
        list(loader)


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    list(train(workers=1))
    list(eval_loader(some_data(), PREPROCESS, batch=4))
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("world", [1, 3])
def test_evaluation_sees_every_picture_once(world: int) -> None:
    data, seen = some_data(), []
    for rank in range(world):
        for batch in eval_loader(data, PREPROCESS, batch=4, rank=rank, world=world):
            seen += batch.indices
            for index, target in zip(batch.indices, batch.targets, strict=True):
                assert target.seed is not None
                assert batch.placements[batch.indices.index(index)].original == data.size(index)
    assert sorted(seen) == list(range(21))


def test_evaluation_groups_like_shapes() -> None:
    data = some_data(24)
    for batch in eval_loader(data, PREPROCESS, batch=6):
        assert len({data.size(index) for index in batch.indices}) == 1


def test_too_few_pictures() -> None:
    with pytest.raises(SightlineError, match=r"0 pictures are too few to train on with 1 process$"):
        train(InMemory([]))
    with pytest.raises(SightlineError, match="2 pictures are too few to train on with 3 processes"):
        train(some_data(2), world=3)
    assert len(eval_loader(InMemory([]), PREPROCESS, batch=2)) == 0
    assert [batch.indices for batch in train(some_data(1))] == [[0]]


def test_packed_data_through_workers(tmp_path: Path) -> None:
    data = open_split(write_coco_folder(tmp_path, coco_document(5), "val"), "val")
    loader = train(data, batch=2, workers=2)
    same(list(train(data, batch=2)), list(loader))
    # what a platform that spawns its workers sends them
    again = pickle.loads(pickle.dumps((loader._batches.dataset, loader._batches.collate_fn)))
    assert again[0][0].indices == next(iter(loader)).indices


def test_real_photos_with_everything(real_data: Path) -> None:
    data = open_split(real_data / "coco", "val")
    batches = [
        list(train(data, batch=8, needs=frozenset({"masks"}), workers=workers))[:3]
        for workers in (0, 2)
    ]
    same(*batches)
    for batch in batches[0]:
        for target in batch.targets:
            for box, mask in zip(target.things.boxes, target.things.masks, strict=True):
                rows, columns = mask.nonzero().unbind(1)
                if len(rows):  # the mask lies in its box
                    assert columns.min() >= box[0] - 2
                    assert columns.max() <= box[2] + 2
                    assert rows.min() >= box[1] - 2
                    assert rows.max() <= box[3] + 2


def test_python_s_collector_leaves_what_is_shared_alone() -> None:
    """A full collection in a worker would make it a copy of every page with objects on it."""
    loader = eval_loader(InMemory([boxes_scene((8, 8))] * 2), PREPROCESS, batch=1)
    for _ in loader:
        assert gc.get_freeze_count() > 1000
    assert gc.get_freeze_count() == 0
