"""Numbers in picture files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data.maps import read_labels, read_numbers, read_panoptic
from sightline.errors import SightlineError
from sightline.types import Segment


def saved(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool])
def test_grey_values_as_they_stand(tmp_path: Path, dtype: type) -> None:
    numbers = np.array([[0, 1, 200], [7, 1, 255]]).astype(dtype)
    found = read_numbers(saved(tmp_path / "a.png", numbers))
    np.testing.assert_array_equal(found, numbers.astype(int))


def test_16_bits_are_not_scaled(tmp_path: Path) -> None:
    numbers = np.array([[0, 300], [65535, 1]], np.uint16)
    np.testing.assert_array_equal(read_numbers(saved(tmp_path / "a.png", numbers)), numbers)


@pytest.mark.parametrize("alpha", [(), (9,)])
def test_colours_are_three_bytes_lowest_first(tmp_path: Path, alpha: tuple[int, ...]) -> None:
    pixels = np.array([[(1, 2, 3, *alpha), (255, 255, 255, *alpha)]], np.uint8)
    found = read_numbers(saved(tmp_path / "a.png", pixels))
    assert found.tolist() == [[1 + 2 * 256 + 3 * 65536, 2**24 - 1]]


def test_labels_and_values_that_have_none(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.png", np.array([[5, 9], [9, 250]], np.uint8))
    values, labels = torch.tensor([5, 9, 250]), torch.tensor([1, 255, 0])
    assert read_labels(file, (2, 2), values, labels).tolist() == [[1, 255], [255, 0]]
    with pytest.raises(
        SightlineError, match=r"a\.png holds values that stand for no class: 5, 250"
    ):
        read_labels(file, (2, 2), torch.tensor([9]), torch.tensor([0]))
    with pytest.raises(SightlineError, match=r"a\.png is 2x2, its picture 3x2"):
        read_labels(file, (2, 3), values, labels)


def test_void_alone_needs_no_segment(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.png", np.array([[0, 9]], np.uint8))
    segments = [Segment(9, 0, True), Segment(12, 0, True)]
    assert read_panoptic(file, (1, 2), segments).map.tolist() == [[0, 9]]
    with pytest.raises(SightlineError, match="holds segments that are not listed: 9"):
        read_panoptic(file, (1, 2), segments[1:])


@pytest.mark.parametrize("content", [None, b"", b"\x89PNG\r\n\x1a\n", b"no picture"])
def test_what_is_no_map(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(SightlineError, match=r"cannot read .*a\.png") as error:
        read_numbers(tmp_path / "a.png")
    assert "\n" not in str(error.value)
