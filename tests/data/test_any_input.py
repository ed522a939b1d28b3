"""Whatever stands in a file: a sound data set or picture, or one line that names the file.
``benchmarks/bad_input.py`` does the same with thousands of spoiled files."""

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.bad_cases import check
from sightline import weights
from sightline.data import images
from sightline.data.folder import open_dataset
from sightline.data.images import image_size, read_image
from sightline.data.packed import Packed
from sightline.data.records import load_json
from sightline.errors import SightlineError
from tests.data.samples import coco_document, voc_xml, write_coco_folder, write_voc_folder

# The folder is the same for all examples: each writes the files it reads anew.
few = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text(st.characters(exclude_categories=()), max_size=8)  # lone surrogates, too
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner),
    max_leaves=8,
)


def read_or_named(read: Callable[[Path], Any], path: Path) -> Any:
    """What is read; or nothing, and the line names the path."""
    with warnings.catch_warnings():  # of what is mended, and Pillow's of its own
        warnings.simplefilter("ignore")
        try:
            return read(path)
        except SightlineError as error:
            told = str(error)
    assert str(path) in told
    assert "\n" not in told
    return None


def look(folder: Path) -> None:
    """Read a data set; it is sound, or one line names its folder."""
    for split in read_or_named(open_dataset, folder) or ():
        assert isinstance(split, Packed)
        check(split)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return write_coco_folder(tmp_path, coco_document(3))


PLACES = [
    *[("images", key) for key in ("id", "file_name", "height", "width")],
    *[("annotations", key) for key in ("id", "image_id", "category_id", "bbox", "area")],
    *[("annotations", key) for key in ("iscrowd", "segmentation", "keypoints")],
    *[("categories", key) for key in ("id", "name", "keypoints", "skeleton", "supercategory")],
]


@few
@given(place=st.sampled_from(PLACES), value=anything)
def test_any_value_in_a_coco_record(coco: Path, place: tuple[str, str], value: Any) -> None:
    document = copy.deepcopy(coco_document(3))
    document[place[0]][0][place[1]] = value
    (coco / "annotations" / "train.json").write_text(json.dumps(document))
    look(coco)


@few
@given(key=st.sampled_from(["images", "annotations", "categories"]), value=anything)
def test_any_value_in_place_of_cocos_records(coco: Path, key: str, value: Any) -> None:
    document = coco_document(3) | {key: value}
    (coco / "annotations" / "train.json").write_text(json.dumps(document))
    look(coco)


@few
@given(numbers=st.lists(st.floats() | st.integers(), max_size=9))
def test_any_numbers_as_a_box_or_polygon(coco: Path, numbers: list[float]) -> None:
    document = coco_document(3)
    document["annotations"][0] |= {"bbox": numbers[:4]}
    document["annotations"][1] |= {"segmentation": [numbers], "bbox": []}
    (coco / "annotations" / "train.json").write_text(json.dumps(document))
    look(coco)


@few
@given(data=st.binary(max_size=200))
def test_any_bytes_as_json_or_xml(coco: Path, data: bytes) -> None:
    (coco / "annotations" / "train.json").write_bytes(data)
    look(coco)
    voc = write_voc_folder(coco / "voc", {stem: voc_xml([("cat", (1, 1, 9, 9))]) for stem in "ab"})
    (voc / "Annotations" / "a.xml").write_bytes(data)
    look(voc)


@few
@given(words=st.lists(st.text(st.characters(categories=["L", "N", "P"])), min_size=5, max_size=5))
def test_any_words_in_a_voc_record(tmp_path: Path, words: list[str]) -> None:
    escaped = [word.replace("&", "").replace("<", "") for word in words]
    xml = voc_xml(
        [(escaped[0], (1, 1, *escaped[1:3]))], escaped[3], f"<difficult>{escaped[4]}</difficult>"
    )
    look(write_voc_folder(tmp_path, {"a": xml, "b": voc_xml([("cat", (1, 1, 9, 9))])}))


STARTS = [
    b"",
    b"\xff\xd8\xff\xe0",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"RIFF\x00\x01\x00\x00WEBP",
    b"BM",
]
STARTS += [b"II*\x00", b"P6 3 3 255\n", b"\x00\x00\x00 ftypavif", b"\x80\x02", b"PK\x03\x04"]


@few
@pytest.mark.parametrize("torchcodec", [True, False])
@given(start=st.sampled_from(STARTS), data=st.binary(max_size=300))
def test_any_bytes_as_a_picture_or_checkpoint(
    tmp_path: Path, torchcodec: bool, start: bytes, data: bytes
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(start + data)
    with pytest.MonkeyPatch.context() as patch:
        if not torchcodec:
            patch.setattr(images, "torchcodec_decoder", lambda: None)
        for read in (read_image, image_size, weights.read):
            read_or_named(read, path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("[" + "9" * 5000 + "]", "a number of too many digits"),
        ("[1,", "line 1, column 4: broken JSON"),
    ],
)
def test_json_beyond_the_parser_is_one_line(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(SightlineError, match=rf"a\.json.*{told}"):
        load_json(path)


def test_a_bom_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert load_json(tmp_path / "a.json") == [1]
