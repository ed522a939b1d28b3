"""Fine-tuning to another list of classes: what is carried over, and what is said of it."""

import copy

import pytest
import torch

from sightline import weights
from sightline.errors import SightlineError
from sightline.models import create
from sightline.weights.transfer import BY_NAME, LOADED, NEW_CLASSES, SHAPE, matching


def model(classes, **options):
    return create("faster_rcnn", classes, backbone="resnet18", **options)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "source.safetensors"
    weights.save(model(["cat", "dog", "cow"]), path)
    return path


def outcomes(transfer):
    return {row.name: row.outcome for row in transfer.rows}


def test_rows_of_classes_go_by_name(source):
    own = model(["horse", "Dog"])
    given = weights.read(source).tensors
    fresh = own.box_head.class_score.weight[0].clone()
    result = weights.transfer(own, source)
    score, shift = own.box_head.class_score.weight, own.box_head.box_shift.weight
    assert torch.equal(score[0], fresh), "horse is new"
    assert torch.equal(score[1], given["box_head.class_score.weight"][1]), "dog"
    assert torch.equal(score[2], given["box_head.class_score.weight"][3]), "background, last"
    assert torch.equal(shift[4:8], given["box_head.box_shift.weight"][4:8])
    assert torch.equal(own.backbone.body.conv1.weight, given["backbone.body.conv1.weight"])
    assert outcomes(result)["box_head.class_score.weight"] == BY_NAME
    table = result.table()
    assert "1 of 2; new: horse" in table
    assert "left out" not in table
    assert max(len(line) for line in table.splitlines()) < 140


def test_as_many_classes_are_not_the_same_classes(source):
    own = model(["a", "b", "c"])
    before = own.box_head.class_score.weight.clone()
    result = weights.transfer(own, source)
    assert torch.equal(own.box_head.class_score.weight, before)
    assert outcomes(result)["box_head.class_score.weight"] == NEW_CLASSES
    assert outcomes(result)["rpn.box_shift.weight"] == LOADED, "no rows for classes in the RPN"


def test_the_same_classes_in_another_order(source):
    own = model(["cow", "dog", "cat"])
    result = weights.transfer(own, source)
    given = weights.read(source).tensors["box_head.class_score.bias"]
    assert torch.equal(own.box_head.class_score.bias, given[[2, 1, 0, 3]])
    assert "all 3" in result.table()


def test_other_shapes_are_left_out_and_told(source):
    own = model(["cat", "emu"], anchor_sizes=[[32, 64]] * 5, class_agnostic=True)
    result = weights.transfer(own, source)
    assert outcomes(result)["rpn.objectness.weight"] == SHAPE
    assert outcomes(result)["box_head.box_shift.weight"] == SHAPE
    assert "3x256x1x1 in the file, 6x256x1x1 here" in result.table()


def test_class_agnostic_deltas_are_no_one_s(tmp_path):
    weights.save(model(["cat", "dog"], class_agnostic=True), tmp_path / "one.safetensors")
    own = model(["horse", "cow", "sheep"], class_agnostic=True)
    result = weights.transfer(own, tmp_path / "one.safetensors")
    assert outcomes(result)["box_head.box_shift.weight"] == LOADED


@pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
def test_classes_of_each_anchor_go_by_name(scores, tmp_path):
    """RetinaNet counts the classes nine times over, once for each anchor of a cell."""
    options = {"backbone": "test_resnet", "channels": 8, "convs": 1, "scores": scores}
    options |= {"class_agnostic": False}
    given = create("retinanet", ["cat", "dog", "cow"], **options)
    weights.save(given, tmp_path / "given.safetensors")
    own = create("retinanet", ["horse", "dog"], **options)
    fresh = own.class_head.last.weight.clone().unflatten(0, (9, -1))
    result = weights.transfer(own, tmp_path / "given.safetensors")
    theirs, ours = (m.class_head.last.weight.unflatten(0, (9, -1)) for m in (given, own))
    assert torch.equal(ours[:, 0], fresh[:, 0]), "horse is new"
    assert torch.equal(ours[:, 1], theirs[:, 1]), "dog"
    assert torch.equal(ours[:, 2:], theirs[:, 3:]), "background, if it is a class"
    theirs, ours = (m.box_head.last.bias.view(9, -1, 4) for m in (given, own))
    assert torch.equal(ours[:, 1], theirs[:, 1])
    assert outcomes(result)["class_head.last.weight"] == BY_NAME
    assert outcomes(result)["box_head.last.weight"] == BY_NAME


def test_one_set_of_shifts_for_all_classes_is_loaded(tmp_path):
    options = {"backbone": "test_resnet", "channels": 8, "convs": 1}
    weights.save(create("retinanet", ["cat", "dog"], **options), tmp_path / "given.safetensors")
    own = create("retinanet", ["horse", "cow", "sheep"], **options)
    result = weights.transfer(own, tmp_path / "given.safetensors")
    assert outcomes(result)["box_head.last.weight"] == LOADED
    assert outcomes(result)["class_head.last.weight"] == NEW_CLASSES


def test_the_norms_of_retinanet_s_towers_have_no_rows_for_classes(tmp_path):
    """They stand under the names that SSDLite's last layers have. 32 channels would divide into
    three classes and background eight times over."""
    options = {"backbone": "test_resnet", "channels": 32, "convs": 1, "head_norm": True}
    given = create("retinanet", ["cat", "dog", "cow"], **options)
    torch.nn.init.normal_(given.class_head.convs[0][1].weight)
    weights.save(given, tmp_path / "given.safetensors")
    for classes in (["emu", "dog", "cat"], ["dog", "emu"]):
        own = create("retinanet", classes, **options)
        result = weights.transfer(own, tmp_path / "given.safetensors")
        assert outcomes(result)["class_head.convs.0.1.weight"] == LOADED
        assert own.class_head.convs[0][1].weight.equal(given.class_head.convs[0][1].weight)
        assert outcomes(result)["class_head.last.weight"] == BY_NAME


@pytest.mark.parametrize(
    ("classes", "rows"),
    [
        (["dog", "cat"], [1, 0]),
        (["emu", "dog"], [None, 1]),
        (["cow"], [2]),
        (["emu", "yak", "ape"], [None] * 3),
    ],
)
def test_the_classes_of_fcos_go_by_name(classes, rows, tmp_path):
    options = {"backbone": "test_resnet", "channels": 64, "convs": 1}
    given = create("fcos", ["cat", "dog", "cow"], **options)
    weights.save(given, tmp_path / "given.safetensors")
    own = create("fcos", classes, **options)
    fresh = own.class_head.last[0].weight.clone()
    result = weights.transfer(own, tmp_path / "given.safetensors")
    theirs, ours = given.class_head.last[0].weight, own.class_head.last[0].weight
    for row, old, source in zip(ours, fresh, rows, strict=True):
        assert row.equal(old if source is None else theirs[source])
    expected = NEW_CLASSES if set(rows) == {None} else BY_NAME
    assert outcomes(result)["class_head.last.0.weight"] == expected
    assert outcomes(result)["class_head.last.0.bias"] == expected
    assert outcomes(result)["box_head.last.1.weight"] == LOADED, "centreness is no class's"


@pytest.mark.parametrize("family", ["ssd", "ssdlite"])
def test_the_rows_of_ssd_go_by_anchor_and_class(family, tmp_path):
    """Four or six boxes a cell, each with a row a class and one for background."""
    small = {"backbone": "test_resnet", "side": 64, "channels": 16}
    theirs = create(family, ["cat", "dog", "cow"], **small)
    weights.save(theirs, tmp_path / "theirs.safetensors")
    own = create(family, ["cow", "emu"], **small)
    before = copy.deepcopy(own.state_dict())
    result = weights.transfer(own, tmp_path / "theirs.safetensors")
    last = "class_head.convs.0.bias" if family == "ssd" else "class_head.convs.0.1.bias"
    assert outcomes(result)[last] == BY_NAME
    mine, given, old = (
        state[last].unflatten(0, (-1, count))
        for state, count in ((own.state_dict(), 3), (theirs.state_dict(), 4), (before, 3))
    )
    assert mine[:, [0, 2]].equal(given[:, [2, 3]])
    assert mine[:, 1].equal(old[:, 1])
    weight = last.replace("bias", "weight")
    shared = own.state_dict()[weight].unflatten(0, (-1, 3))[:, [0, 2]]
    assert shared.equal(theirs.state_dict()[weight].unflatten(0, (-1, 4))[:, [2, 3]])


def test_nothing_fits(source, tmp_path):
    own = torch.nn.Linear(2, 2)
    whole = model(["cat"])
    own.card, own.preprocess = whole.card, whole.preprocess
    with pytest.raises(SightlineError, match="nothing of this faster_rcnn fits"):
        weights.transfer(own, source)


def test_another_normalisation_is_noted(source):
    from dataclasses import replace

    own = model(["cat"])
    own.preprocess = replace(own.preprocess, channels="bgr")
    assert (
        "takes pictures with channels rgb, this one with bgr"
        in weights.transfer(own, source).table()
    )


def test_another_backbone_is_refused(source):
    """ResNet-18 has 20 convolutions and as many norms of 5 tensors, all of which ResNet-34 has
    under the same names, among its 36; the rest would stay at random."""
    own = create("faster_rcnn", ["cat"], backbone="resnet34")
    with pytest.raises(SightlineError, match=r"resnet18, .*resnet34: of 216 tensors 120 fit"):
        weights.transfer(own, source)


def test_a_backbone_that_nothing_fits_is_refused(source):
    own = create("faster_rcnn", ["cat"], backbone="tv_mobilenet_v3_large")
    with pytest.raises(SightlineError, match="0 fit"):
        weights.transfer(own, source)


def test_matching():
    assert matching(["b", "x", "A "], ["a", "B"]) == [(0, 1), (2, 0)]
    assert matching([], ["a"]) == []
    assert matching(["Cat", "cat", "CAT"], ["cat", "Cat"]) == [(0, 1), (1, 0), (2, 1)]
