"""YOLO's text files read: every layout, every kind of line, every mistake in one line."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sightline.data.folder import named_split, open_dataset, open_split, open_splits
from sightline.data.packed import Dataset, DataWarning
from sightline.errors import SightlineError
from sightline.ops.masks import rasterise
from sightline.types import Instances
from tests.data.samples import write_picture
from tests.data.test_any_input import read_or_named

BOX = "1 0.5 0.25 0.5 0.1"  # of 60 x 40: centre at 30, 10; 30 wide, 4 high
YAML = "train: images\nval: images\nnames: [cat, dog]\n"


def write_yolo_files(root: Path, files: dict[str, str], *pictures: str) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    for name in pictures:
        write_picture(root / name)
    return root


def opened(tmp_path: Path, *lines: str, yaml: str = YAML) -> Dataset:
    """A data set of one picture of 60 x 40 with these lines."""
    files = {"data.yaml": yaml, "labels/a.txt": "\n".join(lines)}
    return open_split(write_yolo_files(tmp_path, files, "images/a.png"), "val")


def things(tmp_path: Path, *lines: str, yaml: str = YAML) -> Instances:
    return opened(tmp_path, *lines, yaml=yaml).scene(0).things


def test_boxes_by_centre_and_size(tmp_path: Path) -> None:
    data = opened(tmp_path, BOX, "", "0.0  0.5 0.5 1 1  ")
    assert data.classes.names == ("cat", "dog")
    scene = data.scene(0)
    assert scene.things.boxes.tolist() == [[15, 8, 45, 12], [0, 0, 60, 40]]
    assert scene.things.labels.tolist() == [1, 0]
    assert scene.things.masks is None
    assert scene.things.keypoints is None
    assert (scene.size, scene.image_id) == ((40, 60), "a")
    assert not scene.things.ignore.any()


def test_polygons_and_boxes_in_one_file(tmp_path: Path) -> None:
    found = things(tmp_path, "0 0.1 0.1 0.4 0.1 0.4 0.5 0.1 0.5", BOX)
    assert found.boxes.tolist() == [[6, 4, 24, 20], [15, 8, 45, 12]]
    square, nothing = rasterise(found.masks, (40, 60))
    expected = torch.zeros(40, 60, dtype=torch.bool)
    expected[4:20, 6:24] = True
    assert square.equal(expected)
    assert not nothing.any()


def test_a_polygon_with_a_bridge_has_a_hole(tmp_path: Path) -> None:
    """The square from 0, 0 to 30, 30; there and back to the hole from 6, 10 to 12, 20."""
    hole = "0 0  0.1 0.25  0.1 0.5  0.2 0.5  0.2 0.25  0.1 0.25  0 0"
    (mask,) = rasterise(things(tmp_path, f"0 {hole}  0.5 0  0.5 0.75  0 0.75").masks, (40, 60))
    expected = torch.zeros(40, 60, dtype=torch.bool)
    expected[:30, :30] = True
    expected[10:20, 6:12] = False
    assert mask.equal(expected)


@pytest.mark.parametrize(
    ("shape", "points", "expected"),
    [
        ("[2, 3]", "0.5 0.5 1 0 0 0", [[30, 20, 1], [0, 0, 0]]),
        ("[2, 2]", "0.5 0.5 0 0", [[30, 20, 2], [0, 0, 0]]),  # 0, 0 means that it is not labelled
        ("[2, 3]", "", [[0, 0, 0], [0, 0, 0]]),
    ],
)
def test_keypoints(shape: str, points: str, expected: list[list[float]], tmp_path: Path) -> None:
    data = opened(tmp_path, f"{BOX} {points}", yaml=f"{YAML}kpt_shape: {shape}\n")
    assert data.scene(0).things.keypoints.tolist() == [expected]
    assert data.scene(0).things.boxes.tolist() == [[15, 8, 45, 12]]
    assert data.classes.keypoints == ("keypoint_0", "keypoint_1")
    assert data.classes.mirrored == (0, 1)


def test_names_and_mirror_of_keypoints(tmp_path: Path) -> None:
    told = f"{YAML}kpt_shape: [3, 3]\nflip_idx: [1, 0, 2]\n"
    assert opened(tmp_path / "a", BOX, yaml=told).classes.mirrored == (1, 0, 2)
    named = f"{YAML}kpt_shape: [2, 3]\nkpt_names:\n  0: [left_ear, right_ear]\n"
    classes = opened(tmp_path / "b", BOX, yaml=named).classes
    assert classes.keypoints == ("left_ear", "right_ear")
    assert classes.mirrored == (1, 0)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("names: [no, 1, null]", ("no", "1", "null")),  # as they stand there
        ("names:\n  1: b\n  0: a\nnc: 2", ("a", "b")),
        ("nc: 3", ("class_0", "class_1", "class_2")),
        ("names:\n- a\n- ~", ("a", "~")),
    ],
)
def test_names_in_yaml(names: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    yaml = f"# kept in git\ntrain: images\nval: images\ntest:  # none\n{names}\n"
    assert opened(tmp_path, BOX, yaml=yaml).classes.names == expected


def test_pictures_without_labels_have_no_things(tmp_path: Path) -> None:
    files = {"data.yaml": YAML, "labels/a.txt": BOX, "labels/b.txt": ""}
    pictures = [f"images/{name}.png" for name in "abc"]
    data = open_split(write_yolo_files(tmp_path, files, *pictures), "val")
    assert [len(data.scene(i).things) for i in range(3)] == [1, 0, 0]


def layout(yaml: str, *splits: tuple[str, str]) -> tuple[dict[str, str], list[str]]:
    """The files and pictures of splits with their folders of pictures and of labels."""
    files = {f"{labels}/{i}.txt": BOX for i, (_, labels) in enumerate(splits)}
    return files | ({"data.yaml": yaml} if yaml else {}), [
        f"{images}/{i}.png" for i, (images, _) in enumerate(splits)
    ]


ULTRALYTICS = [("images/train", "labels/train"), ("images/val", "labels/val")]
ROBOFLOW = [("train/images", "train/labels"), ("valid/images", "valid/labels")]
NAMES = "names: [cat, dog]\n"
CLASSES = {"classes.txt": "cat\ndog\n"}


@pytest.mark.parametrize(
    ("files", "pictures"),
    [
        layout(f"path: .\ntrain: images/train\nval: images/val\n{NAMES}", *ULTRALYTICS),
        layout(f"path: /content/it\ntrain: images/train\nval: images/val\n{NAMES}", *ULTRALYTICS),
        layout(f"train: [/data/images/train]\nval: ./images/val/\n{NAMES}", *ULTRALYTICS),
        layout(
            f"train: ../train/images\nval: ../valid/images\ntest: ../test/images\n{NAMES}",
            *ROBOFLOW,
        ),
        layout(f"train: train\nval: valid\n{NAMES}", *ROBOFLOW),  # any depth
        layout(f"train: a\nval: b\n{NAMES}", ("a", "a"), ("b", "b")),  # labels beside pictures
    ],
)
def test_layouts_with_yaml(files: dict[str, str], pictures: list[str], tmp_path: Path) -> None:
    root = write_yolo_files(tmp_path / "set", files, *pictures)
    for given_path in (root, root / "data.yaml"):
        assert named_split(given_path) == "val"
        splits = open_dataset(given_path)
        assert [Path(data.scene(0).path).name for data in splits] == ["0.png", "1.png"]
        assert [len(data) for data in splits] == [1, 1]
        assert [len(data.scene(0).things) for data in splits] == [1, 1]


@pytest.mark.parametrize(
    ("files", "pictures"),
    [
        layout("", *ULTRALYTICS),
        layout("", *ROBOFLOW),
        layout("", ("train", "train"), ("val", "val")),
    ],
)
def test_layouts_without_yaml(files: dict[str, str], pictures: list[str], tmp_path: Path) -> None:
    splits = open_dataset(write_yolo_files(tmp_path, files | CLASSES, *pictures))
    assert [Path(data.scene(0).path).name for data in splits] == ["0.png", "1.png"]
    assert splits.train.classes.names == ("cat", "dog")


@pytest.mark.parametrize(
    ("names", "images", "labels"),
    [
        ("classes.txt", "images", "labels"),
        ("labels/classes.txt", "images", "labels"),
        ("obj.names", "obj_train_data", "obj_train_data"),
        ("classes.txt", ".", "."),
    ],
)
def test_one_folder_is_all(names: str, images: str, labels: str, tmp_path: Path) -> None:
    files = {names: "cat\ndog\n", f"{labels}/a.txt": BOX, "notes.json": '{"categories": []}'}
    data = open_split(write_yolo_files(tmp_path, files, f"{images}/a.png"), "all")
    assert data.scene(0).things.labels.tolist() == [1]


def test_lists_of_pictures(tmp_path: Path) -> None:
    """As CVAT writes them, with a folder that is nowhere."""
    files = {
        "obj.names": "cat\ndog",
        "train.txt": "data/obj_train_data/b.png\n\ndata/obj_train_data/a.png\n",
        "valid.txt": "./obj_train_data/c.png\n",
        "obj_train_data/a.txt": BOX,
        "obj_train_data/c.txt": BOX,
    }
    pictures = [f"obj_train_data/{name}.png" for name in "abc"]
    splits = open_dataset(write_yolo_files(tmp_path, files, *pictures))
    named = [[Path(d.scene(i).path).stem for i in range(len(d))] for d in splits]
    assert named == [["b", "a"], ["c"]]
    assert len(splits.train.scene(0).things) == 0


def test_pictures_of_one_name_keep_ids_of_their_own(tmp_path: Path) -> None:
    files = {"data.yaml": YAML, "labels/x/a.txt": BOX}
    data = open_split(write_yolo_files(tmp_path, files, "images/x/a.png", "images/y/a.png"), "val")
    assert [data.scene(i).image_id for i in range(2)] == ["x/a.png", "y/a.png"]


def test_a_folder_with_names_alone_is_no_yolo(tmp_path: Path) -> None:
    """Label maps have classes.txt and pictures too."""
    write_yolo_files(tmp_path, CLASSES, "train/a.png", "val/b.png")
    with pytest.raises(SightlineError, match="no known layout"):
        open_dataset(tmp_path)


def test_boxes_that_reach_outside_are_clipped(tmp_path: Path) -> None:
    with pytest.warns(DataWarning, match="1 box without area dropped, 1 box reaching outside"):
        found = things(tmp_path, "0 0.5 0.5 1.1 0.5", "0 0.5 0.5 0 0.5")
    assert found.boxes.tolist() == [[0, 10, 60, 30]]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("0 0.5 0.5 0.1", "has 3 numbers: 4 are a box, 6, 8, 10 ... a polygon"),
        ("0 0.5 0.5 0.1 0.1 0.9", "has 5 numbers"),
        ("0", "has 0 numbers"),
        ("0 30 20 10 10", "is in pixels"),
        ("cat 0.5 0.5 0.1 0.1", "is not a class and numbers: cat 0.5"),
        ("0 0.5 nan 0.1 0.1", "not finite"),
        ("2 0.5 0.5 0.1 0.1", "of class 2, but there are 2 names"),
        ("-1 0.5 0.5 0.1 0.1", "of class -1"),
        ("0.5 0.5 0.5 0.1 0.1", "of class 0.5"),
    ],
)
def test_a_wrong_line_is_named(line: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=f"labels/a.txt, line 3.*{told}"):
        opened(tmp_path, BOX, "", line)


def test_a_line_with_keypoints_too_few(tmp_path: Path) -> None:
    with pytest.raises(
        SightlineError, match=r"line 1 has 7 numbers: 4 .*, 10 a box with keypoints"
    ):
        opened(tmp_path, f"{BOX} 1 1 1", yaml=f"{YAML}kpt_shape: [2, 3]\n")


@pytest.mark.parametrize(
    ("yaml", "told"),
    [
        ("train: images\nnames: [a\nval: images", "data.yaml, line 3: broken YAML"),
        (f"{YAML}nc: 3", '"nc" is 3, but there are 2 names'),
        (f"{YAML}nc: many", '"nc" is not 1 whole number'),
        ("train: images\nval: images\nnames: [a, a]", '2 classes are called "a"'),
        ("train: images\nval: images\nnames: []", "no name of a class"),
        ("train: images\nval: images\nnames: 5", '"names" is no list of names'),
        ("train: images\nval: images\nnames: [[a]]", '"names" is no list of names'),
        ("train: images\nval: images\nnames: {1: a, 2: b}", "do not count from 0"),
        ("train: images\nval: images\nnames: {a: b}", "not 1 whole number"),
        ("train: images\nval: {a: b}\nnames: [a, b]", '"val" is neither a path nor a list'),
        ("train: images\nval: [[a]]\nnames: [a, b]", '"val" is neither a path nor a list'),
        ("train: images\nval: pictures\nnames: [a, b]", "names .*pictures, which is neither"),
        ("train: images\nval: /\nnames: [a, b]", "names /, which is the whole disk"),
        (f"train: images\nval: {'../' * 40}\nnames: [a, b]", "which is the whole disk"),
        (f"{YAML}kpt_shape: [2, 4]", "kpt_shape"),
        (f"{YAML}kpt_shape: 2", "kpt_shape"),
        (f"{YAML}kpt_shape: [2, 3]\nflip_idx: [1, 1]", "flip_idx"),
        (f"{YAML}extra: {'[' * 500}", "nested too deeply|broken YAML"),
        (f"{YAML}\n\x01", "broken YAML"),
        ("train: images\nval: empty\nnames: [a, b]", "empty, where there is no picture"),
        ("train: images\nval: bare\nnames: [a, b]", "no picture in .*bare has a label file"),
        ("train: images\nval: list.txt\nnames: [a, b]", "list.txt, line 2: no picture gone.png"),
    ],
)
def test_a_wrong_description_is_named(yaml: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_yolo_files(tmp_path, {"list.txt": "\ngone.png"}, "bare/a.png")
    with pytest.raises(SightlineError, match=told):
        opened(tmp_path, BOX, yaml=yaml)


def test_two_descriptions(tmp_path: Path) -> None:
    write_yolo_files(tmp_path, {"a.yaml": YAML, "b.yaml": YAML, "c.yaml": "lr: 1"})
    with pytest.raises(SightlineError, match=r"several descriptions: a.yaml, b.yaml; give the one"):
        open_dataset(tmp_path)


def test_a_test_split_without_labels_is_none(tmp_path: Path) -> None:
    files = {"data.yaml": f"{YAML}test: tests\n", "labels/a.txt": BOX}
    folder = write_yolo_files(tmp_path, files, "images/a.png", "tests/b.png")
    with pytest.warns(DataWarning, match="test is left out: none of its pictures has a label"):
        assert set(open_splits(folder)) == {"train", "val"}
    (folder / "tests" / "b.txt").touch()  # nothing is in it, and somebody has looked
    assert len(open_split(folder, "test")) == 1


def test_the_area_is_the_polygons(tmp_path: Path) -> None:
    """A triangle of 30 x 20 pixels; of a thing without a mask, the box's, 30 x 4."""
    assert things(tmp_path, "0 0 0 0.5 0 0 0.5", BOX).area.tolist() == [300, 120]


def test_labels_that_are_no_text(tmp_path: Path) -> None:
    opened(tmp_path, BOX)
    (tmp_path / "labels" / "a.txt").write_bytes(b"0 0.5 \xff")
    with pytest.raises(SightlineError, match=r"a.txt: not a text in UTF-8"):
        open_split(tmp_path, "val")


LETTERS = st.sampled_from("0 1 . 5 -e\nnan\t[]{}:,&*!'\"imagesvltrncpk_shape#|>")


@given(text=st.text(LETTERS, max_size=60), place=st.integers(0, 90), in_yaml=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_anywhere_is_read_or_refused_in_one_line(
    text: str, place: int, in_yaml: bool, tmp_path: Path
) -> None:
    yaml, line = f"{YAML}kpt_shape: [2, 3]\nflip_idx: [1, 0]\n", f"{BOX} 0.5 0.5 1 0 0 0\n"
    if in_yaml:
        yaml = yaml[:place] + text + yaml[place:]
    else:
        line = line[:place] + text + line[place:]
    found = read_or_named(lambda folder: opened(folder, line, yaml=yaml), tmp_path)
    if found is not None:
        boxes = found.scene(0).things.boxes
        assert boxes.isfinite().all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
