"""Detectron2's files: the names and shapes of its published models, and what becomes of them."""

import pickle
from collections import OrderedDict
from itertools import product

import numpy as np
import pytest
import torch

from sightline import weights
from sightline.errors import SightlineError
from sightline.models import create
from sightline.ops.anchors import cell_anchors
from sightline.preprocess import MSRA_PIXELS, Preprocess
from sightline.weights.detectron2 import ZOO, from_detectron2, zoo_url

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
NORM = ("weight", "bias", "running_mean", "running_var")


def conv(name: str, out: int, into: int, size: int, norm: bool = False) -> dict:
    shapes = {f"{name}.weight": (out, into, size, size)}
    if norm:
        return shapes | {f"{name}.norm.{kind}": (out,) for kind in NORM}
    return shapes | {f"{name}.bias": (out,)}


def resnet(depth: int) -> dict:
    """backbone.bottom_up of the zoo's models."""
    shapes = conv("backbone.bottom_up.stem.conv1", 64, 3, 7, norm=True)
    into = 64
    for stage, blocks in enumerate(BLOCKS[depth]):
        middle, out = 64 * 2**stage, 256 * 2**stage
        for block in range(blocks):
            prefix = f"backbone.bottom_up.res{stage + 2}.{block}"
            if block == 0:
                shapes |= conv(f"{prefix}.shortcut", out, into, 1, norm=True)
            shapes |= conv(f"{prefix}.conv1", middle, into, 1, norm=True)
            shapes |= conv(f"{prefix}.conv2", middle, middle, 3, norm=True)
            shapes |= conv(f"{prefix}.conv3", out, middle, 1, norm=True)
            into = out
    return shapes


def pyramid(first: int) -> dict:
    shapes = {}
    for level in range(first, 6):
        shapes |= conv(f"backbone.fpn_lateral{level}", 256, 64 * 2**level, 1)
        shapes |= conv(f"backbone.fpn_output{level}", 256, 256, 3)
    return shapes


def faster_rcnn(depth: int = 50, classes: int = 80) -> dict:
    linear = {
        "box_head.fc1": (1024, 256 * 49),
        "box_head.fc2": (1024, 1024),
        "box_predictor.cls_score": (classes + 1, 1024),
        "box_predictor.bbox_pred": (4 * classes, 1024),
    }
    shapes = resnet(depth) | pyramid(2)
    shapes |= conv("proposal_generator.rpn_head.conv", 256, 256, 3)
    shapes |= conv("proposal_generator.rpn_head.objectness_logits", 3, 256, 1)
    shapes |= conv("proposal_generator.rpn_head.anchor_deltas", 12, 256, 1)
    for name, shape in linear.items():
        shapes |= {f"roi_heads.{name}.weight": shape, f"roi_heads.{name}.bias": shape[:1]}
    shapes |= {f"proposal_generator.anchor_generator.cell_anchors.{i}": (3, 4) for i in range(5)}
    return shapes | {"pixel_mean": (3, 1, 1), "pixel_std": (3, 1, 1)}


def retinanet(depth: int = 50, classes: int = 80) -> dict:
    shapes = resnet(depth) | pyramid(3)
    shapes |= conv("backbone.top_block.p6", 256, 2048, 3) | conv(
        "backbone.top_block.p7", 256, 256, 3
    )
    for tower, index in product(("cls_subnet", "bbox_subnet"), (0, 2, 4, 6)):
        shapes |= conv(f"head.{tower}.{index}", 256, 256, 3)
    shapes |= conv("head.cls_score", 9 * classes, 256, 3) | conv("head.bbox_pred", 36, 256, 3)
    return shapes | {f"anchor_generator.cell_anchors.{i}": (9, 4) for i in range(5)}


def arrays(shapes: dict) -> OrderedDict:
    """Numbers that keep a deep network in range."""
    generator = np.random.default_rng(0)
    made = OrderedDict()
    for name, shape in shapes.items():
        spread = 1 / np.sqrt(max(1, np.prod(shape[1:])))
        made[name] = spread.astype(np.float32) * generator.standard_normal(shape, np.float32)
        if name.endswith(("norm.weight", "running_var")):
            made[name] = np.ones(shape, np.float32)
    return made


def empty(shapes: dict) -> dict:
    """Zeros that take no memory; a deviation is none."""
    zero, one = torch.zeros(()), torch.ones(())
    return {
        name: (one if name == "pixel_std" else zero).expand(shape) for name, shape in shapes.items()
    }


def write(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize(
    ("shapes", "model", "backbone"),
    [
        (faster_rcnn(), "faster_rcnn_detectron2", "msra_resnet50"),
        (faster_rcnn(101), "faster_rcnn_detectron2", "msra_resnet101"),
        (retinanet(), "retinanet", "msra_resnet50"),
    ],
    ids=["faster_rcnn", "faster_rcnn_101", "retinanet"],
)
def test_every_tensor_of_the_zoo_s_models_finds_its_place(shapes, model, backbone, tmp_path):
    made = from_detectron2(tmp_path / "a.pkl", empty(shapes))
    assert (made.card.model, made.card.options["backbone"]) == (model, backbone)
    assert len(made.card.classes) == 80
    assert (made.card.classes.names[79], made.card.classes.ids[79]) == ("toothbrush", 90)
    with torch.device("meta"):
        ours = create(model, made.card.classes, **made.card.options)
    expected = {key: value.shape for key, value in ours.state_dict().items()}
    assert {key: value.shape for key, value in made.tensors.items()} == expected


def test_a_file_of_the_zoo(tmp_path):
    """Pictures are blue, green, red in bytes: a red of 200, less the mean of red, comes last."""
    content = {"model": arrays(retinanet(classes=2)), "__author__": "Detectron2 Model Zoo"}
    model = weights.load(write(tmp_path / "a.pkl", content))
    stem = content["model"]["backbone.bottom_up.stem.conv1.weight"]
    assert torch.equal(model.backbone.body.conv1.weight, torch.from_numpy(stem))
    images, _ = model.preprocess(
        [torch.tensor([200, 0, 0]).byte()[:, None, None].expand(3, 32, 32)]
    )
    expected = torch.tensor([0 - 103.53, 0 - 116.28, 200 - 123.675])
    torch.testing.assert_close(images.pixels[0, :, 5, 5], expected, rtol=0, atol=1e-4)


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None, None]


@pytest.mark.parametrize(
    ("mean", "std", "red"),
    [
        ((103.53, 116.28, 123.675), (1.0, 1.0, 1.0), 200 - 123.675),
        ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395), (200 - 123.675) / 58.395),
        ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), (200 - 123.675) / 58.395),
        ((127.5, 127.5, 127.5), (1.0, 1.0, 1.0), 200 - 127.5),
    ],
)
def test_pictures_as_the_file_has_them(mean, std, red, tmp_path):
    """Its means and deviations are of bytes; the larger of the outer means is red's."""
    state = empty(retinanet(classes=2))
    state |= {"pixel_mean": column(*mean), "pixel_std": column(*std)}
    preprocess = from_detectron2(tmp_path / "a.pkl", state).preprocess
    picture = torch.tensor([200, 0, 0]).byte()[:, None, None].expand(3, 32, 32)
    pixels = preprocess([picture])[0].pixels[0, :, 5, 5]
    first = mean[0] > mean[2]
    torch.testing.assert_close(pixels[0 if first else 2].item(), red, rtol=0, atol=1e-4)
    if (mean, std) == ((103.53, 116.28, 123.675), (1.0, 1.0, 1.0)):
        assert preprocess == Preprocess(short=800, long=1333, **MSRA_PIXELS), "to the last bit"


def test_means_and_deviations_that_are_none(tmp_path):
    for key, value, told in (
        ("pixel_std", column(0.0, 1.0, 1.0), "pictures have three deviations above 0, .*"),
        ("pixel_mean", column(float("nan"), 0.0, 0.0), "pictures have three finite means, .*"),
        ("pixel_mean", column(100.0), "pixel_mean has 1 values, not three"),
        ("pixel_std", torch.zeros(0), "pixel_std has 0 values, not three"),
    ):
        given = empty(retinanet(classes=2))
        given |= {"pixel_mean": column(1.0, 2.0, 3.0), "pixel_std": column(1.0, 1.0, 1.0)}
        with pytest.raises(SightlineError, match=rf"a\.pkl: {told}: damaged\?$"):
            from_detectron2(tmp_path / "a.pkl", given | {key: value})


def test_anchors_are_counted_ratio_by_ratio(tmp_path):
    """There the cell's anchors are those of its first size, in three ratios, and so on."""
    sizes, ratios = (32, 40, 50), (0.5, 1.0, 2.0)
    there = [(size / ratio**0.5, size * ratio**0.5) for size in sizes for ratio in ratios]
    layer = "head.cls_score"
    state = empty(retinanet(classes=2))
    widths = torch.tensor([width for width, _ in there]).repeat_interleave(2)  # for two classes
    state[f"{layer}.bias"] = widths + torch.tensor([0.0, 0.25]).repeat(9)
    made = from_detectron2(tmp_path / "a.pkl", state).tensors["class_head.last.bias"]
    ours = cell_anchors(sizes, ratios)
    expected = (ours[:, 2] - ours[:, 0])[:, None] + torch.tensor([0.0, 0.25])
    torch.testing.assert_close(made.view(9, 2), expected)


def test_a_user_s_own_model_of_a_training(tmp_path):
    torch.save({"model": empty(faster_rcnn(classes=3)), "iteration": 5}, tmp_path / "model_5.pth")
    found = weights.read(tmp_path / "model_5.pth")
    assert found.card.classes.names == ("class 1", "class 2", "class 3")
    assert found.tensors["box_head.class_score.weight"].shape == (4, 1024)


@pytest.mark.parametrize("shapes", [faster_rcnn(classes=2), retinanet(classes=2)])
@pytest.mark.parametrize("name", ["COCO-Detection/retinanet_R_50_FPN_1x", None])
def test_where_the_weights_are_from(shapes, name, tmp_path):
    made = from_detectron2(tmp_path / "a.pkl", empty(shapes), name)
    assert made.source == (name or str(tmp_path / "a.pkl"))
    origin = {"source": "detectron2", "file": "a.pkl"} | ({"weights": name} if name else {})
    assert made.card.history == (origin,)


class Surprise:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_runs_nothing(protocol, tmp_path, capsys):
    path = write(tmp_path / "a.pkl", {"model": Surprise()}, protocol)
    with pytest.raises(SightlineError, match=r"a\.pkl: holds more than tensors"):
        weights.load(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
def test_every_protocol_is_read(protocol, tmp_path):
    content = {"model": {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}, "it": np.float64(3)}
    found = weights.pickles.tensors_in(write(tmp_path / "a.pkl", content, protocol))
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_other_files_are_refused_in_a_line(tmp_path):
    def refused(message, shapes) -> None:
        with pytest.raises(SightlineError, match=message) as caught:
            from_detectron2(tmp_path / "a.pkl", empty(shapes))
        assert "\n" not in str(caught.value)

    refused("are read, Faster R-CNN and RetinaNet; it holds backbone", resnet(50))
    refused("FCOS is not read, its zoo has none", retinanet() | {"head.ctrness.bias": (1,)})
    refused("cls_score.bias has 10 rows: damaged", retinanet() | {"head.cls_score.bias": (10,)})
    refused(r"bbox_pred.bias is \[35\]: damaged", retinanet() | {"head.bbox_pred.bias": (35,)})
    refused(r"cls_score.weight is \[\]: damaged", retinanet() | {"head.cls_score.weight": ()})
    whole = write(tmp_path / "a.pkl", arrays({"a": (100,)})).read_bytes()
    for length in range(0, len(whole) - 1, 7):
        (tmp_path / "b.pkl").write_bytes(whole[:length])
        with pytest.raises(SightlineError, match=r"b\.pkl: (no PyTorch file|holds more than)"):
            weights.load(tmp_path / "b.pkl")


def test_names_are_those_of_the_zoo():
    assert set(ZOO) < set(weights.NAMES)
    url = zoo_url("COCO-Detection/retinanet_R_50_FPN_1x")
    assert url.endswith("COCO-Detection/retinanet_R_50_FPN_1x/190397773/model_final_bfca0b.pkl")


def test_a_bytearray_cut_short_is_told_once(tmp_path):
    """CPython's own reader would report it besides, as an error that nobody can catch."""
    whole = write(tmp_path / "a.pkl", {"a": bytearray(100_000)}, protocol=5).read_bytes()
    (tmp_path / "b.pkl").write_bytes(whole[:1000])
    with pytest.raises(SightlineError, match=r"b\.pkl: no PyTorch file"):
        weights.pickles.tensors_in(tmp_path / "b.pkl")
    told_long = whole.replace((100_000).to_bytes(8, "little"), (1 << 60).to_bytes(8, "little"))
    (tmp_path / "b.pkl").write_bytes(told_long)
    with pytest.raises(SightlineError, match=r"b\.pkl: no PyTorch file"):
        weights.pickles.tensors_in(tmp_path / "b.pkl")
