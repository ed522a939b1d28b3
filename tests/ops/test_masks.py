"""Run-length encoded masks."""

import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as reference

from sightline.errors import SightlineError
from sightline.ops import masks


def test_runs_go_down_the_columns() -> None:
    """Of 2 x 3 pixels the second column: two empty pixels, two set, two empty."""
    maps = torch.tensor([[[False, True, False], [False, True, False]]])
    assert masks.encode(maps) == [masks.from_counts([2, 2, 2], (2, 3))]


@given(st.integers(0, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))
def test_there_and_back(count: int, height: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(count, height, width, generator=generator) < 0.5
    rles = masks.encode(maps)
    assert torch.equal(masks.decode(rles, (height, width)), maps)
    assert masks.areas(rles).tolist() == maps.sum((1, 2)).tolist()


def test_equals_pycocotools() -> None:
    maps = torch.rand(3, 17, 23) < 0.5
    expected = [reference.encode(each.numpy().astype("uint8", order="F")) for each in maps]
    assert masks.encode(maps) == expected
    corners = torch.tensor([[2.5, 3.0], [20.0, 4.5], [11.0, 16.0]])
    parts = reference.frPyObjects([corners.flatten().tolist()], 17, 23)
    assert masks.from_polygons([corners], (17, 23)) == reference.merge(parts)


def test_masks_of_any_kind() -> None:
    square = torch.zeros(1, 20, 30, dtype=torch.bool)
    square[0, 2:12, 3:13] = True
    polygons = [[torch.tensor([[3.0, 2], [13, 2], [13, 12], [3, 12]])]]
    for kind in (square, masks.encode(square), polygons):
        assert masks.to_rles(kind, (20, 30)) == masks.encode(square)
        assert torch.equal(masks.rasterise(kind, (20, 30)), square)


def test_nothing() -> None:
    assert masks.decode([], (4, 5)).shape == (0, 4, 5)
    assert masks.encode(torch.zeros(0, 4, 5, dtype=torch.bool)) == []
    assert not masks.rasterise([[]], (4, 5)).any()  # a thing without a polygon
    assert masks.areas([]).shape == (0,)


def test_without_either_package(monkeypatch: pytest.MonkeyPatch) -> None:
    masks._functions.cache_clear()
    for name in ("hotcoco.mask", "pycocotools.mask"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SightlineError, match="pip install hotcoco"):
        masks.empty((3, 3))
    monkeypatch.undo()
    masks._functions.cache_clear()
    assert masks.empty((3, 3))["size"] == [3, 3]
