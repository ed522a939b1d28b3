"""Every model and all six probes against the suite that every model must pass."""

import inspect
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import sightline.models
from sightline.types import Images, Scene
from tests import contracts, probes
from tests.contracts import CONTRACTS, Case, boxes_are_right, map_is_right

PROBES = {
    "probe_grid": probes.Grid,
    "probe_queries": probes.Queries,
    "probe_outside": probes.Outside,
    "probe_map": probes.LabelMap,
    "probe_heads": probes.with_heads,
}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, builder in PROBES.items():
        monkeypatch.setitem(sightline.models.MODELS, name, builder)


def with_regions(images: Images, targets: Sequence[Scene]) -> Images:
    """Each picture's true boxes, shifted copies of them, and slots that stay empty."""
    regions = torch.zeros(len(targets), 16, 4)
    for row, scene in zip(regions, targets, strict=True):
        boxes = scene.things.boxes
        near = torch.cat([boxes, boxes + 3, boxes - 25, boxes + 25]).clamp(min=0, max=128)
        row[: len(near)] = near
    return images._replace(regions=regions)


def heads_are_right(answers: list[Scene], scenes: list[Scene]) -> None:
    """The words are those of each thing, and its width is right within a tenth."""
    boxes_are_right(answers, scenes)
    for answer, scene in zip(answers, scenes, strict=True):
        said = contracts.answers_of(answer, scene).extra
        assert said["words"].tolist() == scene.things.extra["words"].tolist()
        torch.testing.assert_close(said["width"], scene.things.extra["number"], rtol=0.1, atol=0)


SMALL = probes.TINY | {"channels": 32}
MIDDLES = SMALL | {"freeze_norm": False}
AGNOSTIC = SMALL | {"proposals": 50, "class_agnostic": True, "objectness": "softmax"}
TINY_PICTURES: dict[str, Any] = {"backbone": "test_resnet", "short": 96, "long": 128}
SINGLE = TINY_PICTURES | {"samples": 64}
ONE_STAGE = TINY_PICTURES | {"channels": 64, "convs": 1}
LECTURE = ONE_STAGE | {"distances": "exp", "box_loss": "l2", "radius": 0, "score": "root"}
SOFTMAX = ONE_STAGE | {"scores": "softmax", "class_agnostic": False, "box_loss": "giou"}
SSD = {"backbone": "test_resnet", "channels": 64, "side": 128}
CASES = [
    Case("probe_grid", boxes_are_right, steps=200, lr=1e-3),
    Case("probe_queries", boxes_are_right, steps=400, lr=3e-3),
    Case("probe_outside", boxes_are_right, bring=with_regions, steps=60, lr=1e-2),
    Case("probe_map", map_is_right, steps=80, lr=1e-2),
    Case("probe_heads", heads_are_right, {"words": True, "width": True}, steps=160, lr=2e-3),
    Case("faster_rcnn", boxes_are_right, probes.TINY | {"proposals": 50}, steps=100, lr=3e-3),
    Case("faster_rcnn", boxes_are_right, AGNOSTIC, steps=100, lr=3e-3),
    Case("faster_rcnn_detectron2", boxes_are_right, MIDDLES, steps=100, lr=3e-3),
    Case("faster_rcnn_v2", boxes_are_right, SMALL, steps=100, lr=3e-3),
    Case("faster_rcnn_single", boxes_are_right, SINGLE, steps=60, lr=4e-3),
    Case("fcos", boxes_are_right, ONE_STAGE, steps=80, lr=5e-3),
    Case("fcos", boxes_are_right, LECTURE, steps=80, lr=5e-3),
    Case("retinanet", boxes_are_right, ONE_STAGE | {"channels": 32}, steps=100, lr=5e-3),
    Case("retinanet", boxes_are_right, SOFTMAX | {"head_norm": True}, steps=160, lr=3e-3),
    Case("ssd", boxes_are_right, SSD, steps=60, lr=2e-3),
    Case("ssdlite", boxes_are_right, SSD, steps=120, lr=3e-2),
    Case("fcn", map_is_right, {"backbone": "test_resnet", "short": 96}, steps=100, lr=3e-3),
    Case("unet", map_is_right, {"backbone": "test_resnet", "short": 96}, steps=40, lr=5e-3),
    Case("fast_rcnn", boxes_are_right, SINGLE, bring=with_regions),
]


def test_every_model_has_a_case() -> None:
    assert set(sightline.models.MODELS) - set(PROBES) <= {case.name for case in CASES}


@pytest.mark.usefixtures("unchecked_shapes")  # torch.export cannot see through the checks
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_contract(case: Case, contract: Callable[..., None], tmp_path: Path) -> None:
    if contract is contracts.assert_learns_without_regions and case.bring is contracts.unchanged:
        pytest.skip("takes no regions from outside")
    if contract is contracts.assert_saves_and_loads:
        contract(case, tmp_path)
    else:
        contract(case)


NO_PROBES = [number for number, case in enumerate(CASES) if case.name not in PROBES]


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("number", NO_PROBES, ids=lambda number: str(CASES[number]))
def test_as_onnx(number: int, tmp_path: Path) -> None:
    contracts.assert_becomes_onnx(CASES[number], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", NO_PROBES, ids=lambda number: str(CASES[number]))
def test_compiled(number: int) -> None:
    """In a process of its own: pytest has shapes checked, which cannot be compiled."""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-m", "tests.compiled", str(number)], cwd=root, check=True)


@pytest.mark.parametrize(
    "probe",
    [probes.Grid, probes.Queries, probes.Outside, probes.LabelMap, probes.Words, probes.Width],
)
def test_a_probe_has_at_most_forty_lines(probe: type) -> None:
    lines = inspect.getsource(probe).splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 40


def test_the_padding_is_not_looked_at() -> None:
    case = CASES[1]
    model = case.build().eval()
    batch = contracts.batch_of(case, model, *contracts.pictures())
    spoilt = batch.images.pixels.clone()
    for picture, (height, width) in zip(spoilt, batch.images.sizes.tolist(), strict=True):
        picture[:, height:], picture[:, :, width:] = 9.0, 9.0
    clean, noisy = model(batch.images), model(batch.images._replace(pixels=spoilt))
    torch.testing.assert_close(clean.boxes, noisy.boxes)


def test_pictures_without_a_single_region_are_answered() -> None:
    case = CASES[-1]
    model = case.build().eval()
    batch = contracts.batch_of(case, model, *contracts.pictures())
    none = batch.images._replace(regions=torch.zeros(2, 0, 4))
    assert [len(scene.things) for scene in model.describe(model(none), batch.placements)] == [0, 0]
