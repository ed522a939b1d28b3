"""``sightline predict``."""

import io
import json
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from PIL import Image

import sightline.models
from sightline import weights
from sightline.cli import main
from sightline.cli.predict import JsonList, Tally, drawn
from sightline.data.video import frame_rate, read_frames
from sightline.predict import predict_stream
from sightline.types import Classes, Instances, Scene
from tests.bright import COLOURS, Bright, picture, save_picture
from tests.data.clips import write_clip


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sightline.models.MODELS, "bright", Bright)
    path = tmp_path / "bright.safetensors"
    weights.save(Bright(), path)
    return str(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    save_picture(folder / "000123.png", picture((2, 3, 12, 9, 0, 204)))
    save_picture(folder / "dark.png", picture())
    return folder


def test_a_line_for_each_photo_and_a_table(
    model: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", model, str(photos)]) == 0
    told = capsys.readouterr()
    assert f"{photos / '000123.png'}: 1 red\n" in told.out
    assert f"{photos / 'dark.png'}: nothing\n" in told.out
    assert "2 photos in" in told.out
    assert ["│", "red", "│", "1", "│", "0.80", "│"] in [
        line.split() for line in told.out.splitlines()
    ]
    assert told.err == ""


def test_one_json_document_and_nothing_else(
    model: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", model, str(photos), "--json", "--score", "0.5"]) == 0
    scenes = json.loads(capsys.readouterr().out)
    assert [len(scene["things"]) for scene in scenes] == [1, 0]
    assert scenes[0]["things"][0]["box"] == [2, 3, 12, 9]
    assert scenes[0]["things"][0]["class"] == "red"


def test_drawn_photos_and_coco_results(model: str, photos: Path, tmp_path: Path) -> None:
    out, results = tmp_path / "new" / "drawn", tmp_path / "new" / "results.json"
    twin = tmp_path / "dark.png"
    save_picture(twin, picture())
    arguments = ["predict", model, str(photos), str(twin)]
    assert main([*arguments, "--out", str(out), "--coco-json", str(results)]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["000123.jpg", "dark-2.jpg", "dark.jpg"]
    with Image.open(out / "000123.jpg") as image:
        assert image.size == (30, 20)
    (row,) = json.loads(results.read_text())
    assert (row["image_id"], row["category_id"], row["bbox"]) == (123, 3, [2, 3, 10, 6])


def test_a_drawing_is_no_larger_than_a_jpeg_can_be(model: str, tmp_path: Path) -> None:
    Image.new("RGB", (70_000, 20)).save(tmp_path / "long.png")
    assert main(["predict", model, str(tmp_path / "long.png"), "--out", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out" / "long.jpg") as image:
        assert image.size == (65_500, 19)


def test_no_drawing_replaces_another(model: str, photos: Path, tmp_path: Path) -> None:
    """The second a would take the name that a-2 has."""
    names = ["a-2.png", "a.png", "a.bmp", "a.gif"]
    for name in names:
        save_picture(photos / name, picture())
    out = tmp_path / "drawn"
    given = [str(photos / name) for name in names]
    assert main(["predict", model, *given, "--out", str(out)]) == 0
    drawn = sorted(p.name for p in out.iterdir())
    assert drawn == ["a-2.jpg", "a-3.jpg", "a-4.jpg", "a.jpg"]


def test_brackets_in_the_name_of_a_class_are_no_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    things = Instances(torch.zeros(1, 4), torch.tensor([0]), torch.tensor([0.5]))
    tally = Tally()
    tally.add(Scene((4, 4), things))
    tally.show(Classes(("cup [red]",)), [tmp_path / "[x].json"])
    told = capsys.readouterr().out
    assert "cup [red]" in told
    assert "[x].json" in told


def test_a_list_in_json_of_any_length() -> None:
    for values in ([], [1], [{"a": [1, 2]}, "b", None]):
        file = io.StringIO()
        rows = JsonList(file.write)
        for value in values:
            rows.add(value)
        rows.end()
        assert json.loads(file.getvalue()) == values
        assert file.getvalue().count("\n") == max(1, len(values))


def test_unreadable_photos_are_told_the_rest_is_done_and_the_exit_code_is_2(
    model: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.jpg").write_bytes(b"no picture")
    assert main(["predict", model, str(photos), "--json"]) == 2
    told = capsys.readouterr()
    assert len(json.loads(told.out)) == 2
    lines = told.err.splitlines()
    assert len(lines) == 2
    assert "broken.jpg" in lines[0]
    assert lines[1] == "error: 1 of 3 photos could not be read"


def test_chosen_scores(model: str, photos: Path, tmp_path: Path) -> None:
    scores, results = tmp_path / "scores.json", tmp_path / "results.json"
    for least, count in [(0.5, 1), (0.9, 0)]:
        scores.write_text(json.dumps({"classes": {"red": {"score": least}}}))
        arguments = ["predict", model, str(photos), "--coco-json", str(results)]
        assert main([*arguments, "--per-class-score", str(scores)]) == 0
        assert len(json.loads(results.read_text())) == count


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give photos, videos, folders or globs"),
        (["nowhere"], "no such file or folder: nowhere"),
        (["PHOTOS", "--out", "PHOTOS"], "is the folder of the photos"),
        (["PHOTOS", "--out", "PHOTOS/dark.png"], "is a file, not a folder"),
        (["PHOTOS", "--top", "0"], "top must be 1 or more"),
        (["PHOTOS", "--batch", "0"], "batch must be 1 or more, not 0"),
        (["PHOTOS", "--per-class-score", "PHOTOS/none.json"], "cannot read"),
        (["PHOTOS", "--device", "cuda:77"], "cannot use device cuda:77"),
    ],
)
def test_mistakes_are_one_line(
    model: str,
    photos: Path,
    arguments: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = [argument.replace("PHOTOS", str(photos)) for argument in arguments]
    assert main(["predict", model, *filled]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert told in error
    assert sorted(p.name for p in photos.iterdir()) == ["000123.png", "dark.png"]


@pytest.fixture
def dim(tmp_path: Path, model: str) -> str:
    """The folder of a run whose model sees all half as bright."""
    dimmed = Bright()
    dimmed.gain = torch.nn.Parameter(torch.tensor(0.5))
    weights.save(dimmed, tmp_path / "run" / "best.safetensors")
    return str(tmp_path / "run")


def things(out: str) -> list[list[dict[str, object]]]:
    return [scene["things"] for scene in json.loads(out)]


def test_several_models_are_asked_as_one(
    model: str, dim: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scores 0.8 and 0.4; a file and the folder of a run."""
    for options, score in [
        ([], 0.6),
        (["--weights", "3", "1"], 0.7),
        (["--fuse", "nms"], 0.8),
        (["--flips", "horizontal", "vertical", "--turns"], 0.6),
    ]:
        assert main(["predict", model, dim, str(photos), "--json", *options]) == 0
        ((thing,), nothing) = things(capsys.readouterr().out)
        assert thing["score"] == pytest.approx(score)
        assert thing["box"] == pytest.approx([2, 3, 12, 9])
        assert nothing == []


def test_one_model_looks_at_views_too(
    model: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", model, str(photos), "--json"]) == 0
    plain = things(capsys.readouterr().out)
    assert main(["predict", model, str(photos), "--json", "--flips", "vertical"]) == 0
    ((seen,), _) = things(capsys.readouterr().out)
    assert seen == {name: pytest.approx(value) for name, value in plain[0][0].items()}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["MODEL", "DIM"], "give photos, videos, folders or globs"),
        (["MODEL", "PHOTOS", "DIM"], "run is a model: name all models first"),
        (["MODEL", "PHOTOS", "b.onnx"], "b.onnx is a model: name all models first"),
        (["MODEL", "b.safetensors", "PHOTOS"], "b.safetensors: no such file"),
        (["MODEL", "MIXED", "PHOTOS"], "is the folder of a run and holds photos: name "),
        (["MODEL", "fasterrcnn_resnet50_fpn", "PHOTOS"], "here is a file or folder of that name"),
        (["MODEL", "DIM", "PHOTOS", "--weights", "1"], "1 weights for 2 models"),
        (["MODEL", "PHOTOS", "--scales", "0"], "a scale is a factor above 0, not 0"),
        (["MODEL", "PHOTOS", "--scales", "2"], "no other scale is possible"),
        (["MODEL", "PHOTOS", "--fuse", "mean"], "mean"),
        (["MODEL", "PHOTOS", "--flips", "sideways"], "sideways"),
        (["PHOTOS", "PHOTOS"], "is a folder, but not one of a run"),
    ],
)
def test_what_is_a_model_and_what_a_photo(
    model: str,
    dim: str,
    photos: Path,
    arguments: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(photos.parent)
    Path("fasterrcnn_resnet50_fpn").touch()
    mixed = Path("mixed")
    mixed.mkdir()
    (mixed / "best.safetensors").write_bytes(Path(model).read_bytes())
    save_picture(mixed / "a.png", picture())
    places = {"MODEL": model, "DIM": dim, "PHOTOS": str(photos), "MIXED": "mixed"}
    assert main(["predict", *(places.get(a, a) for a in arguments)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert told in error


def test_the_photos_of_a_run_s_folder_can_be_named(
    model: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a glob, which no model is; and the first argument is always the model."""
    (photos / "best.safetensors").write_bytes(Path(model).read_bytes())
    assert main(["predict", str(photos), str(photos / "*.png"), "--json"]) == 0
    assert [len(found) for found in things(capsys.readouterr().out)] == [1, 0]


@pytest.fixture
def clip(photos: Path) -> Path:
    """Seven red frames, 12 a second."""
    frames = [picture((0, 0, 64, 48, 0, 250), size=(48, 64))] * 7
    return write_clip(photos / "clip.mov", frames, rate=Fraction(12))


def test_a_video_is_drawn_as_a_video(
    model: str, photos: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside photos. The box of the red thing is the border of the frame; it is drawn in blue, the
    colour of the first class, which an encoder mixes with the red beside it."""
    out = tmp_path / "drawn"
    save_picture(photos / "clip.png", picture())
    assert main(["predict", model, str(photos), "--score", "0.5", "--out", str(out)]) == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == ["000123.jpg", "clip.jpg", "clip.mp4", "dark.jpg"]
    frames = list(read_frames(out / "clip.mp4"))
    assert frame_rate(out / "clip.mp4") == 12
    assert [round(moment.seconds * 12) for _, moment in frames] == list(range(7))
    for pixels, _ in frames:
        assert pixels.shape == (3, 48, 64)
        red, _, blue = pixels[:, 30].float()
        assert (red - blue)[5:-5].min() > 200
        assert (red - blue)[[0, -1]].max() < 120
    told = capsys.readouterr().out
    assert f"{clip} frame 0: 1 red\n" in told
    assert f"{clip} frame 6: 1 red\n" in told
    assert "3 photos and 7 frames in" in told


def test_frames_in_json(model: str, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = clip.with_name("results.json")
    arguments = ["predict", model, str(clip), "--score", "0.5", "--json"]
    assert main([*arguments, "--coco-json", str(results)]) == 0
    scenes, rows = json.loads(capsys.readouterr().out), json.loads(results.read_text())
    assert [scene["frame"] for scene in scenes] == list(range(7)) == [row["frame"] for row in rows]
    seconds = [scene["seconds"] for scene in scenes]
    assert seconds == pytest.approx([k / 12 for k in range(7)], abs=1e-4)
    assert {scene["path"] for scene in scenes} == {str(clip)}
    assert [row["image_id"] for row in rows] == [f"clip:{k}" for k in range(7)]


def test_each_video_becomes_one_of_its_own(
    model: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though frames of several go through the model together; also one that is given twice."""
    (tmp_path / "other").mkdir()
    twin = write_clip(tmp_path / "other" / "clip.mkv", [picture(size=(48, 64))] * 4)
    given = [str(path) for path in (clip, twin, twin, clip)]
    out = tmp_path / "drawn"
    assert main(["predict", model, *given, "--out", str(out), "--batch", "3"]) == 0
    lengths = {path.name: len(list(read_frames(path))) for path in out.iterdir()}
    assert lengths == {"clip.mp4": 7, "clip-2.mp4": 4, "clip-3.mp4": 4, "clip-4.mp4": 7}
    assert "22 frames in" in capsys.readouterr().out


def test_a_film_that_is_not_finished_is_not_left(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", [picture(size=(48, 64))] * 90)
    stream = drawn(predict_stream(Bright(), clip, batch=1), tmp_path / "out", COLOURS, 1)
    for _ in range(80):
        next(stream)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".clip.writing.mp4"]
    stream.close()
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "cannot read {} as a video: Invalid data"), (None, "{} is cut short: ")],
)
def test_a_broken_video_is_told_and_the_exit_code_is_2(
    model: str,
    photos: Path,
    tmp_path: Path,
    content: bytes | None,
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The frames of one that was cut short are drawn as far as they go."""
    frames = [torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8) for _ in range(50)]
    clip = write_clip(photos / "clip.mkv", frames)
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) // 2] if content is None else content)
    out = tmp_path / "drawn"
    assert main(["predict", model, str(photos), "--out", str(out)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert told.format(clip) in lines[0]
    assert lines[1] == "error: 1 of 3 files could not be read"
    names = {path.name for path in out.iterdir()}
    assert names - {"clip.mp4"} == {"000123.jpg", "dark.jpg"}
    if content is None:
        assert 15 < len(list(read_frames(out / "clip.mp4"))) < 35
    else:
        assert "clip.mp4" not in names


def test_a_video_without_pyav_is_one_line_before_anything_is_done(
    model: str,
    photos: Path,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    out = tmp_path / "drawn"
    assert main(["predict", model, str(photos), "--out", str(out)]) == 2
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        f"error: {clip}: videos need the package av: pip install 'sightline[video]'"
    ]
    assert told.out == ""
    assert not out.exists()
    clip.unlink()
    assert main(["predict", model, str(photos), "--out", str(out)]) == 0


@pytest.mark.parametrize("command", ["predict", "evaluate", "demo --out"])
def test_a_name_that_no_file_can_have_is_one_line(command, capsys):
    assert main([*command.split(), "x" * 300]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
