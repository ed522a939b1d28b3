"""torchvision's checkpoints through our converter: the same answers, at a small size.

The full comparison on photos is benchmarks/parity_torchvision.py.
"""

import os
import pickle
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import torchvision

from benchmarks.bad_material import torchvision_like
from benchmarks.parity_torchvision import measure
from benchmarks.random_twins import carried_over, categories, random_twin
from sightline import weights
from sightline.errors import SightlineError
from sightline.runtime import open_model
from sightline.weights.releases import RELEASES
from sightline.weights.torchvision import published_url, read_torchvision


def picture(height: int, width: int):
    """Soft blobs with grain: enough like a photo."""
    soft = F.interpolate(torch.rand(1, 3, 6, 8), size=(height, width), mode="bicubic")[0]
    return ((soft + 0.05 * torch.randn_like(soft)).clamp(0, 1) * 255).byte()


SMALL = {"min_size": 128, "max_size": 192}
PROPOSALS = {"rpn_post_nms_top_n_test": 30}
DETECTORS = [name for name, release in RELEASES.items() if not release.stuff]


@pytest.mark.parametrize("name", DETECTORS)
def test_same_answers(name):
    release = RELEASES[name]
    two_stages = release.model.startswith("faster_rcnn")
    smaller = SMALL if release.preprocess.fixed is None else {}
    pictures = [picture(120, 160), picture(100, 180)]
    theirs = random_twin(name, pictures, **smaller, **(PROPOSALS if two_stages else {}))
    ours = carried_over(name, theirs)
    if smaller:
        ours.preprocess = replace(ours.preprocess, short=128, long=192)
    if two_stages:
        ours.rpn.amount = replace(ours.rpn.amount, proposals=30)
    for parity in measure(name, theirs, ours, pictures, batch=2):
        assert parity.passed, parity
        assert parity.detections > 0


@pytest.mark.parametrize("name", DETECTORS)
def test_preprocessing_is_theirs(name):
    with torch.device("meta"):
        build = torchvision.models.get_model_builder(name)
        theirs = build(weights=None, weights_backbone=None).transform
    ours = RELEASES[name].preprocess
    assert (list(ours.mean), list(ours.std)) == (theirs.image_mean, theirs.image_std)
    assert (ours.resize, ours.antialias) == ("torchvision", False)
    assert ours.multiple == theirs.size_divisible
    if theirs.fixed_size is not None:
        assert ours.fixed == theirs.fixed_size
    else:
        assert (ours.short, ours.long) == (theirs.min_size[-1], theirs.max_size)
        assert ours.fixed is None


@pytest.mark.parametrize("name", [name for name in RELEASES if name not in DETECTORS])
@pytest.mark.parametrize("size", [(100, 130), (1200, 700)])
def test_the_photos_of_label_maps_are_those_of_their_preset(name, size):
    photo = picture(*size)
    images, _ = RELEASES[name].preprocess([photo])
    transform = torchvision.models.get_weight(RELEASES[name].enum).transforms()
    assert torch.equal(images.pixels[0], transform(photo))


def test_classes_are_coco_s():
    names = categories("fasterrcnn_resnet50_fpn")
    assert (len(names), names[0], names[1], names[90]) == (
        91,
        "__background__",
        "person",
        "toothbrush",
    )


@pytest.fixture(scope="module")
def own_file(tmp_path_factory):
    """A user's own: three classes, BatchNorm that was trained, in a training checkpoint."""
    path = tmp_path_factory.mktemp("weights") / "mine_320.pth"
    model = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_fpn(
        weights=None, weights_backbone=None, num_classes=4
    )
    torch.save({"model": model.state_dict(), "epoch": 3}, path)
    return path


def test_a_user_s_own_classes(own_file):
    model = weights.load(own_file)
    assert model.card.classes.names == ("class 1", "class 2", "class 3")
    assert model.card.classes.ids == (1, 2, 3)
    assert model.card.options["freeze_norm"] is False
    assert model.card.options["proposals"] == 150, "320 is in the file's name"
    assert model.card.history[0]["source"] == "torchvision"


def test_old_names_of_the_first_files():
    """The published files of 2020 have no index inside a block of convolution and activation."""
    release = RELEASES["fasterrcnn_resnet50_fpn"]
    from sightline.weights.torchvision import _rename

    renamed = {
        "backbone.fpn.inner_blocks.2.weight": "fpn.lateral.2.0.weight",
        "backbone.fpn.layer_blocks.0.bias": "fpn.output.0.0.bias",
        "rpn.head.conv.weight": "rpn.convs.0.weight",
        "backbone.fpn.inner_blocks.2.0.weight": "fpn.lateral.2.0.weight",
        "rpn.head.conv.0.0.weight": "rpn.convs.0.weight",
    }
    assert {key: _rename(key, release) for key in renamed} == renamed
    release = RELEASES["retinanet_resnet50_fpn"]
    renamed = {
        "backbone.fpn.extra_blocks.p6.weight": "fpn.p6.weight",
        "head.classification_head.conv.2.weight": "class_head.convs.1.0.weight",
        "head.classification_head.conv.2.0.weight": "class_head.convs.2.0.weight",
        "head.regression_head.conv.6.bias": "box_head.convs.3.0.bias",
        "head.regression_head.bbox_reg.bias": "box_head.last.bias",
    }
    assert {key: _rename(key, release) for key in renamed} == renamed


class Surprise:
    """A pickle that would run a program."""

    def __reduce__(self):
        return print, ("run",)


def test_other_files_are_refused_in_a_line(own_file, tmp_path, capsys):
    def refused(message: str, content) -> None:
        path = tmp_path / "file.pth"
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        with pytest.raises(SightlineError, match=message) as caught:
            weights.load(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)

    refused("holds more than tensors", {"model": Surprise()})
    assert capsys.readouterr().out == "", "nothing was run"
    refused("cut short", own_file.read_bytes()[:5000])
    refused("none of the checkpoints known here", {"fc.weight": torch.zeros(2)})
    refused("none of the checkpoints known here", [torch.zeros(2)])
    state = torch.load(own_file, weights_only=True)["model"]
    headless = {k: v for k, v in state.items() if "box_predictor" not in k}
    refused("box_predictor.cls_score.weight is missing", headless)
    refused("its entry 'model' holds no tensors", {"model": [torch.zeros(2)]})
    refused("backbone.fpn.extra is unknown", state | {"backbone.fpn.extra": torch.zeros(1)})


def test_urls_carry_a_hash():
    for name in RELEASES:
        assert "-" in published_url(name).rpartition("/")[2]


@pytest.mark.parametrize(("rows", "factor"), [(91, 2**0.5), (2, 1.0)])
def test_eps_is_folded_into_the_weight(rows, factor, tmp_path):
    """w / sqrt(v + 0) = w' / sqrt(v + 1e-5): with v = 1e-5 the weight grows by sqrt(2). With other
    classes than COCO's torchvision divides by 1e-5 as we do."""
    theirs = torchvision.models.detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=rows
    )
    state = {k: v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    state["backbone.body.bn1.running_var"].fill_(1e-5)
    state["backbone.body.bn1.weight"].fill_(3.0)
    torch.save(state, tmp_path / "model.pth")
    tensors = read_torchvision(tmp_path / "model.pth").tensors
    expected = torch.full((64,), 3.0 * factor)
    torch.testing.assert_close(tensors["backbone.body.bn1.weight"], expected)


@pytest.mark.parametrize("name", ["a.pth", "a.pkl", "a.safetensors", "a.npy", "a.onnx"])
@pytest.mark.parametrize("head", [b"", b"PK", b"\x80\x02", b"\x93NUMPY\x01\x00"])
def test_a_pickle_is_never_executed(name, head, tmp_path):
    """The canary would be made by whoever executes it: as it stands, as torch.load's formats have
    it, as Detectron2's .pkl, or as the objects of a numpy array."""
    canary, path = tmp_path / "canary", tmp_path / name
    command = f"touch {canary}".encode()
    code = b"\x80\x02cos\nsystem\nX" + len(command).to_bytes(4, "little") + command + b"\x85R."
    path.write_bytes(code if head == b"\x80\x02" else head + code)
    with pytest.raises(SightlineError, match=name):
        open_model(path)
    torch.save({"model": Touching(str(canary))}, path)
    with pytest.raises(SightlineError, match=name):
        open_model(path)
    assert not canary.exists()
    pickle.loads(code)
    assert canary.exists(), "it would have sung"


class Touching:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_damaged_pickles_are_one_line(tmp_path):
    """A stack that is empty, a memory without the value asked for, a length beyond the file."""
    for body in (b"abc", b"h\x05.", b"X\xff\xff\xff\x7fa", b"0.", b"\x8a\xff", b"}(K\x01u."):
        path = tmp_path / "bad.pth"
        path.write_bytes(b"\x80\x02" + body)
        with pytest.raises(SightlineError, match=r"bad\.pth"):
            weights.read(path)


def test_rows_that_fit_no_classes_are_one_line(tmp_path):
    state = torchvision_like()
    name = "roi_heads.box_predictor.bbox_pred.weight"
    for odd in (torch.zeros(7, 4), torch.zeros(()), torch.zeros(12)):
        torch.save(state | {name: odd}, tmp_path / "odd.pth")
        with pytest.raises(SightlineError, match=rf"odd\.pth: {name} is"):
            weights.read(tmp_path / "odd.pth")
