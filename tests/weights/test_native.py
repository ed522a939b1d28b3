"""Our checkpoints: what is saved is what is loaded, and what is not ours is refused in a line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from sightline import weights
from sightline.errors import SightlineError
from sightline.models import create
from sightline.types import Classes

CLASSES = Classes(("cat", "dog"), ids=(17, 18), keypoints=("nose",), skeleton=((0, 0),))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = create("faster_rcnn", CLASSES, backbone="resnet18", anchor_sizes=[[16]] * 5)
    made.preprocess = replace(made.preprocess, short=64, mean=(0.1, 0.2, 0.3))
    made.card = replace(made.card, history=({"recipe": "none", "AP": 0.5},))
    return made


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    weights.save(model, path)
    return path


def rewritten(saved: Path, path: Path, tensors=None, **changes: str) -> Path:
    """A copy with other metadata or tensors."""
    with safe_open(saved, "pt") as file:
        metadata = {**file.metadata(), "seal": "", **changes}
        own = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(own if tensors is None else tensors, path, metadata)
    return path


def test_round_trip(model, saved):
    loaded = weights.load(saved)
    assert loaded.card == model.card
    assert loaded.preprocess == model.preprocess
    assert not loaded.training
    state = loaded.state_dict()
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [path.name for path in saved.parent.iterdir()] == [saved.name], "nothing left beside it"


def test_frozen_stages_load_into_a_model_without(model, tmp_path):
    from sightline.layers.norm import freeze_batchnorm

    frozen = create("faster_rcnn", CLASSES, backbone="resnet18")
    freeze_batchnorm(frozen.backbone)
    weights.save(frozen, tmp_path / "frozen.safetensors")
    loaded = weights.load(tmp_path / "frozen.safetensors")
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(loaded.backbone(x)[-1], frozen.backbone(x)[-1])


class Tied(nn.Module):
    """Two layers of one weight, in an odd memory format, and an empty tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.card, self.preprocess = model.card, model.preprocess
        self.first = nn.Conv2d(2, 2, 3, bias=False).to(memory_format=torch.channels_last)
        self.second = nn.Conv2d(2, 2, 3, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("none", torch.zeros(0, 4))
        self.register_buffer("nothing", torch.zeros(0, 4))


def test_tied_tensors_are_written_once(model, tmp_path):
    tied = Tied(model)
    weights.save(tied, tmp_path / "tied.safetensors")
    with safe_open(tmp_path / "tied.safetensors", "pt") as file:
        assert sorted(file.keys()) == ["first.weight", "none", "nothing"]
    read = weights.read(tmp_path / "tied.safetensors")
    assert torch.equal(read.tensors["second.weight"], tied.first.weight)


def test_a_failed_save_keeps_the_old_file(model, saved, tmp_path):
    folder = tmp_path / "file"
    folder.write_text("not a folder")
    with pytest.raises(SightlineError, match="cannot be written"):
        weights.save(model, folder / "model.safetensors")


def test_options_that_are_no_values(tmp_path):
    model = create("faster_rcnn", 1, backbone="resnet18")
    model.card = replace(model.card, options={"heads": {"mask": nn.Identity()}})
    with pytest.raises(SightlineError, match="'heads' of faster_rcnn is no plain value"):
        weights.save(model, tmp_path / "model.safetensors")


def test_model_without_a_card(tmp_path):
    with pytest.raises(SightlineError, match="no card"):
        weights.save(nn.Linear(1, 1), tmp_path / "model.safetensors")


def test_cut_short(saved, tmp_path):
    whole = saved.read_bytes()
    for length in (0, 1, 5, 100, len(whole) // 2, len(whole) - 1):
        path = tmp_path / f"{length}.safetensors"
        path.write_bytes(whole[:length])
        with pytest.raises(
            SightlineError, match=f"{length}.safetensors: no checkpoint, or one cut"
        ):
            weights.load(path)


def other_card(saved: Path, **changes) -> str:
    with safe_open(saved, "pt") as file:
        return json.dumps(json.loads(file.metadata()["card"]) | changes)


def test_other_files_are_refused_in_a_line(saved, tmp_path):
    def refused(message: str, path: Path) -> None:
        with pytest.raises(SightlineError, match=message) as caught:
            weights.load(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)

    text = tmp_path / "text.safetensors"
    text.write_text("a page of text, long enough to hold eight bytes")
    refused("no checkpoint", text)
    bare = tmp_path / "bare.safetensors"
    save_file({"x": torch.zeros(1)}, bare)
    refused("not a checkpoint of this library", bare)
    path = tmp_path / "changed.safetensors"
    refused("state of a training run", rewritten(saved, path, format="sightline.training 1"))
    refused("another version", rewritten(saved, path, format="sightline.weights 99"))
    refused("unknown model", rewritten(saved, path, card=other_card(saved, model="yolo_v99")))
    bad_option = other_card(saved, options={"wheels": 4})
    refused("no option wheels", rewritten(saved, path, card=bad_option))
    other = other_card(saved, options={"backbone": "resnet34"})
    refused(r"not the tensors of the faster_rcnn.*more", rewritten(saved, path, card=other))
    refused("x is unknown", rewritten(saved, path, tensors=with_extra(saved)))
    refused("unknown fields: blur", rewritten(saved, path, preprocess='{"blur": 1}'))
    refused("no such file", tmp_path / "absent.safetensors")
    refused("is a folder, but not one of a run", tmp_path)


def with_extra(saved: Path):
    with safe_open(saved, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()} | {"x": torch.zeros(1)}  # noqa: SIM118


def test_a_path_that_cannot_be_looked_at_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(SightlineError, match=r"cannot read .*xxx: File name too long"):
        weights.load(tmp_path / ("x" * 300))

    def closed(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", closed)
    with pytest.raises(SightlineError, match=r"cannot read .*m\.safetensors: Permission denied"):
        weights.load(tmp_path / "m.safetensors")


def test_near_names_are_named():
    with pytest.raises(SightlineError, match="did you mean fasterrcnn_resnet50_fpn"):
        weights.load("fasterrcnn_resnet50")


def test_a_damaged_header(saved, tmp_path):
    path = tmp_path / "damaged.safetensors"
    with safe_open(saved, "pt") as file:
        metadata = dict(file.metadata())
    for key in ("card", "tied", "preprocess"):
        for text in (None, "{", "[]"):
            changed = {k: text if k == key else v for k, v in metadata.items()}
            save_file({}, path, {k: v for k, v in changed.items() if v is not None})
            with pytest.raises(SightlineError, match="damaged"):
                weights.read(path)


def flipped(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("place", [-1, -1000, 400])
def test_a_flipped_bit_is_one_line(place, saved, tmp_path):
    """Of a weight (the lowest bit of its exponent or its last digit) or of the header."""
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(saved.read_bytes())
    flipped(path, place)
    with pytest.raises(SightlineError, match=r"flipped\.safetensors"):
        weights.read(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda value: value.fill_(float("nan")), "box_head.class_score.weight is not finite"),
        (lambda value: value.to(torch.int32), r"box_head.class_score.weight is of torch.int32"),
    ],
)
def test_tensors_that_cannot_be_weights(change, told, saved, tmp_path):
    with safe_open(saved, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = "box_head.class_score.weight"
    tensors[name] = change(tensors[name].clone())
    with pytest.raises(SightlineError, match=told):
        weights.load(rewritten(saved, tmp_path / "odd.safetensors", tensors))


@pytest.mark.parametrize("options", [{"channels": "x"}, {"channels": -1}, {"anchor_sizes": 3}])
def test_options_that_no_model_can_be_built_with(options, saved, tmp_path):
    bad = other_card(saved, options={"backbone": "resnet18", **options})
    with pytest.raises(SightlineError, match=r"odd\.safetensors: no faster_rcnn can be built"):
        weights.load(rewritten(saved, tmp_path / "odd.safetensors", card=bad))


@pytest.mark.parametrize(
    "classes",
    [
        {"names": ["cat"], "ids": [17, 18]},
        {"names": ["cat", 3], "ids": [17, 18]},
        {"names": ["cat", "dog"], "ids": [17, 18], "keypoints": ["nose"], "mirrored": [4]},
        {"names": ["cat", "dog"], "ids": [17, 18], "skeleton": [[0, 1]]},
    ],
)
def test_classes_that_contradict_themselves(classes, saved, tmp_path):
    bad = other_card(saved, classes=classes)
    with pytest.raises(SightlineError, match="its header is damaged"):
        weights.read(rewritten(saved, tmp_path / "odd.safetensors", card=bad))
