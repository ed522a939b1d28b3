"""Pictures by the names that annotations give them, and annotation files by what is in them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.data.find import Pictures, is_file, of_kind, picture_folders, read_lines
from sightline.data.folder import open_split
from sightline.errors import SightlineError
from tests.data.samples import (
    coco_document,
    voc_xml,
    write_coco_folder,
    write_json,
    write_picture,
    write_voc_folder,
)
from tests.data.test_cvat import box, document, image, write_cvat
from tests.data.test_jsonlines import BOX, record, write_lines
from tests.data.test_labelme import BOX as SHAPE
from tests.data.test_labelme import write_labelme
from tests.data.test_labelstudio import rectangle, task, write_export


def test_pictures_by_the_names_annotations_give(tmp_path: Path) -> None:
    for name in ("one/A.JPG", "one/b.c.png", "two/A.jpg", "two/deep/d.png"):
        write_picture(tmp_path / name)
    pictures = Pictures([tmp_path / "one", tmp_path / "two", tmp_path / "one"])
    found = {
        "A.jpg": "one/A.JPG",
        "a.png": "one/A.JPG",
        "A": "one/A.JPG",
        "b.c": "one/b.c.png",
        "deep/d.png": "two/deep/d.png",
        "/home/me/deep/D.PNG": "two/deep/d.png",
        "../one/A.JPG": "one/A.JPG",
        "C:\\photos\\two\\a.jpg": "two/A.jpg",
        "C:\\photos\\B.C.PNG": "one/b.c.png",
    }
    assert {name: pictures.find(name) for name in found} == {
        name: tmp_path / path for name, path in found.items()
    }
    for name in ("b", "b.d", "d.png", "", "..", "/"):
        assert pictures.find(name) is None
    assert pictures.find("none.jpg", "A.jpg") == tmp_path / "one" / "A.JPG"


def test_no_picture_stands_in_for_one_of_another_folder(tmp_path: Path) -> None:
    """The same name in two folders is two pictures."""
    for name in ("cam1/1.jpg", "cam2/2.jpg", "cam3/2.jpg", "cam3/deep/3.jpg"):
        write_picture(tmp_path / name)
    pictures = Pictures([tmp_path, *(tmp_path / f"cam{n}" for n in (1, 2, 3))])
    with pytest.raises(
        SightlineError, match=r"^here: no picture cam2/1\.jpg \(looked in [^,]*cam2\)$"
    ):
        pictures.need("here", "cam2/1.jpg")
    with pytest.raises(
        SightlineError, match=r"/x/2\.jpg \(which of .*cam2/2\.jpg, .*cam3/2\.jpg is"
    ):
        pictures.need("here", "/x/2.jpg")
    assert pictures.find("/x/1.jpg") == tmp_path / "cam1" / "1.jpg"


def test_a_missing_photo_is_not_that_of_another_camera(tmp_path: Path) -> None:
    told = coco_document(2)
    names = "cam1/0001.png", "cam2/0001.png"
    for listed, name in zip(told["images"], names, strict=True):
        listed["file_name"] = name
    write_json(tmp_path / "val.json", told)
    for name in (*names, "cam2/0002.png"):
        write_picture(tmp_path / "images" / name)
    assert [Path(open_split(tmp_path, "val").path(i)).parts[-2] for i in (0, 1)] == [
        "cam1",
        "cam2",
    ]
    (tmp_path / "images" / names[1]).unlink()
    with pytest.raises(SightlineError, match=r"1 of 2 pictures that are not there: cam2/0001\.png"):
        open_split(tmp_path, "val")


@pytest.mark.parametrize("maps", ["SegmentationClass", "SegmentationObject", "gt", "annot"])
def test_a_missing_photo_is_not_its_map(tmp_path: Path, maps: str) -> None:
    folder = write_voc_folder(tmp_path, {s: voc_xml([("cat", (1, 1, 9, 9))]) for s in "ab"})
    write_picture(folder / maps / "b.png")
    (folder / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(SightlineError, match=r"b\.xml: no picture b\.\*"):
        open_split(folder, "all")
    write_picture(tmp_path / "with_mask" / "b.jpg")  # a class, not a map
    assert tmp_path / "with_mask" in picture_folders([tmp_path])


def test_all_files_of_a_kind(tmp_path: Path) -> None:
    """The first few are looked into; where one is right, all the others count."""
    for number in range(12):
        (tmp_path / f"{number:02}.txt").write_text("right" if number in (7, 11) else "wrong")

    def right(file: Path) -> bool:
        return file.read_text() == "right"

    found = list(of_kind(tmp_path, "*.txt", right))
    assert [file.name for file in found] == ["07.txt", "11.txt"]
    (tmp_path / "07.txt").unlink()
    (tmp_path / "08.txt").write_text("right")  # the eighth that is left
    assert len(list(of_kind(tmp_path, "*.txt", right))) == 2
    (tmp_path / "000.txt").touch()
    assert not list(of_kind(tmp_path, "*.txt", right))


def cvat_parts(folder: Path, name: str) -> None:
    write_cvat(folder, document(image(box(), name=f"{name}.jpg")), f"{name}.jpg")
    (folder / "annotations.xml").rename(folder / f"{name}.xml")


def labelstudio_parts(folder: Path, name: str) -> None:
    write_picture(folder / "images" / f"{name}.jpg")
    write_export(folder, task(rectangle(), image=f"{name}.jpg", id=name), name=f"{name}.json")


def jsonlines_parts(folder: Path, name: str) -> None:
    write_lines(folder, record(BOX, name=f"{name}.jpg"), name=f"{name}-of-12.jsonl")
    write_picture(folder / "images" / f"{name}.jpg")


def labelme_parts(folder: Path, name: str) -> None:
    write_labelme(folder, SHAPE, name=name)


@pytest.mark.parametrize("write", [cvat_parts, labelstudio_parts, jsonlines_parts, labelme_parts])
def test_every_file_of_a_folder_is_read(tmp_path: Path, write) -> None:
    for number in range(12):
        write(tmp_path, f"part{number}")
    assert len(open_split(tmp_path, "all")) == 12


LONG = "n" * 300  # letters: no file can be called so


def test_what_can_be_no_path_is_no_file(tmp_path: Path) -> None:
    assert not is_file(tmp_path / LONG)
    assert not is_file(Path("a\0b"))
    write_picture(tmp_path / "a.jpg")
    assert Pictures([tmp_path]).find(f"{LONG}/a.jpg") == tmp_path / "a.jpg"
    assert Pictures([tmp_path]).find(f"a/{LONG}.jpg") is None


@pytest.mark.parametrize("name", [f"{LONG}.jpg", f"a/{LONG}.jpg", f"/{LONG}/{LONG}.jpg"])
def test_a_picture_whose_name_can_be_no_path(tmp_path: Path, name: str) -> None:
    told = coco_document(1)
    told["images"][0]["file_name"] = name
    write_json(tmp_path / "coco" / "val.json", told)
    write_lines(tmp_path / "lines", record(BOX, file_name=name))
    write_cvat(tmp_path / "cvat", document(image(box(), name=name)))
    write_export(tmp_path / "studio", task(rectangle(), image=name))
    write_labelme(tmp_path / "labelme", SHAPE, imagePath=name)
    (tmp_path / "labelme" / "a.jpg").unlink()
    for layout in ("coco", "lines", "cvat", "studio", "labelme"):
        with pytest.raises(SightlineError, match=f"{LONG}.jpg"):
            open_split(tmp_path / layout, "val" if layout == "coco" else "all")


def test_an_absolute_name_is_one_line_or_leads_into_the_data_set(tmp_path: Path) -> None:
    elsewhere = write_picture(tmp_path / "elsewhere" / "x.jpg")
    folder = tmp_path / "set"
    write_picture(folder / "images" / "a.jpg")
    write_cvat(folder, document(image(box(), name=str(folder / "images" / "a.jpg"))))
    assert open_split(folder, "all").path(0) == folder / "images" / "a.jpg"
    write_cvat(folder, document(image(box(), name=str(elsewhere))))
    with pytest.raises(SightlineError, match=r"image 0: no picture /.*x\.jpg \(looked in"):
        open_split(folder, "all")


def test_folders_that_may_not_be_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the lost+found of a disk; root may look into all."""
    (tmp_path / "lost+found").mkdir()
    iterdir = Path.iterdir

    def closed(path: Path) -> Iterator[Path]:
        if path.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", closed)
    write_coco_folder(tmp_path, coco_document(3), "val")
    assert len(open_split(tmp_path, "val")) == 3
    with pytest.raises(SightlineError, match="no known layout"):
        open_split(tmp_path / "lost+found", "all")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_lines_and_their_numbers(tmp_path: Path, ending: str) -> None:
    """A line may hold any other of Unicode's line ends, as JSON does."""
    text = ending.join([" a", "", json.dumps("b\u2028c", ensure_ascii=False), ""])
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_lines(tmp_path / "a.txt") == [(1, "a"), (3, '"b\u2028c"')]
