"""Finding things in pictures of every kind and number."""

import gc
import json
import signal
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import sightline
from sightline.ensemble import ensemble
from sightline.errors import SightlineError
from sightline.ops.masks import encode
from sightline.predict import (
    coco_results,
    predict,
    predict_stream,
    scene_json,
    thresholds,
)
from sightline.types import Classes, Instances, Moment, Scene
from tests.bright import COLOURS, Bright, picture, save_picture
from tests.data.clips import write_clip
from tests.probes import TINY

RED = picture((2, 3, 12, 9, 0, 204))  # 204 / 255 = 0.8
MIXED = picture((2, 3, 12, 9, 0, 51), (20, 10, 25, 15, 1, 255), (0, 0, 4, 4, 2, 102))


def found(scene: Scene) -> dict[str, float]:
    """Class and score of each thing."""
    names = [COLOURS.names[label] for label in scene.things.labels]
    assert scene.things.scores is not None
    return dict(
        zip(names, [round(score, 4) for score in scene.things.scores.tolist()], strict=True)
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """b.png holds RED, a.png MIXED, and notes.txt no picture."""
    save_picture(tmp_path / "b.png", RED)
    save_picture(tmp_path / "a.png", MIXED)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "deeper").mkdir()
    save_picture(tmp_path / "deeper" / "c.png", RED)
    return tmp_path


@pytest.mark.parametrize(
    "source",
    [
        RED,
        RED.permute(1, 2, 0).numpy(),
        Image.fromarray(RED.permute(1, 2, 0).numpy()),
        np.ascontiguousarray(RED.permute(1, 2, 0).numpy()[..., ::-1])[..., ::-1],  # other strides
    ],
)
def test_what_holds_pixels(source: Any) -> None:
    (scene,) = predict(Bright(), source)
    assert scene.size == (20, 30)
    assert scene.things.boxes.tolist() == [[2, 3, 12, 9]]
    assert found(scene) == {"red": 0.8}


@pytest.mark.parametrize("grey", [RED[0], RED[:1], RED[0].numpy(), Image.fromarray(RED[0].numpy())])
def test_grey_becomes_three_channels(grey: Any) -> None:
    (scene,) = predict(Bright(), [grey])
    assert found(scene) == {"red": 0.8, "green": 0.8, "blue": 0.8}


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (np.zeros((4, 4, 3), np.float32), "an array of float32: bytes"),
        (torch.zeros(3, 4, 4), "a tensor of torch.float32: bytes"),
        (np.zeros((4, 4, 4), np.uint8), "an array of shape 4x4x4: HxWx3 or HxW is wanted"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), "a tensor of shape 4x5x3: 3xHxW or HxW"),
        (torch.zeros(2, 3, 4, 5, dtype=torch.uint8), "a tensor of shape 2x3x4x5"),
        (torch.zeros(3, 0, 5, dtype=torch.uint8), "a tensor of shape 3x0x5"),
    ],
)
def test_what_is_no_picture(source: Any, told: str) -> None:
    with pytest.raises(SightlineError, match=told):
        predict(Bright(), source)


def test_files_and_folders_in_the_order_given(folder: Path) -> None:
    a, b = folder / "a.png", folder / "b.png"
    scenes = predict(Bright(), [str(b), folder])
    assert [scene.path for scene in scenes] == [str(b), str(a), str(b)]
    assert [found(scene) for scene in scenes] == [
        {"red": 0.8},
        {"green": 1.0, "blue": 0.4, "red": 0.2},
        {"red": 0.8},
    ]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("missing.png", "no such file or folder: .*missing.png"),
        ("*.jpg", r"no picture matches .*\*.jpg"),
        ("empty", r"no picture in .*empty; those in its folders: .*empty/\*\*/\*.jpg"),
        ("notes.txt", "cannot read .*notes.txt as a picture"),
        ("a" * 300, "cannot read .*aaa: File name too long"),
    ],
)
def test_a_source_without_pictures(folder: Path, source: str, told: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(SightlineError, match=told):
        predict(Bright(), folder / source)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("source", [None, [None], [7]])
def test_what_is_no_source(source: Any) -> None:
    with pytest.raises(SightlineError, match=r"(NoneType|int) is no source: give files"):
        predict(Bright(), source)


def test_an_opened_image_that_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "short.jpg"
    save_picture(path, torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8))
    path.write_bytes(path.read_bytes()[:-800])
    with (
        Image.open(path) as image,
        pytest.raises(SightlineError, match=r"cannot read .*short.jpg as a picture: .*truncated"),
    ):
        predict(Bright(), image)


def test_nothing_in_nothing_out() -> None:
    assert predict(Bright(), []) == []
    assert len(predict(Bright(), picture())[0].things) == 0


def test_pictures_of_one_shape_go_together_and_come_back_in_order() -> None:
    model = Bright()
    shapes = [(20, 30), (30, 20), (20, 30), (20, 30), (30, 20), (7, 7)]
    pictures = [picture((k, 0, k + 1, 5, 0, 255), size=size) for k, size in enumerate(shapes)]
    scenes = predict(model, pictures, batch=2)
    assert [scene.size for scene in scenes] == shapes
    assert [scene.things.boxes.tolist() for scene in scenes] == [
        [[k, 0, k + 1, 5]] for k in range(6)
    ]
    assert sorted(shape[0] for shape in model.batches) == [1, 1, 2, 2]
    alone = predict(Bright(), pictures, batch=1)
    assert [s.things.boxes.tolist() for s in alone] == [s.things.boxes.tolist() for s in scenes]


@given(st.lists(st.sampled_from([(5, 7), (7, 5), (6, 6), None]), max_size=40), st.integers(1, 5))
def test_results_are_those_of_each_picture_alone_in_order(
    shapes: list[tuple[int, int] | None], batch: int
) -> None:
    """Each has a brightness of its own; None is a source that cannot be read."""
    pictures = [
        np.zeros((4, 4, 4), np.uint8) if size is None else np.full((*size, 3), 20 + k, np.uint8)
        for k, size in enumerate(shapes)
    ]
    told: list[SightlineError] = []
    stream = list(predict_stream(Bright(), pictures, batch=batch, on_error=told.append))
    readable = [picture for picture in pictures if picture.shape[2] == 3]
    assert len(told) == len(pictures) - len(readable)
    assert len(stream) == len(readable)
    for together, source in zip(stream, readable, strict=True):
        (alone,) = predict(Bright(), source)
        assert together.picture.permute(1, 2, 0).tolist() == source.tolist()
        assert together.scene.size == alone.size == source.shape[:2]
        assert together.scene.things.boxes.tolist() == alone.things.boxes.tolist()
        assert together.scene.things.scores.tolist() == alone.things.scores.tolist()  # type: ignore[union-attr]


class Endless:
    """Arrays of several sizes without end; ``taken`` were asked for, ``alive`` are still held."""

    def __init__(self, shapes: Sequence[tuple[int, int]]) -> None:
        self.shapes, self.taken, self.alive = shapes, 0, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for height, width in cycle(self.shapes):
            picture = np.full((height, width, 3), 200, np.uint8)
            self.taken, self.alive = self.taken + 1, self.alive + 1
            weakref.finalize(picture, self._freed)
            yield picture
            del picture

    def _freed(self) -> None:
        self.alive -= 1


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("kinds", [1, 2, 7, 50])
def test_a_long_stream_is_read_as_it_is_needed(batch: int, kinds: int) -> None:
    """Four batches of pictures are held and a few more, whatever their shapes."""
    sources = Endless([(5, 6 + k * k % kinds) for k in range(50)])
    stream = predict_stream(Bright(), sources, batch=batch)
    for given_out, result in enumerate(islice(stream, 150), 1):
        assert sources.taken - given_out <= 4 * batch + 7
        assert sources.alive <= 4 * batch + 9
        assert result.scene.size[0] == 5
    del result
    stream.close()
    gc.collect()
    assert sources.alive == 0


def running() -> set[threading.Thread]:
    return set(threading.enumerate())


@pytest.mark.parametrize("end", ["close", "drop", "raise"])
def test_no_thread_is_left_when_the_consumer_stops_early(end: str) -> None:
    before = running()
    stream = predict_stream(Bright(), Endless([(5, 6), (6, 5)]), batch=2)
    next(stream)
    assert running() > before
    if end == "close":
        stream.close()
    elif end == "raise":
        with pytest.raises(KeyboardInterrupt):
            stream.throw(KeyboardInterrupt())
    else:
        del stream
    assert running() == before


@pytest.mark.parametrize("step", ["forward", "describe"])
def test_an_error_in_a_step_is_raised_and_ends_all_threads(step: str) -> None:
    """A bug of a model, in the third batch of two: the first has been given, perhaps the second."""
    before, model, calls = running(), Bright(), count()
    real = getattr(model, step)

    def fail(*given: Any) -> Any:
        if next(calls) == 2:
            raise ZeroDivisionError
        return real(*given)

    setattr(model, step, fail)
    results = []
    with pytest.raises(ZeroDivisionError):
        results.extend(predict_stream(model, Endless([(5, 6)]), batch=2))
    assert len(results) in (2, 4)
    assert running() == before


@pytest.mark.usefixtures("python_s_own")
def test_ctrl_c_while_the_model_is_at_work() -> None:
    before, model = running(), Bright()
    forward, calls = model.forward, count()

    def interrupted(images: Any) -> Any:
        if next(calls) == 2:
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        return forward(images)

    model.forward = interrupted  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        list(predict_stream(model, Endless([(5, 6), (6, 5)]), batch=2))
    assert running() == before


def test_frames_of_a_video_between_pictures(folder: Path) -> None:
    """Each frame is brighter than the one before."""
    frames = [picture((0, 0, 64, 48, 0, 60 + 25 * k), size=(48, 64)) for k in range(7)]
    clip = write_clip(folder / "aa.mp4", frames)
    stream = list(predict_stream(Bright(), folder, score=0.15, batch=3))
    paths = [Path(found.scene.path).name for found in stream]
    assert paths == ["a.png", *["aa.mp4"] * 7, "b.png"]
    moments = [found.scene.moment for found in stream]
    assert moments[0] is moments[-1] is None
    assert moments[1:-1] == [Moment(k, pytest.approx(k / 25)) for k in range(7)]
    for k, (pixels, scene) in enumerate(stream[1:-1]):
        assert pixels.shape == (3, 48, 64)
        assert scene.size == (48, 64)
        assert found(scene) == {"red": pytest.approx((60 + 25 * k) / 255, abs=0.04)}
    assert [scene.moment for scene in predict(Bright(), clip)] == moments[1:-1]


def test_a_video_that_ends_too_early_is_told_and_the_others_go_on(folder: Path) -> None:
    noise = [torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8) for _ in range(50)]
    clip = write_clip(folder / "aa.mkv", noise)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    (folder / "ab.mp4").touch()
    told: list[str] = []
    stream = predict_stream(Bright(), folder, on_error=lambda error: told.append(str(error)))
    names = [Path(found.scene.path).name for found in stream]
    assert names == ["a.png", *["aa.mkv"] * (len(names) - 2), "b.png"]
    assert len(names) > 15
    assert len(told) == 2
    assert "aa.mkv is cut short" in told[0]
    assert "ab.mp4 as a video" in told[1]
    with pytest.raises(SightlineError, match=r"aa.mkv is cut short"):
        predict(Bright(), folder)


def test_no_thread_is_left_of_a_video(folder: Path) -> None:
    before = running()
    clip = write_clip(folder / "clip.mp4", [MIXED[:, :, :30]] * 40)
    stream = predict_stream(Bright(), [clip, clip], batch=2)
    assert [next(stream).scene.moment.frame for _ in range(42)][-3:] == [39, 0, 1]  # type: ignore[union-attr]
    stream.close()
    assert running() == before


def test_score_top_and_least_background() -> None:
    model = Bright()
    before = model.selection
    assert found(predict(model, MIXED, score=0.3)[0]) == {"green": 1.0, "blue": 0.4}
    assert found(predict(model, MIXED, top=1)[0]) == {"green": 1.0}
    assert found(predict(model, MIXED, least_background=2)[0]) == {"green": 1.0, "blue": 0.6}
    assert found(predict(model, MIXED, least_background=2, score=0.7)[0]) == {"green": 1.0}
    assert model.selection is before


def test_the_model_is_left_in_the_mode_it_was_in() -> None:
    model = torch.nn.Sequential(Bright(), torch.nn.Dropout())
    model.train()
    model[1].eval()
    predict(model[0], RED)
    assert model[0].training
    assert not model[1].training


def test_settings_that_make_no_sense() -> None:
    model = Bright()
    for settings, told in [
        ({"score": 2.0}, "score must lie in 0..1, not 2"),
        ({"top": 0}, "top must be 1 or more, not 0"),
        ({"top": 3, "least_background": 3}, "exclude one another"),
        ({"per_class_score": {"red": 0.5}, "least_background": 3}, "exclude one another"),
        ({"per_class_score": {"red": 0.5}, "top": 0}, "top must be 1 or more, not 0"),
        ({"batch": 0}, "batch must be 1 or more, not 0"),
        ({"batch": -1}, "batch must be 1 or more, not -1"),
    ]:
        with pytest.raises(SightlineError, match=told):
            predict(model, RED, **settings)  # type: ignore[arg-type]
    del model.selection
    with pytest.raises(SightlineError, match="does not let one choose by score, top, by"):
        predict(model, RED, least_background=3)


def test_per_class_scores(tmp_path: Path) -> None:
    model = Bright()
    chosen = {"red": 0.1, "green": 0.9}
    everything = {"green": 1.0, "blue": 0.4, "red": 0.2}
    assert found(predict(model, MIXED, per_class_score=chosen)[0]) == everything
    chosen = {"Red ": 0.1, "GREEN": 0.9}
    assert found(predict(model, MIXED, per_class_score=chosen)[0]) == everything
    chosen = {"red": 0.3}
    assert found(predict(model, MIXED, per_class_score=chosen, score=0.5)[0]) == {"green": 1.0}
    lower = {"red": 0.01}  # lower than what the model is set to
    faint = picture((2, 3, 12, 9, 0, 5))
    assert found(predict(model, faint)[0]) == {}
    assert found(predict(model, faint, per_class_score=lower)[0]) == {"red": 0.0196}
    file = tmp_path / "scores.json"
    file.write_text(
        json.dumps({"iou": 0.5, "classes": {"green": {"score": 0.2}, "red": {"score": 0.5}}})
    )
    assert found(predict(model, MIXED, per_class_score=file)[0]) == {"green": 1.0, "blue": 0.4}


def test_top_counts_what_is_above_the_thresholds() -> None:
    """Green and then blue are scored best, but green does not reach its own threshold."""
    model, chosen = Bright(), {"green": 1.0, "blue": 0.2, "red": 0.1}
    assert found(predict(model, MIXED, per_class_score=chosen)[0]) == {"blue": 0.4, "red": 0.2}
    assert found(predict(model, MIXED, per_class_score=chosen, top=1)[0]) == {"blue": 0.4}
    model.selection = replace(model.selection, top=1)
    assert found(predict(model, MIXED, per_class_score=chosen, top=3)[0]) == {
        "blue": 0.4,
        "red": 0.2,
    }


@pytest.mark.usefixtures("unchecked_shapes")
def test_a_threshold_that_is_no_number() -> None:
    with pytest.raises(SightlineError, match=r"red must be a number in 0..1, not 'high'"):
        thresholds({"red": "high"}, COLOURS, 0.05)  # type: ignore[dict-item]


def test_files_of_scores_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    with pytest.raises(SightlineError, match=r"cannot read .*scores.json"):
        thresholds(file, COLOURS, 0.05)
    for text in ("{", "[]", '{"classes": {"red": 0.5}}', '{"classes": {"red": {"score": "high"}}}'):
        file.write_text(text)
        with pytest.raises(SightlineError, match="is not a file of scores"):
            thresholds(file, COLOURS, 0.05)
    with pytest.raises(SightlineError, match="no class pink; it knows red, green, blue"):
        thresholds({"pink": 0.5}, COLOURS, 0.05)
    with pytest.raises(SightlineError, match=r"red must lie in 0..1, not 7"):
        thresholds({"red": 7.0}, COLOURS, 0.05)


def test_unreadable_pictures_are_told_and_the_others_go_on(folder: Path) -> None:
    (folder / "aa.png").write_bytes(b"not a picture")
    told: list[str] = []
    stream = predict_stream(Bright(), folder, on_error=lambda error: told.append(str(error)))
    assert [Path(found.scene.path).name for found in stream] == ["a.png", "b.png"]
    assert len(told) == 1
    assert "aa.png" in told[0]
    with pytest.raises(SightlineError, match=r"aa.png"):
        predict(Bright(), folder)


def test_results_in_cocos_format() -> None:
    (scene,) = predict(Bright(), RED)
    (row,) = coco_results(scene, COLOURS, 42)
    assert row == {
        "image_id": 42,
        "category_id": 3,
        "bbox": [2, 3, 10, 6],
        "score": pytest.approx(0.8),
    }


def test_masks_and_keypoints_in_json() -> None:
    mask = torch.zeros(1, 4, 5, dtype=torch.bool)
    mask[0, 1:3, 2:4] = True
    things = Instances(
        torch.tensor([[2.0, 1, 4, 3]]),
        torch.tensor([0]),
        torch.tensor([0.5]),
        masks=mask,
        keypoints=torch.tensor([[[2.0, 1, 0.75]]]),
    )
    scene = Scene((4, 5), things, path="a.png")
    rle = encode(mask)[0]
    segmentation = {"size": [4, 5], "counts": rle["counts"].decode()}
    (row,) = json.loads(json.dumps(coco_results(scene, Classes(("cat",)), "a")))
    assert row["segmentation"] == segmentation
    assert row["keypoints"] == [2, 1, 0.75]
    assert json.loads(json.dumps(scene_json(scene, Classes(("cat",))))) == {
        "path": "a.png",
        "height": 4,
        "width": 5,
        "things": [
            {
                "class": "cat",
                "box": [2, 1, 4, 3],
                "score": 0.5,
                "segmentation": segmentation,
                "keypoints": [[2, 1, 0.75]],
            }
        ],
    }
    scene.moment = Moment(12, 0.5)
    (row,) = coco_results(scene, Classes(("cat",)), "clip:12")
    frame = scene_json(scene, Classes(("cat",)))
    assert (row["frame"], row["seconds"]) == (frame["frame"], frame["seconds"]) == (12, 0.5)


def test_a_real_model_from_a_file(tmp_path: Path) -> None:
    model = sightline.create("faster_rcnn", classes=["cat", "dog"], **TINY).eval()
    sightline.save(model, tmp_path / "m.safetensors")
    pictures = [torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8) for _ in range(3)]
    here = predict(model, pictures, score=0.0, top=5)
    there = predict(tmp_path / "m.safetensors", pictures, score=0.0, top=5, device="cpu", batch=1)
    assert [len(scene.things) for scene in here] == [5, 5, 5]
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a.things.boxes, b.things.boxes, atol=1e-2, rtol=0)
    least = predict(model, pictures, least_background=4)
    assert [len(scene.things) for scene in least] == [4, 4, 4]


@pytest.mark.parametrize("name", ["retinanet", "fcos", "ssd"])
def test_a_model_of_one_stage_does_not_choose_by_background(name: str) -> None:
    size = {"side": 96} if name == "ssd" else {"short": 64, "long": 96}
    one = sightline.create(name, classes=COLOURS, backbone="test_resnet", **size)
    for model in (one, ensemble([Bright(), one])):
        with pytest.raises(SightlineError, match="is for models with a second stage: leave it out"):
            predict(model, RED, least_background=3)
        assert model.selection.by == "class"


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(SightlineError, match="cannot use device cuda:99"):
        predict(Bright(), RED, device="cuda:99")
