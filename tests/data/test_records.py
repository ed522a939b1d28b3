"""A flaw in a record of any format: one line for who trains, a note of file and record for the
doctor, and the records beside it are read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.data.doctor import doctor
from sightline.data.folder import open_split
from sightline.errors import SightlineError
from tests.data.samples import voc_xml, write_picture, write_voc_folder
from tests.data.test_cvat import box, document, image, shape, write_cvat
from tests.data.test_jsonlines import BOX, record, write_lines
from tests.data.test_labelme import BOX as SHAPE
from tests.data.test_labelme import write_labelme
from tests.data.test_labelstudio import rectangle, task, write_export
from tests.data.test_yolo import YAML, write_yolo_files

Write = Callable[[Path], Any]


def yolo(*lines: str, **files: str) -> Write:
    """Pictures a and b, of which a has these lines; other texts by their names."""
    told = {"labels/b.txt": "0 0.5 0.5 0.2 0.2\n", "labels/a.txt": "\n".join(lines)}
    told |= {f"{name}.txt": text for name, text in files.items()}
    yaml = YAML.replace("val: images\n", "").replace("images", "list.txt" if files else "images")
    return lambda root: write_yolo_files(root, told | {"data.yaml": yaml}, *PAIR)


PAIR = "images/a.png", "images/b.png"
GOOD = "0 0.5 0.5 0.2 0.2"


def no_label_file(root: Path) -> None:
    yolo(GOOD)(root)
    (root / "labels" / "a.txt").write_bytes(b"\xff\xff")


def no_yolo_picture(root: Path) -> None:
    yolo(GOOD)(root)
    (root / "images" / "a.png").write_text("none")


def voc(text: str) -> Write:
    good = voc_xml([("cat", (1, 1, 9, 9))])
    return lambda root: write_voc_folder(root, {"a": text, "b": good})


def labelme(*shapes: Any, **fields: Any) -> Write:
    """Two pictures, of which a has these shapes."""

    def write(root: Path) -> None:
        write_labelme(root, *shapes, **fields)
        write_labelme(root, SHAPE, name="b")

    return write


def damaged_labelme(data: bytes) -> Write:
    def write(root: Path) -> None:
        labelme(SHAPE)(root)
        (root / "a.json").write_bytes(data)

    return write


def no_labelme_picture(root: Path) -> None:
    labelme(SHAPE)(root)
    (root / "a.jpg").unlink()


def cvat(*shapes: str, name: str = "a.jpg") -> Write:
    pictures = image(*shapes, name=name), image(box(), name="b.jpg", number=1)
    return lambda root: write_cvat(root, document(*pictures), "a.jpg", "b.jpg")


def broken_cvat(text: str) -> Write:
    def write(root: Path) -> None:
        write_cvat(root, document(image(box())))
        head = "<annotations><meta></meta>"
        (root / "more.xml").write_text(head + text)

    return write


def labelstudio(*regions: Any, **fields: Any) -> Write:
    """Two tasks, of which the first, 7, has these regions."""

    def write(root: Path) -> None:
        write_picture(root / "images" / "b.jpg")
        write_export(root, task(*regions, **fields), task(rectangle(), image="b.jpg", id=8))

    return write


def broken_labelstudio(root: Path) -> None:
    labelstudio(rectangle())(root)
    (root / "more.json").write_text('[{"annotations": [{"result": [')


def jsonlines(*things: Any, **fields: Any) -> Write:
    good = record(BOX, name="b.jpg")
    return lambda root: write_lines(root, record(*things, **fields), good)


def broken_line(text: str) -> Write:
    def write(root: Path) -> None:
        jsonlines(BOX)(root)
        with (root / "data.jsonl").open("a") as file:
            file.write(text)

    return write


def index_png(change: Write, dtype: type = np.uint8) -> Write:
    """Pictures and maps a and b."""

    def write(root: Path) -> None:
        for name, value in (("a", 1), ("b", 2)):
            write_picture(root / "images" / f"{name}.jpg")
            (root / "masks").mkdir(exist_ok=True)
            pixels = np.zeros((40, 60), dtype)
            pixels[5:20, 6:30] = value
            Image.fromarray(pixels).save(root / "masks" / f"{name}.png")
        change(root)

    return write


def torn_map(root: Path) -> None:
    (root / "masks" / "a.png").write_bytes(b"\x89PNG")


def no_map_picture(root: Path) -> None:
    (root / "images" / "a.jpg").unlink()


HALF_RUNS = shape("mask", rle="1.5, 2.5", left=0, top=0, width=2, height=2)
FAR = dict(BOX, category_id="x")
FLAWS: list[tuple[str, Write, str, str, str, str]] = [
    ("yolo", yolo("0 0.5"), "broken-record", "labels/a.txt", "line 1", "has 1 numbers"),
    ("yolo", yolo(GOOD, "9" + GOOD[1:]), "unknown-class", "labels/a.txt", "line 2", "of class 9"),
    ("yolo", no_label_file, "broken-record", "labels/a.txt", "", "not a text in UTF-8"),
    ("yolo", no_yolo_picture, "unreadable-picture", "images/a.png", "", "cannot read"),
    (
        *("yolo", yolo(GOOD, list="images/b.png\n\nimages/c.png\nimages/a.png")),
        *("missing-picture", "list.txt", "line 3", "no picture images/c.png"),
    ),
    (
        *("voc", voc(voc_xml([("cat", (1, 1, 9, 9))], tags="<difficult>maybe</difficult>"))),
        *("broken-record", "Annotations/a.xml", "object 1", "<difficult> that is neither 0 nor 1"),
    ),
    (
        *("labelme", labelme(SHAPE, SHAPE | {"shape_type": "cube"})),
        *("broken-record", "a.json", "shape 2", "is of an unknown kind"),
    ),
    ("labelme", no_labelme_picture, "missing-picture", "a.json", "", "no picture a.jpg"),
    *(
        ("labelme", damaged_labelme(data), "broken-record", "a.json", "", told)
        for data, told in (
            (b"", "broken JSON"),
            (b'{"version": "5.5.0", "shapes": [{"la', "broken JSON"),
            ('{"shapes": [], "imagePath": "a.jpg"}'.encode("utf-16"), "broken JSON"),
            (b"{}", 'has no list of "shapes"'),
        )
    ),
    (
        *("cvat", cvat(box(), shape("polygon", points="1,2;3,4"))),
        *("broken-record", "annotations.xml", "image 0, shape 2", "is a polygon of 2 points"),
    ),
    (
        *("cvat", cvat(HALF_RUNS)),
        *("broken-record", "annotations.xml", "image 0, shape 1", "no list of whole numbers"),
    ),
    (
        *("cvat", cvat(box(), box("cow"))),
        *("unknown-class", "annotations.xml", "image 0, shape 2", "label that is not listed: cow"),
    ),
    (
        *("cvat", cvat(box(), name="c.jpg")),
        *("missing-picture", "annotations.xml", "image 0", "no picture c.jpg (looked in"),
    ),
    ("cvat", broken_cvat("<image>"), "broken-record", "more.xml", "", "broken XML"),
    (
        *("cvat", broken_cvat("<track></track></annotations>")),
        *("broken-record", "more.xml", "", "has tracks of a video"),
    ),
    (
        *("labelstudio", labelstudio(rectangle(), dict(rectangle(width="x"), id="r2"))),
        *("broken-record", "export.json", "task 7, region r2", "no list of numbers"),
    ),
    (
        *("labelstudio", labelstudio(rectangle(), image="/x/c.jpg")),
        *("missing-picture", "export.json", "task 7", "no picture /x/c.jpg (looked in"),
    ),
    ("labelstudio", broken_labelstudio, "broken-record", "more.json", "", "broken JSON"),
    (
        *("jsonlines", jsonlines(BOX, dict(BOX, bbox=[1]))),
        *("broken-record", "data.jsonl", "line 1, annotation 2", "has a bbox of 1 numbers"),
    ),
    (
        *("jsonlines", jsonlines(BOX, file_name="c.jpg")),
        *("missing-picture", "data.jsonl", "line 1", "no picture c.jpg (looked in"),
    ),
    (
        *("jsonlines", jsonlines(BOX, pan_seg_file_name="c.png", segments_info=[])),
        *("broken-record", "data.jsonl", "line 1, its maps", "pan_seg_file_name that is not there"),
    ),
    ("jsonlines", broken_line("{"), "broken-record", "data.jsonl", "line 3", "broken JSON"),
    ("jsonlines", broken_line("3"), "broken-record", "data.jsonl", "line 3", "is no record"),
    (
        *("jsonlines", broken_line(json.dumps(record(name="b.jpg", image_id="a.jpg")))),
        *("duplicate-id", "data.jsonl", "line 3", "have one id, a.jpg"),
    ),
    ("index_png", index_png(torn_map), "unreadable-map", "masks/a.png", "", "cannot read"),
    (
        *("index_png", index_png(torn_map, np.uint16)),
        *("unreadable-map", "masks/a.png", "", "cannot read"),
    ),
    (
        *("index_png", index_png(no_map_picture)),
        *("missing-picture", "masks/a.png", "", "no picture a.* (looked in"),
    ),
]


@pytest.mark.filterwarnings("ignore::sightline.data.packed.DataWarning")
@pytest.mark.parametrize("case", FLAWS, ids=[f"{c[0]}: {c[2]}: {c[5]}" for c in FLAWS])
def test_each_flaw_is_a_line_and_a_note(tmp_path: Path, case: Any) -> None:
    _, write, kind, file, name, told = case
    write(tmp_path)
    found = doctor(tmp_path)
    (flaw,) = [flaw for flaw in found.flaws if flaw.severity in ("error", "unusable")]
    assert (flaw.kind, flaw.file, flaw.record) == (kind, file, name)
    assert told in flaw.message
    assert sum(summary.pictures for summary in found.splits.values()) > 0
    with pytest.raises(SightlineError) as error:
        open_split(tmp_path, "train" if (tmp_path / "data.yaml").exists() else "all", val=0.5)
    assert all(word in str(error.value) for word in (file, told))


@pytest.mark.parametrize("word", ["", "0", "Unspecified", "no", "FALSE", " 1 ", "true", "Yes"])
def test_words_for_difficult(tmp_path: Path, word: str) -> None:
    tags = f"<difficult>{word}</difficult>"
    folder = write_voc_folder(tmp_path, {"a": voc_xml([("cat", (1, 1, 9, 9))], tags=tags)})
    difficult = word.strip().lower() in ("1", "true", "yes")
    things = open_split(folder, "all").scene(0).things
    assert things.ignore.tolist() == things.difficult.tolist() == [difficult]
