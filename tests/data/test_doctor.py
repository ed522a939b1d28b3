"""For every kind of flaw a data set with that flaw alone, found with its record; and copies that
are clean."""

import json
import resource
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.data.coco import write_coco
from sightline.data.doctor import doctor
from sightline.data.flaws import KINDS, crosses_itself
from sightline.data.folder import open_dataset, open_split
from sightline.data.lookalikes import look_at
from sightline.data.packed import DataWarning
from sightline.data.toybox import toybox_splits
from sightline.data.toybox.folder import write_toybox
from sightline.errors import SightlineError
from sightline.ops.masks import rasterise
from sightline.types import Classes, Panoptic, Segment
from tests.data.flawed import (
    BOW,
    FLAWS,
    Case,
    Make,
    added,
    alike,
    changed,
    clean,
    files,
    noise,
    points,
    thing,
)
from tests.data.samples import (
    InMemory,
    boxes_scene,
    coco_document,
    voc_xml,
    write_json,
    write_voc_folder,
)


@pytest.mark.parametrize("case", FLAWS, ids=[f"{kind}: {told}" for _, kind, _, _, told in FLAWS])
def test_each_flaw_is_found_alone_with_its_record(tmp_path: Path, case: Case) -> None:
    make, kind, file, record, told = case
    make(tmp_path)
    (flaw,) = doctor(tmp_path).flaws
    assert (flaw.kind, flaw.file, flaw.record) == (kind, file, record)
    assert told in flaw.message
    assert "\n" not in flaw.message


def test_every_kind_has_its_flaw() -> None:
    assert {kind for _, kind, _, _, _ in FLAWS} | {"unusable"} == set(KINDS)


def test_the_page_tells_every_kind_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    told = {row[0].strip("| `"): (row[1], row[-1].rstrip(" |")) for row in rows}
    assert told == {
        kind: (severity, mended or "stays") for kind, (severity, _, mended) in KINDS.items()
    }


def test_a_hidden_keypoint_may_lie_beside_its_box(tmp_path: Path) -> None:
    points(5, 7, 2, 20, 8, 1)(tmp_path)
    assert doctor(tmp_path).flaws == []


def test_a_clean_set_has_no_flaw(tmp_path: Path) -> None:
    clean(tmp_path / "cats")
    found = doctor(tmp_path / "cats")
    assert found.flaws == []
    assert found.worst() is None
    assert found.layout == "COCO JSON"
    write_toybox(toybox_splits(12, 4, size=(96, 96)), tmp_path / "toys")
    assert doctor(tmp_path / "toys").flaws == []


def test_label_maps_are_labels(tmp_path: Path) -> None:
    """Two pictures with maps, of which one is all void, and no copy in a format without them."""
    for seed, value in enumerate((1, 2)):
        noise(tmp_path / "images" / f"{seed}.png", seed)
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.full((40, 60), value, np.uint8)).save(tmp_path / "masks" / f"{seed}.png")
    (tmp_path / "classes.txt").write_text("road\nsky\nvoid\n")
    found = doctor(tmp_path)
    assert [flaw.file for flaw in found.flaws if flaw.kind == "unlabelled-picture"] == [
        "images/1.png"
    ]
    assert found.splits["all"].pixels == {"road": 0, "sky": 40 * 60}
    with pytest.raises(SightlineError, match="label maps"):
        doctor(tmp_path, tmp_path.with_name("out"))
    assert not tmp_path.with_name("out").exists()


def test_one_file_is_examined_with_its_siblings(tmp_path: Path) -> None:
    changed(lambda d: d["annotations"].pop(1))(tmp_path)
    (flaw,) = doctor(tmp_path / "annotations" / "train.json").flaws
    assert flaw.kind == "unlabelled-picture"
    assert flaw.file.endswith("train/1.png")


@pytest.mark.parametrize("text", ["{", '{"images": []}'])
def test_what_cannot_be_read_at_all_is_one_flaw(tmp_path: Path, text: str) -> None:
    clean(tmp_path)
    (tmp_path / "annotations" / "train.json").write_text(text)
    found = doctor(tmp_path)
    (flaw,) = found.flaws
    assert flaw.severity == found.worst() == "unusable"
    assert "train.json" in flaw.message
    with pytest.raises(SightlineError, match=r"train\.json"):
        doctor(tmp_path, tmp_path.with_name("out"))


def test_no_data_set_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="no known layout"):
        doctor(tmp_path)


CAT = ("cat", (5, 7, 14, 26))
VOC_FLAWS: list[tuple[str, str, str, str, str]] = [
    ("<annotation>", "broken-record", "Annotations/b.xml", "", "broken XML"),
    (
        voc_xml([CAT, ("", (1, 1, 9, 9))]),
        "broken-record",
        "Annotations/b.xml",
        "object 2",
        "<name>",
    ),
    (voc_xml([CAT, ("cat", (5, 7, 5, 9))]), "empty-box", "Annotations/b.xml", "object 2", "area"),
    (voc_xml([CAT, ("cat", (9, 7, 5, 9))]), "empty-box", "Annotations/b.xml", "object 2", "area"),
    (
        voc_xml([CAT, ("cat", (50, 7, 62, 9))]),
        *("reaching-box", "Annotations/b.xml", "object 2", "reaches 2 px outside"),
    ),
    (voc_xml([CAT, CAT]), "duplicate-box", "Annotations/b.xml", "object 2", "that of object 1"),
    (voc_xml([]), "unlabelled-picture", "JPEGImages/b.jpg", "", "has no labels"),
]


@pytest.mark.parametrize("case", VOC_FLAWS, ids=[told for *_, told in VOC_FLAWS])
def test_flaws_of_voc(tmp_path: Path, case: tuple[str, str, str, str, str]) -> None:
    xml, kind, file, record, told = case
    write_voc_folder(tmp_path, {"a": voc_xml([CAT]), "b": xml, "c": voc_xml([CAT])})
    for seed, stem in enumerate("abc"):
        noise(tmp_path / "JPEGImages" / f"{stem}.jpg", seed)
    flaw, *others = doctor(tmp_path).flaws
    assert (flaw.kind, flaw.file, flaw.record) == (kind, file, record)
    assert told in flaw.message
    # Of a file that cannot be read it is not known which picture it is of.
    assert [other.kind for other in others] == ["unnamed-picture"] * (xml == "<annotation>")


def test_a_voc_list_that_names_nobody(tmp_path: Path) -> None:
    write_voc_folder(tmp_path, {stem: voc_xml([CAT]) for stem in "ab"})
    for seed, stem in enumerate("ab"):
        noise(tmp_path / "JPEGImages" / f"{stem}.jpg", seed)
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nz\n")
    (lists / "trainval.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("b\n")
    found = doctor(tmp_path)
    (flaw,) = found.flaws
    assert (flaw.kind, flaw.record) == ("broken-record", "the list of train")
    assert "names z, but there is no" in flaw.message
    assert {split: numbers.pictures for split, numbers in found.splits.items()} == {
        "train": 1,
        "val": 1,
    }


def test_trainval_is_trained_on_without_val(tmp_path: Path) -> None:
    write_voc_folder(tmp_path, {stem: voc_xml([CAT]) for stem in "abc"})
    for seed, stem in enumerate("abc"):
        noise(tmp_path / "JPEGImages" / f"{stem}.jpg", seed)
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("a\nb\nc\n")
    (lists / "val.txt").write_text("b\n")
    found = doctor(tmp_path)
    assert found.flaws == []
    assert found.splits["train"].pictures == 2


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


MENDED = [case for case in FLAWS if KINDS[case[1]].mended]


@pytest.mark.parametrize("case", MENDED, ids=[f"{kind}: {told}" for _, kind, _, _, told in MENDED])
def test_a_mended_copy_is_clean(tmp_path: Path, case: Case) -> None:
    make, kind, _, record, _ = case
    data, out = tmp_path / "data", tmp_path / "out"
    make(data)
    before = tree(data)
    assert [flaw.kind for flaw in doctor(data, out).flaws] == [kind]
    assert doctor(out).worst() in (None, "note")
    open_dataset(out)
    changes = json.loads((out / "changes.json").read_text())
    assert changes["counts"] == {kind: 1}
    (change,) = changes["changes"]
    assert (change["record"], change["mended"]) == (record, KINDS[kind].mended)
    assert tree(data) == before


def mended(make: Make, tmp_path: Path, split: str = "train") -> Any:
    make(tmp_path / "data")
    doctor(tmp_path / "data", tmp_path / "out")
    return open_split(tmp_path / "out", split)


def test_what_mending_does_to_a_thing(tmp_path: Path) -> None:
    """By hand: clipped, drawn anew round the mask, widened, unlabelled."""
    data = mended(added(bbox=[50, 6, 12, 9]), tmp_path / "clipped")
    assert data.scene(1).things.boxes.tolist() == [[4, 6, 14, 26], [50, 6, 60, 15]]
    data = mended(thing(segmentation=[[4, 6, 20, 6, 14, 26, 4, 26]]), tmp_path / "drawn")
    assert data.scene(1).things.boxes.tolist() == [[4, 6, 20, 26]]
    data = mended(points(5, 7, 2, 20, 8, 2), tmp_path / "widened")
    assert data.scene(1).things.boxes.tolist() == [[4, 6, 20, 26]]
    data = mended(points(5, 7, 3, 6, 8, 2), tmp_path / "unlabelled")
    assert data.scene(1).things.keypoints.tolist() == [[[0, 0, 0], [6, 8, 2]]]


def test_what_mending_does_to_a_picture(tmp_path: Path) -> None:
    wide = files(lambda root: noise(root / "train" / "1.png", 1, 40, 90))
    data = mended(wide, tmp_path / "wide")
    assert data.size(1) == data.picture(1).shape[1:] == (40, 90)
    twice = files(lambda root: noise(root / "val" / "1.png", 2))
    assert len(mended(twice, tmp_path / "twice")) == 2  # what is measured on stays
    assert len(open_split(tmp_path / "twice" / "out", "val")) == 2


def test_a_size_that_its_boxes_do_not_fit_is_not_guessed(tmp_path: Path) -> None:
    make = files(lambda root: noise(root / "train" / "1.png", 1, 20, 60))  # boxes end at 26
    make(tmp_path)
    (flaw,) = doctor(tmp_path).flaws
    assert flaw.kind == "resized-picture"


def test_alike_classes_become_the_more_frequent(tmp_path: Path) -> None:
    data = mended(changed(alike), tmp_path)
    assert data.classes.names == ("cat",)
    assert data.scene(1).things.labels.tolist() == [0, 0]


def test_pixels_of_a_bow_tie_stay(tmp_path: Path) -> None:
    make = thing(segmentation=[BOW])
    after = mended(make, tmp_path).scene(1)
    before = open_split(tmp_path / "data", "train").scene(1)
    assert isinstance(after.things.masks[0], dict)
    first, second = (rasterise(scene.things.masks, scene.size) for scene in (before, after))
    assert first.any()
    assert first.equal(second)


def test_a_copy_needs_a_place_of_its_own(tmp_path: Path) -> None:
    clean(tmp_path / "data")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").touch()
    with pytest.raises(SightlineError, match="full is there already: name a new folder"):
        doctor(tmp_path / "data", tmp_path / "full")
    with pytest.raises(SightlineError, match="lies in the data set"):
        doctor(tmp_path / "data", tmp_path / "data" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "full"]


def test_a_split_of_which_nothing_is_left(tmp_path: Path) -> None:
    def empty(root: Path) -> None:
        clean(root)
        for number in range(3):
            (root / "train" / f"{number}.png").write_text("no picture")

    empty(tmp_path / "data")
    with pytest.warns(DataWarning, match="is without train: no label of it is left"):
        doctor(tmp_path / "data", tmp_path / "out")
    assert not (tmp_path / "out" / "train").exists()
    assert len(open_split(tmp_path / "out", "val")) == 2


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """A disk that takes no file larger than a kilobyte: one picture is."""
    clean(tmp_path / "data")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise(tmp_path / "data" / "train" / "2.png", 2, compress_level=0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        with pytest.raises(SightlineError, match=r"out: cannot be written"):
            doctor(tmp_path / "data", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def panoptic(root: Path) -> None:
    """A picture with a map of a "cat", a "Cat " and the sky, and no thing."""
    numbers = torch.zeros(40, 60, dtype=torch.long)
    numbers[:10], numbers[10:20], numbers[20:] = 1, 2, 3
    segments = [Segment(n + 1, n, n < 2) for n in range(3)]
    scene = replace(boxes_scene((40, 60)), panoptic=Panoptic(numbers, segments))
    classes = Classes(("cat", "Cat "), stuff=("sky",))
    write_coco(InMemory([replace(scene, image_id=0)], classes), root, "train")


def test_classes_of_maps_are_joined_too(tmp_path: Path) -> None:
    panoptic(tmp_path / "data")
    doctor(tmp_path / "data", tmp_path / "out")
    copy = open_split(tmp_path / "out" / "annotations" / "instances_train.json", "all")
    names = [*copy.classes.names, *copy.classes.stuff]
    assert names == ["cat", "sky"]
    found = copy.scene(0).panoptic
    assert found is not None
    assert [(s.id, names[s.label], s.thing) for s in found.segments] == [
        (1, "cat", True),
        (2, "cat", True),
        (3, "sky", False),
    ]


def test_pictures_with_captions_alone_are_labelled_and_copied(tmp_path: Path) -> None:
    scenes = [replace(boxes_scene((40, 60)), captions=[f"A cat{n}."], image_id=n) for n in range(2)]
    write_coco(InMemory(scenes, Classes(())), tmp_path / "data", "train")
    assert doctor(tmp_path / "data", tmp_path / "out").flaws == []
    copy = open_split(tmp_path / "out" / "annotations" / "instances_train.json", "all")
    assert [copy.scene(n).captions for n in range(2)] == [["A cat0."], ["A cat1."]]


def test_a_copy_has_numbers_as_ids(tmp_path: Path) -> None:
    """COCO's tools take no words, as VOC's pictures are called by."""
    write_voc_folder(tmp_path / "data", {stem: voc_xml([CAT]) for stem in "ab"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        doctor(tmp_path / "data", tmp_path / "out")
    (file,) = (tmp_path / "out" / "annotations").iterdir()
    assert [image["id"] for image in json.loads(file.read_text())["images"]] == [1]


def test_grey_that_was_painted_is_not_lost(tmp_path: Path) -> None:
    """As some pad their pictures."""
    picture = np.full((64, 64, 3), 128, np.uint8)
    picture[:32] = np.random.default_rng(0).integers(0, 256, (32, 64, 3))
    Image.fromarray(picture).save(tmp_path / "padded.jpg")
    (look,) = look_at([tmp_path / "padded.jpg"]).values()
    assert (look.size, look.lost, look.error) == ((64, 64), 0, "")


def test_the_smallest_pictures_are_looked_at(tmp_path: Path) -> None:
    sizes = [(1, 1), (1, 300), (17, 2)]
    paths = [noise(tmp_path / f"{h}x{w}.png", h, h, w) for h, w in sizes]
    assert [look.size for look in look_at(paths).values()] == sizes


def test_numbers_by_hand(tmp_path: Path) -> None:
    """In pictures of 400 x 100, whose side is 200 where it is square."""
    sides = [5, 10, 31, 32, 50, 100]  # 2.5 %, 5 %, 15.5 %, 16 %, 25 %, 50 %
    document = coco_document(2, categories=[{"id": 3, "name": "dog"}, {"id": 7, "name": "cat"}])
    for record in document["images"]:
        record |= {"height": 100, "width": 400}
        noise(tmp_path / "val" / record["file_name"], record["id"], 100, 400)
    document["annotations"] = [
        {"id": i, "image_id": 0, "category_id": 7, "bbox": [i, 0, side, side], "iscrowd": i // 5}
        for i, side in enumerate(sides)
    ]
    write_json(tmp_path / "annotations" / "val.json", document)
    numbers = doctor(tmp_path).splits["val"]
    assert numbers[:4] == (2, 1, 6, 1)
    assert numbers.classes == {"dog": 0, "cat": 6}
    assert numbers.areas == {"small": 3, "medium": 2, "large": 1}
    assert list(numbers.shares.values()) == [1, 1, 2, 1, 1]


def naive_crossing(points: list[tuple[int, int]]) -> bool:
    """Every pair of segments, by the signs of four triangles."""

    def sign(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> int:
        twice = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        return (twice > 0) - (twice < 0)

    segments = list(zip(points, points[1:] + points[:1], strict=True))
    return any(
        sign(a, b, c) * sign(a, b, d) < 0 and sign(c, d, a) * sign(c, d, b) < 0
        for a, b in segments
        for c, d in segments
    )


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=8))
def test_crossing_polygons_as_in_a_loop(points: list[tuple[int, int]]) -> None:
    assert crosses_itself(np.array(points, np.float64)) == naive_crossing(points)


def test_long_polygons_are_compared_in_blocks() -> None:
    """A circle of 2000 points, and the same with its first and its thousandth swapped."""
    angles = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    circle = 100 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert not crosses_itself(circle)
    circle[[0, 1000]] = circle[[1000, 0]]
    assert crosses_itself(circle)


def test_real_sets(real_data: Path) -> None:
    """What their SOURCE.md says: two degenerate boxes, an imbalance, unlabelled cells; names in
    either case; pictures with keypoints alone."""
    cells = doctor(real_data / "det_bccd").counts()
    assert cells["empty-box"] == 2
    assert cells["unbalanced-classes"] == 1
    assert cells["sparse-labels"] > 0
    assert doctor(real_data / "det_cards").counts()["mixed-suffixes"] == 1
    assert doctor(real_data / "coco").counts()["unnamed-picture"] >= 30
    assert doctor(real_data / "inst_balloon").flaws == []


JUNK = st.one_of(
    st.none() | st.booleans() | st.integers(-3, 99) | st.floats() | st.text(max_size=3),
    st.lists(st.integers(0, 9), max_size=7) | st.lists(st.floats(), max_size=7),
    st.lists(st.lists(st.floats(-99, 99), max_size=8), max_size=2),
    st.just({}) | st.just({"size": [40, 60], "counts": [2400]}),
)
KEYS = {
    "images": ["id", "file_name", "height", "width"],
    "annotations": ["id", "image_id", "category_id", "bbox", "segmentation", "keypoints"],
    "categories": ["id", "name", "keypoints"],
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.sampled_from([(kind, key) for kind in KEYS for key in KEYS[kind]]), JUNK)
def test_anything_in_any_field_is_told(tmp_path: Path, place: tuple[str, str], value: Any) -> None:
    root = tmp_path / "data"
    if not root.exists():
        clean(root)
    document = coco_document(3)
    document["categories"] = [{"id": 7, "name": "cat", "keypoints": ["a", "b"]}]
    document["annotations"][1] |= {"segmentation": [BOW], "keypoints": [5, 7, 2, 6, 8, 2]}
    document[place[0]][0][place[1]] = value
    write_json(root / "annotations" / "train.json", document)
    for flaw in doctor(root).flaws:
        assert flaw.kind in KINDS
        assert "\n" not in flaw.message
