from pathlib import Path

import pytest

from sightline.errors import SightlineError
from sightline.files import filling, replacing


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


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_is_there_only_when_it_is_full(there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "set"
    if there:
        folder.mkdir(parents=True)
    with pytest.raises(ZeroDivisionError), filling(folder) as beside:
        (beside / "one").write_text(f"{1 // 0}")
    assert folder.exists() == there
    (beside / "left").mkdir(parents=True)  # as by a run that was killed
    with filling(folder) as beside:
        (beside / "one").write_text("1")
        assert not list(folder.glob("*"))
    assert [path.name for path in folder.iterdir()] == ["one"]
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


@pytest.mark.parametrize("name", ["file", "full", "file/set"])
def test_a_folder_that_holds_something_is_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with (
        pytest.raises(SightlineError, match=f"{name}.*(there already|cannot be written)"),
        filling(tmp_path / name),
    ):
        raise AssertionError("not to be filled")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full", "mine"]
