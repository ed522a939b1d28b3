"""One file that runs without this library: its answers, what it says of itself, what it refuses."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor

from sightline import SightlineError, create, ensemble, evaluate, export, predict, save
from sightline.cli import main
from sightline.data.toybox import Toybox, toybox_splits
from sightline.data.toybox.folder import write_toybox
from sightline.export import SUFFIXES, compare
from sightline.models import Card
from sightline.preprocess import Preprocess
from sightline.quantize import quantize
from sightline.runtime import Exported, Header, open_model
from sightline.types import Classes

NAMES = ["cube", "sphere", "cylinder", "cone", "torus"]


@pytest.fixture(scope="module", autouse=True)
def unchecked() -> Iterator[None]:
    """torch.export cannot see through the checks of shapes."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def folder(unchecked: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small detector of untrained weights that finds many things, its ONNX file, and photos."""
    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    options: dict[str, Any] = {"backbone": "test_resnet", "channels": 32, "hidden": 32}
    model = create("faster_rcnn", NAMES, short=96, long=160, proposals=100, **options)
    torch.nn.init.normal_(model.box_head.class_score.weight, std=0.5)
    save(model.eval(), folder / "model.safetensors")
    photos = folder / "photos"
    photos.mkdir()
    for number, size in enumerate([(96, 128), (128, 96), (100, 100)]):
        picture = Toybox(1, seed=number, size=size).picture(0)
        _write(picture, photos / f"{number}.png")
    export(folder / "model.safetensors", folder / "model.onnx", photos=photos)
    return folder


def _write(picture: Tensor, path: Path) -> None:
    from PIL import Image

    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path)


def test_its_answers_are_the_model_s(folder: Path) -> None:
    ours = predict(folder / "model.safetensors", folder / "photos")
    theirs = predict(folder / "model.onnx", folder / "photos", batch=1)
    assert sum(len(scene.things) for scene in ours) > 50
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.things.labels, b.things.labels)
        torch.testing.assert_close(a.things.boxes, b.things.boxes, rtol=0, atol=0.01)
        torch.testing.assert_close(a.things.scores, b.things.scores, rtol=0, atol=1e-4)


def test_it_is_one_file_of_standard_operators_with_names_and_preprocessing(folder: Path) -> None:
    import onnx

    graph = onnx.load(folder / "model.onnx")
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}
    assert [value.name for value in graph.graph.input] == ["pixels", "sizes"]
    text = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(text["card"])["classes"]["names"] == NAMES
    assert json.loads(text["preprocess"])["short"] == 96
    assert json.loads(text["selection"])["top"] == 100


def test_it_can_be_asked_for_fewer_things_and_not_for_more(folder: Path) -> None:
    photo = folder / "photos" / "0.png"
    (every,) = predict(folder / "model.onnx", photo)
    (three,) = predict(folder / "model.onnx", photo, top=3)
    assert torch.equal(three.things.scores, every.things.scores[:3])
    limit = every.things.scores[5].item()
    (above,) = predict(folder / "model.onnx", photo, score=limit)
    assert (above.things.scores > limit).all()
    for wish in ({"score": 0.01}, {"top": 500}, {"least_background": 3}):
        with pytest.raises(SightlineError, match="other settings need the checkpoint"):
            predict(folder / "model.onnx", photo, **wish)


def test_it_is_part_of_an_ensemble_beside_its_checkpoint(folder: Path) -> None:
    """Both find the same; NMS leaves each thing once."""
    photo = folder / "photos" / "0.png"
    (alone,) = predict(folder / "model.safetensors", photo)
    both = ensemble([folder / "model.safetensors", folder / "model.onnx"], fuse="nms")
    (scene,) = predict(both, photo)
    torch.testing.assert_close(scene.things.scores, alone.things.scores, rtol=0, atol=1e-4)
    with pytest.raises(SightlineError, match="other settings need the checkpoint"):
        predict(both, photo, score=0.01)


def test_it_is_measured_like_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    write_toybox(toybox_splits(2, 2, 0, (96, 96), (2, 4)), tmp_path / "toys")
    ours = evaluate(folder / "model.safetensors", tmp_path / "toys")
    assert evaluate(folder / "model.onnx", tmp_path / "toys")["AP"] == pytest.approx(ours["AP"])


def test_a_model_on_regions_from_outside(folder: Path, tmp_path: Path) -> None:
    """RoIPool, and proposals as a third input, of another number than in the example."""
    torch.manual_seed(0)
    model = create("fast_rcnn", NAMES, backbone="test_resnet", short=96, long=160).eval()
    torch.nn.init.normal_(model.box_head.class_score.weight, std=2.0)
    photos = sorted((folder / "photos").iterdir())[:2]
    corners = torch.rand(70, 2, 2).sort(dim=1).values * 96
    regions = [corners[:30].flatten(1), corners[30:].flatten(1)]
    export(model, tmp_path / "fast.onnx", photos=photos, regions=regions)
    exported = Exported.open(tmp_path / "fast.onnx")
    pictures = [Toybox(1, seed=seed, size=(90, 130)).picture(0) for seed in range(3)]
    found = compare(model, exported, pictures, [corners[:n].flatten(1) for n in (5, 70, 0)])
    assert found.holds
    assert found.matched > 50
    with pytest.raises(SightlineError, match="of 1 photos, but there are 2"):
        export(model, tmp_path / "fast.onnx", photos=photos, regions=regions[:1])


@pytest.mark.slow
def test_openvino_s_answers_are_the_model_s(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    out = tmp_path / "model.xml"
    agreement, cost = export(folder / "model.safetensors", out, "openvino", folder / "photos")
    assert agreement.holds
    assert cost is None
    assert agreement.matched > 50
    assert {file.name for file in tmp_path.iterdir()} == {"model.xml", "model.bin"}
    assert open_model(out).card.classes.names == tuple(NAMES)


def test_in_8_bits_it_is_used_like_any_other(folder: Path, tmp_path: Path) -> None:
    header = Header.of(Exported.open(folder / "model.onnx"))
    pictures = [Toybox(1, seed=seed, size=(96, 128)).picture(0) for seed in range(2)]
    batches = (header.preprocess([picture])[0] for picture in pictures)
    about = header._replace(precision="int8").to_text()
    quantize(folder / "model.onnx", tmp_path / "model.onnx", batches, about)
    assert Exported.open(folder / "model.onnx").precision == "f32"
    assert Exported.open(tmp_path / "model.onnx").precision == "int8"
    (exact,) = predict(folder / "model.onnx", folder / "photos" / "0.png", top=20)
    (eight,) = predict(tmp_path / "model.onnx", folder / "photos" / "0.png", top=20)
    assert (eight.things.scores - exact.things.scores).abs().max() < 0.05
    assert not torch.equal(eight.things.scores, exact.things.scores)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_what_8_bits_cost_is_measured(
    to: Any, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the val of a folder of labelled pictures; ranges are seen on its train."""
    pytest.importorskip("openvino")
    write_toybox(toybox_splits(3, 2, 0, (96, 96), (2, 4)), tmp_path / "toys")
    model, out = str(folder / "model.safetensors"), tmp_path / "out" / f"m{SUFFIXES[to][0]}"
    flags = ["--data", str(tmp_path / "toys"), "--int8", "--to", to, "--out", str(out)]
    assert main(["export", model, *flags]) == 0
    told = capsys.readouterr().out
    assert re.search(r"in 8 bits: AP 0\.\d{3} -> 0\.\d{3} \([+-]0\.\d{3}\) on 2 pictures", told)
    assert f"written: {out} (int8)" in told
    assert Exported.open(out).precision == "int8"
    assert {file.suffix for file in out.parent.iterdir()} == set(SUFFIXES[to])
    assert len(predict(out, folder / "photos" / "0.png")[0].things) > 0


@pytest.mark.slow
def test_bf16_is_named_as_such(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    model, photo = str(folder / "model.safetensors"), str(folder / "photos" / "0.png")
    out = tmp_path / "m.xml"
    assert main(["export", model, photo, "--to", "openvino", "--bf16", "--out", str(out)]) == 0
    assert f"written: {out} (bf16)" in capsys.readouterr().out
    assert Exported.open(out).precision == "bf16"
    assert len(predict(out, photo)[0].things) > 0


def test_a_precision_that_nobody_knows_is_refused(folder: Path, tmp_path: Path) -> None:
    text = Header.of(Exported.open(folder / "model.onnx")).to_text()
    for name, value in {"precision": "f64", "preprocess": "{"}.items():
        with pytest.raises(SightlineError, match="header is damaged"):
            Header.from_text(tmp_path, text | {name: value})
    del text["precision"]  # as files before it was named
    assert Header.from_text(tmp_path, text).precision == "f32"


def test_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo, model = str(folder / "photos" / "0.png"), str(folder / "model.safetensors")
    assert main(["export", model, "--out", str(tmp_path / "x.onnx")]) == 2
    assert "name a few photos" in capsys.readouterr().err
    assert main(["export", model, photo, "--out", str(tmp_path / "x.xml")]) == 2
    assert "ends in .onnx" in capsys.readouterr().err
    (tmp_path / "y.bin").write_bytes(b"somebody's")
    assert main(["export", model, photo, "--to", "openvino", "--out", str(tmp_path / "y.xml")]) == 2
    assert "y.bin exists without y.xml" in capsys.readouterr().err
    assert (tmp_path / "y.bin").read_bytes() == b"somebody's"
    assert main(["export", model, photo, "--int8"]) == 2
    assert "labelled photos (--data)" in capsys.readouterr().err
    assert main(["export", model, photo, "--bf16"]) == 2
    assert "--to openvino" in capsys.readouterr().err
    assert main(["export", model, photo, "--bf16", "--int8"]) == 2
    assert "choose one" in capsys.readouterr().err
    assert main(["predict", str(folder / "model.onnx"), photo, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "0.jpg").is_file()


def test_how_a_checkpoint_computes_is_chosen_and_an_exported_file_s_is_not(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, model = str(folder / "photos" / "0.png"), str(folder / "model.safetensors")
    assert main(["predict", model, photo, "--bf16", "--out", str(tmp_path)]) == 0
    precisions = {value.dtype for value in open_model(model, bf16=True).parameters()}
    assert torch.bfloat16 in precisions
    assert main(["predict", model, photo, "--bf16", "--no-fast"]) == 2
    assert "leave out no-fast" in capsys.readouterr().err
    assert main(["predict", str(folder / "model.onnx"), photo, "--compile"]) == 2
    assert "settled when it was exported" in capsys.readouterr().err
    assert main(["predict", str(folder / "model.onnx"), photo, "--device", "cuda"]) == 2
    assert "run on the CPU" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_what_is_no_such_file_is_told_in_one_line(suffix: str, tmp_path: Path) -> None:
    if suffix == ".xml":
        pytest.importorskip("openvino")
    path = tmp_path / f"model{suffix}"
    with pytest.raises(SightlineError, match="no such file"):
        open_model(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(SightlineError, match="or one cut short"):
        open_model(path)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_a_name_that_is_too_long_is_one_line(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=r"cannot read .*: File name too long"):
        open_model(tmp_path / f"{'x' * 300}{suffix}")


@pytest.mark.parametrize(
    ("options", "selection"),
    [
        ({"channels": -1}, {}),
        ({"backbone": "resnet0"}, {}),
        ({"polish": 1}, {}),
        ({}, ["score"]),
        ({}, {"polish": 1}),
    ],
)
def test_a_header_that_no_model_can_be_built_of(options: dict[str, Any], selection: Any) -> None:
    card = Card("faster_rcnn", {"backbone": "test_resnet"} | options, Classes(tuple(NAMES)))
    header = Header(card, Preprocess(), selection)
    with pytest.raises(SightlineError, match=r"^a\.onnx: "):
        Exported(Path("a.onnx"), header, lambda given: [])


def test_a_foreign_onnx_file_is_refused(folder: Path, tmp_path: Path) -> None:
    import onnx

    graph = onnx.load(folder / "model.onnx")
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "foreign.onnx")
    with pytest.raises(SightlineError, match="not written by sightline export"):
        open_model(tmp_path / "foreign.onnx")


def test_a_model_without_a_card_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="has no card"):
        export(torch.nn.Linear(1, 1), tmp_path / "a.onnx", photos=_black(tmp_path))


def test_a_fused_model_is_refused_at_once(folder: Path, tmp_path: Path) -> None:
    fast = open_model(folder / "model.safetensors")
    with pytest.raises(SightlineError, match="give the one it was made of"):
        export(fast, tmp_path / "a.onnx", photos=_black(tmp_path))


@pytest.mark.slow
def test_a_model_that_finds_nothing_cannot_be_compared(tmp_path: Path) -> None:
    options: dict[str, Any] = {"backbone": "test_resnet", "channels": 32, "hidden": 32}
    model = create("faster_rcnn", NAMES, short=96, long=160, proposals=50, **options)
    torch.nn.init.constant_(model.box_head.class_score.bias, -9.0)
    torch.nn.init.constant_(model.box_head.class_score.bias[-1:], 9.0)
    with pytest.raises(SightlineError, match="finds nothing"):
        export(model, tmp_path / "a.onnx", photos=_black(tmp_path))
    assert not (tmp_path / "a.onnx").exists()


def _black(folder: Path) -> Path:
    _write(torch.zeros(3, 8, 8, dtype=torch.uint8), folder / "black.png")
    return folder / "black.png"


def test_the_comparison_sees_a_difference(folder: Path) -> None:
    """A file that answers something else is not accepted in the place of the model."""
    exported = Exported.open(folder / "model.onnx")
    other = create("faster_rcnn", **_arguments(exported)).eval()
    picture = Toybox(1, seed=0, size=(96, 128)).picture(0)
    assert compare(exported, exported, [picture]).holds
    assert not compare(other, exported, [picture]).holds


def _arguments(exported: Exported) -> dict[str, Any]:
    return {"classes": exported.card.classes, **exported.card.options}


@pytest.mark.slow
def test_nothing_is_left_of_a_file_that_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer lies less than nothing from another."""
    monkeypatch.setattr(sys.modules["sightline.agreement"], "PIXELS", -1.0)
    shutil.copy(folder / "model.safetensors", tmp_path / "model.safetensors")
    with pytest.raises(SightlineError, match="was not written"):
        export(tmp_path / "model.safetensors", tmp_path / "a.onnx", photos=folder / "photos")
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_flipped_bit_is_one_line(place: float, folder: Path, tmp_path: Path) -> None:
    """Of a weight, mostly: neither the format nor its runtimes would see it."""
    data = bytearray((folder / "model.onnx").read_bytes())
    data[int(place * len(data))] ^= 64
    (tmp_path / "flipped.onnx").write_bytes(data)
    with pytest.raises(SightlineError, match=r"flipped\.onnx: damaged"):
        open_model(tmp_path / "flipped.onnx")
