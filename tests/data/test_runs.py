import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.data import runs

maps = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1)).map(
    lambda t: np.random.default_rng(t[2]).random(t[:2]) < 0.4
)


def run_lengths(mask: np.ndarray) -> list[int]:
    """Runs of 0 and 1 in turn, 0 first, down the columns: one pixel after the other."""
    lengths, value = [0], False
    for pixel in mask.T.flatten().tolist():
        if pixel != value:
            lengths.append(0)
            value = pixel
        lengths[-1] += 1
    return lengths


def test_by_hand() -> None:
    # 2, 3, 7 are below 16: one character each, 48 + value. The fourth is the difference to the
    # second: 3 - 3 = 0.
    assert runs.compress([2, 3, 7, 3]) == b"2370"
    # 100 = 0b11_00100: low five bits 4 with "more follow" (32 + 4 + 48 = "T"), then 3 ("3").
    assert runs.compress([100]) == b"T3"
    assert runs.expand(b"T3").tolist() == [100]


@given(maps)
def test_as_pycocotools_writes_and_reads(mask: np.ndarray) -> None:
    pycoco = pytest.importorskip("pycocotools.mask")
    lengths = run_lengths(mask)
    theirs = pycoco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert runs.compress(lengths) == theirs["counts"]
    assert runs.expand(theirs["counts"]).tolist() == lengths


@given(st.lists(st.integers(0, 10**6), max_size=20))
def test_round_trip_of_long_runs(lengths: list[int]) -> None:
    assert runs.expand(runs.compress(lengths)).tolist() == lengths


@given(maps)
def test_box_is_the_tight_one(mask: np.ndarray) -> None:
    rows, columns = np.nonzero(mask)
    box = (0, 0, 0, 0)
    if len(rows):
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert runs.box(np.array(run_lengths(mask)), mask.shape[0]) == box


@pytest.mark.parametrize("counts", [b"hello world", b"l", b"P", b"PPPPPPPPPPPPPPPPPP0", b"\xff"])
def test_garbage_is_refused(counts: bytes) -> None:
    with pytest.raises(ValueError):
        runs.expand(counts)
