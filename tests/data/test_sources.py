"""What is looked at, and what is read of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data.sources import Picture, find_sources, read_ahead
from sightline.errors import SightlineError
from tests.bright import picture, save_picture
from tests.data.clips import write_clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """b.png, a.png and a video between them; notes.txt is neither."""
    save_picture(tmp_path / "b.png", picture())
    save_picture(tmp_path / "a.png", picture())
    write_clip(tmp_path / "ab.MP4", [picture(size=(48, 64))] * 3)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "deeper").mkdir()
    save_picture(tmp_path / "deeper" / "c.png", picture())
    return tmp_path


def test_files_folders_and_globs_in_order(folder: Path) -> None:
    a, video, b, c = (folder / name for name in ("a.png", "ab.MP4", "b.png", "deeper/c.png"))
    assert list(find_sources(folder)) == [a, video, b]
    assert list(find_sources(str(folder / "*.png"))) == [a, b]
    assert list(find_sources(str(folder / "a*"))) == [a, video]
    assert list(find_sources(folder / "**" / "*.png")) == [a, b, c]
    assert list(find_sources([b, str(a)])) == [b, a]


def test_a_name_that_looks_like_a_glob(tmp_path: Path) -> None:
    save_picture(tmp_path / "a[1].png", picture())
    assert list(find_sources(tmp_path / "a[1].png")) == [tmp_path / "a[1].png"]


def test_every_frame_of_a_video_in_its_place(folder: Path) -> None:
    read = list(read_ahead(find_sources(folder), 2))
    names = [Path(each.path).name for each in read]
    assert names == ["a.png", "ab.MP4", "ab.MP4", "ab.MP4", "b.png"]
    assert [each.moment and each.moment.frame for each in read] == [None, 0, 1, 2, None]
    assert [tuple(each.pixels.shape[1:]) for each in read] == [(20, 30), *[(48, 64)] * 3, (20, 30)]


def test_pixels_have_no_path() -> None:
    pixels = picture((1, 2, 3, 4, 1, 200))
    array = pixels.permute(1, 2, 0).numpy()
    for each in read_ahead([pixels, array, Image.fromarray(array)], 1):
        assert torch.equal(each.pixels, pixels)
        assert (each.path, each.moment) == ("", None)


@pytest.mark.parametrize("count", [0, 4])
def test_no_more_is_taken_than_is_read_ahead(count: int) -> None:
    taken = []

    def endless() -> Iterator[Any]:
        while True:
            taken.append(1)
            yield picture()

    reading = read_ahead(endless(), count)
    assert taken == []
    for given in range(1, 10):
        assert isinstance(next(reading), Picture)
        assert len(taken) == given + count
    reading.close()


def test_an_error_comes_in_its_place_and_the_others_go_on() -> None:
    good, bad = picture(), np.zeros((4, 4, 4), np.uint8)
    told: list[tuple[int, str]] = []
    read: list[Picture] = []
    for each in read_ahead([good, bad, good, bad], 3, lambda e: told.append((len(read), str(e)))):
        read.append(each)
    assert len(read) == 2
    assert [place for place, _ in told] == [1, 2]
    reading = read_ahead([good, bad, good], 3)
    next(reading)
    with pytest.raises(SightlineError, match="an array of shape 4x4x4"):
        next(reading)


def test_a_device_is_no_picture() -> None:
    """Reading /dev/zero would fill the memory."""
    with pytest.raises(SightlineError, match="/dev/zero is a device"):
        list(find_sources("/dev/zero"))
