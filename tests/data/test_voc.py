from pathlib import Path
from typing import Any

import pytest

from sightline.data.folder import open_dataset, open_split
from sightline.data.packed import Dataset, DataWarning
from sightline.errors import SightlineError
from tests.data.samples import voc_xml, write_picture, write_voc_folder

CAT = [("cat", (1, 1, 60, 40))]


def opened(tmp_path: Path, *things: tuple[str, tuple[Any, ...]], **options: str) -> Dataset:
    return open_split(write_voc_folder(tmp_path, {"a": voc_xml(things, **options)}), "all")


def test_pixels_counted_from_one_become_continuous(tmp_path: Path) -> None:
    data = opened(tmp_path, ("cat", (1, 1, 60, 40)), ("ant", (11, 21, 11.5, "22.0")))
    scene = data.scene(0)
    # the whole picture; then 10..11.5 across and 20..22 down
    assert scene.things.boxes.tolist() == [[0, 0, 60, 40], [10, 20, 11.5, 22]]
    assert data.classes.names == ("ant", "cat")
    assert scene.things.labels.tolist() == [1, 0]
    assert scene.image_id == "a"
    assert scene.size == (40, 60)
    assert scene.path == str(tmp_path / "JPEGImages" / "a.jpg")


def test_difficult_is_ignored_and_truncated_is_kept(tmp_path: Path) -> None:
    tags = "<difficult>1</difficult><truncated>1</truncated>"
    things = opened(tmp_path, *CAT, tags=tags).scene(0).things
    assert things.ignore.tolist() == [True]
    assert things.difficult.tolist() == [True]
    assert things.extra["difficult"].tolist() == things.extra["truncated"].tolist() == [True]
    plain = opened(tmp_path / "plain", *CAT).scene(0).things
    assert plain.ignore.tolist() == plain.extra["truncated"].tolist() == [False]


def test_boxes_counted_from_zero_and_slips_of_the_mouse(tmp_path: Path) -> None:
    with pytest.warns(DataWarning, match="1 box without area dropped, 2 boxes reaching outside"):
        data = opened(tmp_path, ("a", (0, 0, 9, 9)), ("a", (50, 30, 61, 40)), ("a", (7, 7, 7, 7)))
    assert data.scene(0).things.boxes.tolist() == [[0, 0, 9, 9], [49, 29, 60, 40]]


def test_a_part_of_a_thing_is_no_thing(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>2</xmin></bndbox></part>"
    data = opened(tmp_path, *CAT, tags=part)
    assert data.classes.names == ("cat",)
    assert data.scene(0).things.boxes.tolist() == [[0, 0, 60, 40]]


def test_pictures_without_objects_are_kept(tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path, {"a": voc_xml([]), "b": voc_xml(CAT)})
    data = open_split(folder, "all")
    assert [len(data.scene(i).things) for i in range(2)] == [0, 1]


def test_split_files(tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path, {stem: voc_xml([(stem, (1, 1, 9, 9))]) for stem in "abc"})
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("c\na\n")
    (lists / "val.txt").write_text("b  1\n\n")
    (lists / "cat_train.txt").write_text("a  1\nb -1\n")
    train, val = open_dataset(folder)
    assert [train.scene(i).image_id for i in range(len(train))] == ["c", "a"]
    assert [val.scene(i).image_id for i in range(len(val))] == ["b"]
    assert train.classes == val.classes
    assert train.classes.names == ("a", "b", "c")  # of all files


def test_a_list_that_names_nothing_or_nobody(tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path, {"a": voc_xml(CAT), "b": voc_xml(CAT)})
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nz\n")
    (lists / "val.txt").write_text("\n")
    with pytest.raises(
        SightlineError, match=r"the list of train .* names z, but there is no .*z\.xml"
    ):
        open_dataset(folder)
    with pytest.raises(SightlineError, match=r"the list of val .* is empty"):
        open_split(folder, "val")


def test_a_list_of_files_in_place_of_stems(tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path, {stem: voc_xml(CAT) for stem in ("a", "b.v1", "c")})
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("JPEGImages/a.jpg\nb.v1\n")
    (lists / "val.txt").write_text("C:\\photos\\c.JPG\n")
    train, val = open_dataset(folder)
    assert [train.scene(i).image_id for i in range(len(train))] == ["a", "b.v1"]
    assert val.scene(0).image_id == "c"
    (lists / "val.txt").write_bytes("é\n".encode("latin-1"))
    with pytest.raises(SightlineError, match=r"val\.txt: not a text in UTF-8"):
        open_dataset(folder)


@pytest.mark.parametrize("filename", ["a.jpg", "a.PNG", "wrong.jpg", "C:\\photos\\a.jpg", ""])
def test_pictures_are_found_by_stem(tmp_path: Path, filename: str) -> None:
    folder = write_voc_folder(
        tmp_path, {"a": voc_xml(CAT, filename=filename), "wrong2": voc_xml([])}
    )
    assert open_split(folder, "all").scene(0).path == str(folder / "JPEGImages" / "a.jpg")


def test_the_name_inside_where_the_stem_leads_nowhere(tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path, {"a": voc_xml(CAT, filename="Photo.JPEG")})
    (folder / "JPEGImages" / "a.jpg").rename(folder / "JPEGImages" / "photo.jpeg")
    assert open_split(folder, "all").scene(0).path.endswith("photo.jpeg")


def test_flat_folder_and_split_folders(tmp_path: Path) -> None:
    """XML beside its picture, as labelling tools leave it; the same name in two splits."""
    for split in ("train", "valid"):
        write_picture(tmp_path / "data" / split / "a.JPG", 40, 60)
        (tmp_path / "data" / split / "a.xml").write_text(voc_xml([(split, (1, 1, 9, 9))]))
    train, val = open_dataset(tmp_path / "data")
    assert train.scene(0).path == str(tmp_path / "data" / "train" / "a.JPG")
    assert val.scene(0).path == str(tmp_path / "data" / "valid" / "a.JPG")
    assert train.classes.names == ("train", "valid")
    flat = open_split(tmp_path / "data" / "train", "all")
    assert flat.scene(0).path == train.scene(0).path
    (tmp_path / "data" / "train" / "a.JPG").unlink()  # the other a.JPG is no substitute
    with pytest.raises(SightlineError, match=r"a\.xml: no picture a\.\*"):
        open_dataset(tmp_path / "data")


def test_masks_are_not_taken_for_pictures(tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path, {"a": voc_xml(CAT)})
    for name in ("SegmentationClass", "Masks", "labels"):
        write_picture(folder / name / "a.png")
    with pytest.warns(DataWarning, match="label maps are not read beside the XML: Segmenta"):
        assert open_split(folder, "all").scene(0).path.endswith("JPEGImages/a.jpg")


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<annotation><object></annotation>", r"a\.xml, line 1, column 23: broken XML"),
        ("", r"a\.xml, line 1, column 1: broken XML"),
        (voc_xml([("", (1, 1, 2, 2))]), r"a\.xml: an object without a <name>"),
        (voc_xml([("cat", (1, 1, 2, "x"))]), r"a\.xml: an object cat without a <bndbox> of four"),
        (voc_xml([("cat", (1, 1, 2, "nan"))]), "without a <bndbox> of four"),
        (voc_xml(CAT).replace("<width>60", "<width>wide"), "<size> is not in whole numbers"),
        (voc_xml(CAT).replace("<width>60", "<width>" + 30 * "9"), "beyond any picture's"),
        (f'<?xml version="1.0" encoding="gb2312"?>{voc_xml(CAT)}', r"a\.xml: its encoding cannot"),
        (f'<?xml version="1.0" encoding="elvish"?>{voc_xml(CAT)}', r"a\.xml: its encoding cannot"),
        (voc_xml([]), "has no annotations: no object in 1 XML files"),
    ],
)
def test_flaws_are_named(tmp_path: Path, xml: str, message: str) -> None:
    folder = write_voc_folder(tmp_path, {"a": xml})
    with pytest.raises(SightlineError, match=message) as error:
        open_split(folder, "all")
    assert "\n" not in str(error.value)


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path, {"a": voc_xml(CAT, filename="b.jpg")})
    (folder / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(SightlineError, match=r"a\.xml: no picture a\.\* or b\.jpg \(looked in"):
        open_split(folder, "all")


def test_sizes_from_the_picture_where_the_xml_says_zero(tmp_path: Path) -> None:
    xml = voc_xml(CAT).replace("<width>60", "<width>0")
    assert open_split(write_voc_folder(tmp_path, {"a": xml}), "all").size(0) == (40, 60)


def test_real_cells_and_cards(real_data: Path) -> None:
    with pytest.warns(DataWarning, match="2 boxes without area dropped"):
        train, val = open_dataset(real_data / "det_bccd")
    assert (len(train), len(val)) == (205, 87)
    assert train.classes.names == ("Platelets", "RBC", "WBC")
    train, val = open_dataset(real_data / "det_cards")
    assert (len(train), len(val)) == (237, 59)
    assert {Path(train.scene(i).path).suffix for i in range(237)} == {".JPG", ".jpg"}


def test_a_picture_listed_twice_counts_once(tmp_path: Path) -> None:
    root = write_voc_folder(tmp_path, {stem: voc_xml([("cat", (1, 1, 9, 9))]) for stem in "ab"})
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\na\n")
    (lists / "val.txt").write_text("b\n")
    with pytest.warns(DataWarning, match="the list of train names 1 pictures again"):
        train = open_dataset(root).train
    assert [train.scene(i).image_id for i in range(len(train))] == ["a"]
