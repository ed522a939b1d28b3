import json
import os
import zlib
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sightline.errors import SightlineError
from sightline.files import UNSEALED, check_target, filling, is_sealed, replacing, seal


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


def test_a_seal_is_the_checksum_of_all_other_bytes(tmp_path: Path) -> None:
    """CRC-32, as zlib has it, of what is left without its eight digits."""
    path = tmp_path / "a.txt"
    path.write_text(f'before "seal": "{UNSEALED}" after')
    assert not is_sealed(path)
    seal(path)
    found = zlib.crc32(b'before "seal": "crc32:" after')
    assert path.read_text() == f'before "seal": "crc32:{found:08x}" after'
    assert is_sealed(path)


def test_what_only_looks_like_a_seal_is_left_alone(tmp_path: Path) -> None:
    """A class may be called so, and stand before it."""
    path = tmp_path / "a.safetensors"
    classes = json.dumps(["crc32:cat", UNSEALED, f'seal": "{UNSEALED}'])
    save_file({"a": torch.zeros(2)}, path, {"card": classes, "seal": UNSEALED})
    seal(path)
    assert is_sealed(path)
    with safe_open(path, "pt") as file:
        assert file.metadata()["card"] == classes
        assert file.metadata()["seal"] != UNSEALED


@pytest.mark.parametrize("changed", [0, 1])
def test_any_flipped_bit_breaks_the_seal(changed: int, tmp_path: Path) -> None:
    paths = [tmp_path / "a.xml", tmp_path / "a.bin"]
    paths[0].write_text(f'<seal value="{UNSEALED}"/>')
    paths[1].write_bytes(bytes(100))
    seal(*paths)
    assert is_sealed(*paths)
    data = bytearray(paths[changed].read_bytes())
    data[-1] ^= 1
    paths[changed].write_bytes(data)
    with pytest.raises(SightlineError, match=r"a\.xml: damaged"):
        is_sealed(*paths)


def test_what_was_never_sealed(tmp_path: Path) -> None:
    for content in (b"", b"text", b"crc3", b"crc32:00000000"):
        (tmp_path / "a").write_bytes(content)
        assert not is_sealed(tmp_path / "a")


@pytest.mark.parametrize("name", ["x" * 300, f"{'x' * 300}/a.json", "file/a.json", "closed/b/a"])
def test_a_place_that_cannot_be_written_to_is_told_before(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "closed").mkdir()
    access = os.access  # root may write anywhere
    monkeypatch.setattr(os, "access", lambda path, how: path.name != "closed" and access(path, how))
    with pytest.raises(SightlineError, match="cannot be written"):
        check_target(tmp_path / name)
    check_target(tmp_path / "new" / "folder" / "a.json")


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    """As root the rename would take its name away from it."""
    (tmp_path / "null").symlink_to("/dev/null")
    for path in (tmp_path / "null", Path("/dev/full")):
        with pytest.raises(SightlineError, match="is a device"):
            check_target(path)
        with pytest.raises(SightlineError, match="is a device"), replacing(path):
            pass
