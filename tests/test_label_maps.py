"""Label maps from the folder to the file: trained, measured, predicted, exported."""

import json
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image

import sightline
from sightline import Classes, SightlineError, create, evaluate, save
from sightline.cli import main
from sightline.data.folder import open_dataset
from sightline.data.packed import DataWarning
from sightline.metrics.semantic import semantic_numbers
from sightline.recipes.recipe import Settings
from sightline.recipes.segmentation import unet
from tests.bright import Bright, Patches, picture
from tests.streets import CLASSES, write_streets


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve passes over four streets: enough to tell blue from grey. The folder holds the run
    beside its pictures."""
    folder = tmp_path_factory.mktemp("streets")
    write_streets(folder / "data")
    settings = Settings(out=folder / "run", passes=12, batch=2, workers=0, device="cpu", lr=0.01)
    options: dict[str, Any] = {"backbone": "test_resnet", "pretrained": False, "size": (48, 48)}
    result = sightline.train(unet(folder / "data", **options, scale=(1, 1), settings=settings))
    assert result.best is not None
    assert result.best > 0.9
    return folder


def test_the_best_pass_is_that_of_the_best_mean_iou(run: Path) -> None:
    log = map(json.loads, (run / "run" / "log.jsonl").read_text().splitlines())
    passes = [line["val"] for line in log if "val" in line]
    assert all("AP" not in values for values in passes)
    best = evaluate(run / "run" / "best.safetensors", run / "data")
    assert best["mIoU"] == pytest.approx(max(values["mIoU"] for values in passes), abs=1e-4)
    assert best.kind == "semantic"
    assert list(best.per_class) == ["sky", "road"]


def test_numbers_are_those_of_the_maps_that_predict_gives(run: Path) -> None:
    """At the size of the pictures in the file, in batches of any size."""
    val = open_dataset(run / "data").val
    truths = [val.scene(index) for index in range(len(val))]
    answers = sightline.predict(run / "run" / "best.safetensors", [scene.path for scene in truths])
    assert [scene.semantic.shape for scene in answers] == [scene.size for scene in truths]  # type: ignore[union-attr]
    naive = semantic_numbers(truths, answers, val.classes)
    for batch in (1, 2):
        assert evaluate(run / "run" / "best.safetensors", val, batch=batch) == naive


def test_the_table_and_the_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(run / "run" / "best.safetensors"), str(run / "data")]
    assert main(["evaluate", *given]) == 0
    table = capsys.readouterr().out
    assert "mIoU" in table
    assert "road" in table
    assert main(["evaluate", *given, "--json", "--out", str(run / "n.json")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((run / "n.json").read_text())
    assert set(told["per_class"]["sky"]) == {"IoU", "recall", "precision"}
    assert main(["evaluate", *given, "--report", str(run / "r.html")]) == 2
    assert "a label map has no boxes" in capsys.readouterr().err


def test_an_ensemble_is_measured_as_its_models_are(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two that are alike agree: together they have the numbers of one, without being told what to
    measure."""
    model, data = str(run / "run" / "best.safetensors"), str(run / "data")
    both = evaluate([model, model], data)
    assert both.kind == "semantic"
    assert both["mIoU"] == pytest.approx(evaluate(model, data)["mIoU"], abs=1e-4)
    assert main(["evaluate", model, data, "--flips", "horizontal"]) == 0
    assert "mIoU" in capsys.readouterr().out
    photo, out = str(run / "data" / "val" / "1.png"), run / "both.json"
    assert main(["predict", model, model, photo, "--coco-json", str(out)]) == 2
    assert "hold no label maps" in capsys.readouterr().err
    assert not out.exists()


def test_drawn_photos_and_maps_that_can_be_read_again(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The maps and their legend, put beside the photos, are a data set."""
    model, photos = str(run / "run" / "best.safetensors"), run / "data" / "val"
    assert main(["predict", model, str(photos), "--out", str(run / "found")]) == 0
    assert "% road" in capsys.readouterr().out
    assert {p.name for p in (run / "found").iterdir()} == {"0.jpg", "1.jpg", "maps"}
    assert {p.name for p in (run / "found" / "maps").iterdir()} == {"0.png", "1.png", "classes.txt"}
    (answer,) = sightline.predict(model, photos / "1.png")
    labels = np.asarray(Image.open(run / "found" / "maps" / "1.png"))
    assert labels.tolist() == answer.semantic.tolist()  # type: ignore[union-attr]
    again = run / "again"
    again.mkdir()
    (run / "found" / "maps" / "classes.txt").rename(again / "classes.txt")
    (run / "found" / "maps").rename(again / "masks")
    photos.rename(again / "images")
    dataset = open_dataset(again, val=0.5)
    (again / "images").rename(photos)
    assert dataset.train.classes == CLASSES


def test_a_map_as_json_counts_its_pixels(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, photo = str(run / "run" / "best.safetensors"), str(run / "data" / "val" / "1.png")
    assert main(["predict", model, photo, "--json"]) == 0
    (scene,) = json.loads(capsys.readouterr().out)
    assert sum(scene["pixels"].values()) == 48 * 40
    assert list(scene["pixels"]) == ["road", "sky"]
    assert scene["things"] == []
    assert main(["predict", model, photo, "--coco-json", str(run / "c.json")]) == 2
    assert "hold no label maps" in capsys.readouterr().err


def test_an_exported_file_is_used_like_the_checkpoint(run: Path) -> None:
    """Its logits are compared with the model's before it gets its name."""
    jaxtyping.config.update("jaxtyping_disable", True)
    model = run / "run" / "best.safetensors"
    report = sightline.export(model, run / "model.onnx", photos=run / "data" / "val")
    assert report.agreement.holds
    assert report.agreement.labelled > 4000
    assert evaluate(run / "model.onnx", run / "data")["mIoU"] == pytest.approx(
        evaluate(model, run / "data")["mIoU"], abs=1e-3
    )
    jaxtyping.config.update("jaxtyping_disable", False)


def test_other_class_lists_are_matched_by_name(run: Path, tmp_path: Path) -> None:
    """The data calls road 0 and sky 1, and also knows tree."""
    data = write_streets(tmp_path / "data")
    (data / "classes.txt").write_text("1 sky\n0 road\n2 tree\n")
    for path in data.glob("*annot/*.png"):
        labels = np.asarray(Image.open(path))
        Image.fromarray(np.where(labels < 2, 1 - labels, labels)).save(path)
    plain = evaluate(run / "run" / "best.safetensors", run / "data")
    with pytest.warns(DataWarning, match="does not know tree"):
        other = evaluate(run / "run" / "best.safetensors", data)
    assert other.per_class["sky"] == plain.per_class["sky"]
    assert other["mIoU"] == plain["mIoU"]


def test_what_has_no_maps_is_told(run: Path, tmp_path: Path) -> None:
    save(create("unet", 2, backbone="test_resnet", channels=(8,)), tmp_path / "map.safetensors")
    boxes = Patches([picture((2, 3, 12, 9, 0, 204))], [sightline.Instances.empty()])
    boxes.classes = Classes(("class 0", "class 1"))
    with pytest.raises(SightlineError, match="the data set has no label maps to compare"):
        evaluate(tmp_path / "map.safetensors", boxes)
    boxes.classes = Classes(("red", "green", "blue"))
    with pytest.raises(SightlineError, match="the model answers no label maps"):
        evaluate(Bright(), boxes, kind="semantic")
    with pytest.raises(SightlineError, match="choose by score"):
        evaluate(run / "run" / "best.safetensors", run / "data", score=0.5)
    for model in (tmp_path / "map.safetensors", [tmp_path / "map.safetensors"] * 2):
        with pytest.raises(SightlineError, match="a label map has no scores: leave out per-class"):
            sightline.predict(model, boxes.pictures, per_class_score={"class 0": 0.5})


def test_a_folder_of_boxes_cannot_be_trained_on(tmp_path: Path) -> None:
    from sightline.data.coco import write_coco

    thing = sightline.Instances(torch.tensor([[2.0, 3, 12, 9]]), torch.tensor([0]))
    boxes = Patches([picture((2, 3, 12, 9, 0, 204))] * 3, [thing] * 3)
    write_coco(boxes, tmp_path / "data", split="train")
    options: dict[str, Any] = {"backbone": "test_resnet", "pretrained": False, "val": 0.34}
    settings = Settings(out=tmp_path / "run", passes=1, batch=1, workers=0, device="cpu")
    with pytest.raises(SightlineError, match="trains on semantic, and the data set has none"):
        sightline.train(unet(tmp_path / "data", **options, settings=settings))


def test_the_same_pixels_however_validation_is_divided(run: Path) -> None:
    """Two processes' counts add up to one's."""
    from sightline.validation import Sums

    val = open_dataset(run / "data").val
    found = {n: val.scene(n) for n in range(len(val))}
    found[0].semantic = 1 - found[0].semantic.clamp(max=1)  # type: ignore[union-attr]
    whole, parts = Sums(val, "semantic"), [Sums(val, "semantic") for _ in found]
    loss = {"pixel": sightline.Loss(torch.tensor(3.0), torch.tensor(2.0))}
    whole.add(loss, found)
    for part, (number, scene) in zip(parts, found.items(), strict=True):
        part.add(loss, {number: scene})
    numbers = whole.numbers([whole.share])
    assert numbers == whole.numbers([part.share for part in parts])
    assert numbers["loss"] == numbers["pixel"] == 1.5
    assert 0 < numbers["mIoU"] < 1
