import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sightline.ops.boxes import iou
from sightline.ops.suppress import (
    EMPTY,
    Detections,
    Selection,
    finish,
    suppress,
    take,
    to_scenes,
    top,
    top_pairs,
)
from sightline.types import Placement


def naive(boxes: torch.Tensor, scores: torch.Tensor, groups: torch.Tensor, limit: float) -> set:
    kept: list[int] = []
    for row in scores.argsort(descending=True).tolist():
        if scores[row] == EMPTY:
            continue
        rivals = [k for k in kept if groups[k] == groups[row]]
        if all(iou(boxes[row][None], boxes[k][None]).item() <= limit for k in rivals):
            kept.append(row)
    return set(kept)


@given(st.integers(0, 10_000))
def test_equals_the_naive_loop_picture_by_picture(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(2, 20, 2, generator=generator) * 20
    size = torch.rand(2, 20, 2, generator=generator) * 20 + 2
    boxes = torch.cat([corner, corner + size], dim=2)
    scores = torch.rand(2, 20, generator=generator)
    scores[:, ::5] = EMPTY
    groups = torch.randint(0, 2, (2, 20), generator=generator)
    left = suppress(boxes, scores, groups, 2, 0.4)
    for row in range(2):
        kept = (left[row] > EMPTY).nonzero().flatten().tolist()
        assert set(kept) == naive(boxes[row], scores[row], groups[row], 0.4)
        assert torch.equal(left[row][kept], scores[row][kept])


def test_no_candidate_gives_empty_slots() -> None:
    nothing = torch.zeros(2, 0, 4), torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.long)
    boxes, scores, labels = finish(*nothing, classes=3, selection=Selection(top=5))
    assert boxes.shape == (2, 5, 4)
    assert labels.shape == (2, 5)
    assert torch.equal(scores, torch.full((2, 5), EMPTY))


def test_top_pads_with_empty_slots() -> None:
    best, index = top(torch.tensor([[0.2, 0.9, 0.5]]), 2)
    assert best.tolist() == [[pytest.approx(0.9), 0.5]]
    assert index.tolist() == [[1, 2]]
    best, index = top(torch.tensor([[0.2]]), 3)
    assert best.tolist() == [[pytest.approx(0.2), EMPTY, EMPTY]]
    assert index.tolist() == [[0, 0, 0]]


def test_top_pairs_by_hand() -> None:
    scores = torch.tensor([[[0.9, 0.8], [EMPTY, 0.1], [0.7, 0.85]]])
    best, rows, classes = top_pairs(scores, 3)
    assert best.tolist() == [[pytest.approx(0.9), pytest.approx(0.85), pytest.approx(0.8)]]
    assert rows.tolist() == [[0, 2, 0]]
    assert classes.tolist() == [[0, 1, 1]]


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_top_pairs_equal_sorting_all(seed: int, count: int) -> None:
    """Also where there are fewer pairs than slots, or many empty ones."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(2, 7, 3, generator=generator)
    scores[torch.rand(2, 7, 3, generator=generator) < 0.5] = EMPTY
    best, rows, classes = top_pairs(scores, count)
    assert best.shape == rows.shape == classes.shape == (2, count)
    for picture in range(2):
        pairs = scores[picture].flatten()
        expected = pairs[pairs > EMPTY].sort(descending=True).values[:count]
        found = best[picture] > EMPTY
        assert torch.equal(best[picture, found], expected)
        named = scores[picture, rows[picture, found], classes[picture, found]]
        assert torch.equal(named, expected)
        assert found.tolist() == sorted(found.tolist(), reverse=True), "empty slots come last"


def test_top_pairs_of_no_rows() -> None:
    best, rows, classes = top_pairs(torch.zeros(2, 0, 3), 4)
    assert torch.equal(best, torch.full((2, 4), EMPTY))
    assert rows.tolist() == [[0] * 4] * 2
    assert ((classes >= 0) & (classes < 3)).all()


def test_take_rows_of_any_shape() -> None:
    values = torch.arange(12).view(1, 3, 2, 2)
    assert torch.equal(take(values, torch.tensor([[2, 0]])), values[:, [2, 0]])


def test_finish_suppresses_within_a_class_only() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10]]])
    scores = torch.tensor([[0.9, 0.8, 0.7]])
    labels = torch.tensor([[0, 0, 1]])
    found = finish(boxes, scores, labels, 2, Selection(top=4))
    assert found.scores.tolist() == [[pytest.approx(0.9), pytest.approx(0.7), EMPTY, EMPTY]]
    assert found.labels[0, :2].tolist() == [0, 1]


def test_scenes_hold_the_filled_slots_in_original_pixels() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [2, 2, 4, 4]]])
    found = Detections(boxes, torch.tensor([[0.9, EMPTY]]), torch.tensor([[1, 0]]))
    (scene,) = to_scenes(found, [Placement(original=(40, 20), size=(20, 20))])
    assert scene.size == (40, 20)
    assert scene.things.boxes.tolist() == [[0, 0, 10, 20]]
    assert scene.things.labels.tolist() == [1]


def test_nothing_found() -> None:
    empty = torch.full((2, 5), EMPTY)
    found = finish(torch.zeros(2, 5, 4), empty, torch.zeros(2, 5).long(), 1, Selection(top=3))
    assert (found.scores == EMPTY).all()
    scenes = to_scenes(found, [Placement((9, 9), (9, 9))] * 2)
    assert [len(scene.things) for scene in scenes] == [0, 0]


@pytest.mark.usefixtures("unchecked_shapes")
def test_compiles_whole_and_exports() -> None:
    selection = Selection(top=3)

    def run(boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor) -> Detections:
        return finish(boxes, scores, labels, 1, selection)

    class Tail(torch.nn.Module):
        forward = staticmethod(run)

    boxes, scores = torch.rand(2, 6, 4) * 5, torch.rand(2, 6)
    boxes[..., 2:] += 5
    labels = torch.zeros(2, 6).long()
    eager = run(boxes, scores, labels)
    graph = torch.export.export(Tail(), (boxes, scores, labels)).module()(boxes, scores, labels)
    whole = torch.compile(run, fullgraph=True, backend="eager")(boxes, scores, labels)
    for a, b, c in zip(eager, graph, whole, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
