import multiprocessing
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sightline.data.packed import DataWarning, Packed, Packer, fingerprint
from sightline.data.strings import Strings
from sightline.errors import SightlineError
from sightline.ops.masks import rasterise
from sightline.types import Classes
from tests.data.samples import write_picture


def packer(root: Path | str = "root", keypoints: int = 0) -> Packer:
    """With one picture of 60 x 40 begun."""
    made = Packer("here", root, keypoints)
    made.picture("a.png", (40, 60), 1)
    return made


def test_strings_of_any_alphabet() -> None:
    strings = Strings.pack(["", "a.jpg", "Bär/図.png", b"raw"])
    assert [strings[i] for i in range(len(strings))] == ["", "a.jpg", "Bär/図.png", "raw"]
    assert strings.take(torch.tensor([2, 0]))[0] == "Bär/図.png"
    assert Strings.pack(["caf\udce9.jpg"])[0] == "caf\udce9.jpg"  # a name in Latin-1 on a disk


def test_things_come_back_as_they_were_put_in() -> None:
    made = packer(keypoints=1)
    triangle = [1.1, 2.0, 5.0, 2.0, 3.0, 7.7]
    made.thing((1, 2, 5, 8), 1, area=9.5, polygons=[triangle, triangle], keypoints=[3, 4, 2])
    made.picture("deep/b.png", (10, 20), 2)
    made.picture("c.png", (5, 5), 3)
    made.thing((0, 0, 5, 5), 0, ignore=True, counts=b"0i0", keypoints=[0, 0, 0])
    packed = made.finish(Classes(("x", "y")))
    assert len(packed) == 3
    assert [packed.size(i) for i in range(3)] == [(40, 60), (10, 20), (5, 5)]
    first, empty, last = (packed.scene(i) for i in range(3))
    assert first.things.boxes.tolist() == [[1, 2, 5, 8]]
    assert first.things.labels.tolist() == [1]
    assert first.things.area.tolist() == [9.5]
    assert first.things.keypoints.tolist() == [[[3, 4, 2]]]
    [polygons] = first.things.masks
    assert [polygon.flatten().tolist() for polygon in polygons] == [triangle, triangle]
    assert (first.path, first.image_id) == ("root/a.png", 1)
    assert len(empty.things) == 0
    assert empty.path == "root/deep/b.png"
    assert last.things.masks == [{"size": [5, 5], "counts": b"0i0"}]
    assert last.things.ignore.tolist() == [True]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@given(st.lists(st.floats(-20, 80).map(lambda v: round(v, 2)), min_size=6, max_size=20))
def test_polygons_cover_the_pixels_they_cover_in_the_file(numbers: list[float]) -> None:
    """In 64 bits: 0.7 in 32 bits lies on the other side of an edge of pycocotools' grid."""
    pycoco = pytest.importorskip("pycocotools.mask")
    polygon = numbers[: len(numbers) // 2 * 2]
    made = packer()
    made.thing((0, 0, 60, 40), 0, polygons=[polygon])
    ours = rasterise(made.finish(Classes(("x",))).scene(0).things.masks, (40, 60))
    theirs = pycoco.decode(pycoco.merge(pycoco.frPyObjects([polygon], 40, 60)))
    assert ours[0].equal(torch.from_numpy(theirs).bool())


def test_what_no_thing_has_is_absent() -> None:
    made = packer()
    made.thing((1, 2, 5, 8), 0)
    things = made.finish(Classes(("x",))).scene(0).things
    assert things.masks is None
    assert things.keypoints is None
    assert things.area.tolist() == [24]  # 4 x 6


def test_without_a_single_thing_or_picture() -> None:
    scene = packer().finish(Classes(("x",))).scene(0)
    assert scene.things.boxes.shape == (0, 4)
    assert len(Packer("here", "root").finish(Classes(("x",)))) == 0


def test_boxes_are_clipped_and_dropped_and_counted_in_one_line() -> None:
    made = packer()
    made.thing((-5, -5, 10, 10), 0)
    made.thing((50, 30, 60.05, 40.05), 0)  # tools round: clipped without a word
    made.thing((3, 3, 3, 9), 0, counts=b"dropped")
    made.thing((70, 3, 80, 9), 0)  # wholly outside: nothing is left
    made.thing((10, 10, 5, 20), 0)
    with pytest.warns(DataWarning) as told:
        packed = made.finish(Classes(("x",)))
    assert [str(warning.message) for warning in told] == [
        "here: 3 boxes without area dropped, 1 box reaching outside the picture clipped"
    ]
    assert packed.scene(0).things.boxes.tolist() == [[0, 0, 10, 10], [50, 30, 60, 40]]
    assert packed.masks is None


def test_a_scene_is_a_copy() -> None:
    made = packer()
    made.thing((1, 2, 5, 8), 0, polygons=[[1, 2, 5, 2, 3, 8]])
    packed = made.finish(Classes(("x",)))
    scene = packed.scene(0)
    scene.things.boxes.zero_()
    scene.things.masks[0][0].zero_()
    assert packed.scene(0).things.boxes.tolist() == [[1, 2, 5, 8]]
    assert packed.scene(0).things.masks[0][0].tolist() == [[1, 2], [5, 2], [3, 8]]


def some_packed() -> Packed:
    made = Packer("here", "root")
    for i in range(5):
        made.picture(f"{i}.png", (40, 60), f"id{i}")
        for j in range(i):
            made.thing((j, i, j + 1, i + 1), j, flag=j == 2)
    return made.finish(Classes(tuple("abcd")))


def test_take_shares_the_things() -> None:
    packed = some_packed()
    some = packed.take([4, 1])
    assert [some.scene(i).image_id for i in range(len(some))] == ["id4", "id1"]
    assert some.scene(0).things.boxes.equal(packed.scene(4).things.boxes)
    assert some.scene(0).things.extra["flag"].tolist() == [False, False, True, False]
    assert some.boxes.data_ptr() == packed.boxes.data_ptr()
    assert len(packed.take([])) == 0


def _addresses(packed: Packed, answers: "multiprocessing.Queue[bool]") -> None:
    answers.put(packed.boxes.is_shared() and packed.scene(4).things.labels.tolist() == [0, 1, 2, 3])


@pytest.mark.slow
def test_a_spawned_worker_shares_the_memory() -> None:
    context = torch.multiprocessing.get_context("spawn")
    answers = context.Queue()
    packed = some_packed()
    worker = context.Process(target=_addresses, args=(packed, answers))
    worker.start()
    assert answers.get(timeout=60)
    worker.join()
    assert packed.boxes.is_shared()


def test_pickling_round_trip() -> None:
    packed = some_packed()
    again = pickle.loads(pickle.dumps(packed))
    assert again.scene(3).things.boxes.equal(packed.scene(3).things.boxes)


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", 40, 60)
    made = Packer("here", tmp_path)
    made.picture("a.png", (40, 60), 1)
    made.picture("a.png", (60, 40), 2)
    made.picture("a.png", (80, 120), 3)
    with pytest.warns(DataWarning, match="here: 2 pictures listed again under another id"):
        packed = made.finish(Classes(("x",)))
    assert packed.picture(0).shape == (3, 40, 60)
    with pytest.raises(SightlineError, match=r"a\.png is 60x40, its annotation says 40x60: .*EXIF"):
        packed.picture(1)
    with pytest.raises(SightlineError, match=r"its annotation says 120x80: .*resized"):
        packed.picture(2)


def test_pictures_without_ids_are_called_by_their_files() -> None:
    made = Packer("here", "root")
    for path in ("a.png", "one/b.png", "two/b.png"):
        made.picture(path, (40, 60))
    packed = made.finish(Classes(("cat",)))
    assert [packed.image_id(i) for i in range(3)] == ["a", "one/b.png", "two/b.png"]


@pytest.mark.parametrize(
    ("image_id", "message"),
    [(1, "here: a.png and b.png have one id, 1"), ("1", "a.png and b.png have one id, 1")],
)
def test_an_id_is_given_once(image_id: int | str, message: str) -> None:
    with pytest.raises(SightlineError, match=message):
        packer().picture("b.png", (40, 60), image_id)


def test_a_picture_without_an_id_is_given_once() -> None:
    made = Packer("here", "root")
    made.picture("a.png", (40, 60))
    with pytest.raises(SightlineError, match=r"^here: two records are of a\.png$"):
        made.picture("a.png", (40, 60))


def test_a_fingerprint_tells_one_label_from_another() -> None:
    def made(label: int, root: str = "a") -> Packed:
        packer = Packer("test", root)
        packer.picture("a.png", (10, 10), 1)
        packer.thing((1, 1, 5, 5), label, polygons=[[1, 1, 5, 1, 5, 5]])
        return packer.finish(Classes(("cat", "dog")))

    assert fingerprint(made(0)) == fingerprint(made(0, "elsewhere"))
    assert fingerprint(made(0)) != fingerprint(made(1))
    assert fingerprint(made(0)) != fingerprint(made(0).take([0, 0]))


def test_a_fingerprint_tells_other_files_and_flags(tmp_path: Path) -> None:
    def made(hard: bool) -> str:
        packer = Packer("test", tmp_path)
        packer.picture("a.png", (10, 10))
        packer.label_map("map.png", {0: 0})
        packer.thing((1, 1, 5, 5), 0, difficult=hard)
        return fingerprint(packer.finish(Classes(("cat",), stuff=("c\ud800t",))))

    found = {made(False), made(True)}
    for name in ("a.png", "map.png"):
        (tmp_path / name).write_bytes(b"as long as this")
        found.add(made(False))
    assert len(found) == 4
