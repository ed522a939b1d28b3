from pathlib import Path

import pytest

from sightline.errors import SightlineError
from sightline.files import replacing


def test_a_file_is_replaced_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "state.txt"
    with replacing(path) as beside:
        beside.write_text("old")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), replacing(path) as beside:
        beside.write_text(f"ne{1 // 0}")
    assert path.read_text() == "old"
    with replacing(path) as beside:
        beside.write_text("new")
    assert path.read_text() == "new"
    assert [file.name for file in path.parent.iterdir()] == ["state.txt"]


def test_a_folder_that_is_a_file_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("in the way")
    with (
        pytest.raises(SightlineError, match="cannot be written"),
        replacing(tmp_path / "a" / "state.txt") as beside,
    ):
        beside.write_text("new")
