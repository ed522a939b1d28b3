"""Backbones by name: one contract for all kinds."""

import pytest
import torch
from torch import nn

from sightline.backbones import create_backbone, levels_of, split
from sightline.backbones.create import one_line_errors
from sightline.errors import SightlineError
from sightline.layers.norm import FrozenBatchNorm, freeze_batchnorm

# One of each way timm has of giving maps: rewritten, NHWC, plain transformer (patch 16 and 14), own
# class, parallel streams; and ours.
KINDS = {
    "resnet18": [4, 8, 16, 32],
    "vgg11": [4, 8, 16, 32],
    "convnext_atto": [4, 8, 16, 32],
    "densenet121": [4, 8, 16, 32],
    "swin_tiny_patch4_window7_224": [4, 8, 16, 32],
    "vit_tiny_patch16_224": [16],
    "vit_small_patch14_dinov2": [14],
    "mobilenetv3_small_050": [4, 8, 16, 32],
    "hrnet_w18_small": [4, 8, 16, 32],
    "tv_mobilenet_v3_large": [32, 32],
    "tv_mobilenet_v3_large_ssd": [16, 32],
    "tv_mobilenet_v3_large_ssd_reduced": [16, 32],
    "msra_resnet50": [4, 8, 16, 32],
}


@pytest.mark.parametrize("name", KINDS)
def test_contract(name):
    backbone = create_backbone(name)
    assert backbone.strides == KINDS[name]
    height, width = 64, 96
    maps = backbone(torch.randn(2, 3, height, width))
    for feature, channels, stride in zip(maps, backbone.channels, backbone.strides, strict=True):
        assert feature.shape == (2, channels, -(-height // stride), -(-width // stride))
    sum(feature.square().mean() for feature in maps).backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None] == []
    stages = backbone.stages()
    held = [id(p) for stage in stages for p in stage.parameters()]
    assert sorted(held) == sorted(id(p) for p in backbone.parameters()), "each parameter once"
    assert len(stages) >= 3


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "regnetx_002"])
def test_from_scratch_every_branch_takes_part(name):
    """timm would start the last BatchNorm of each at 0."""
    weights = [m.weight for m in create_backbone(name).modules() if isinstance(m, nn.BatchNorm2d)]
    assert all((weight == 1).all() for weight in weights)
    trunk, tail = split("resnet18")
    norms = [m for part in (trunk, tail) for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all((norm.weight == 1).all() for norm in norms)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "hrnet_w18_small"])
def test_frozen_norm(name):
    backbone = create_backbone(name, frozen_norm=True, norm_eps=0.25)
    norms = [m for m in backbone.modules() if isinstance(m, FrozenBatchNorm)]
    assert norms
    assert all(norm.eps == 0.25 for norm in norms)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())
    backbone(torch.randn(1, 3, 64, 64))


def test_stages_of_resnet_are_the_paper_s():
    backbone = create_backbone("resnet18")
    body, stages = backbone.body, backbone.stages()
    assert [body.conv1, body.bn1] == list(stages[0])[:2]
    assert [list(stage)[-1] for stage in stages[1:]] == [
        body.layer1,
        body.layer2,
        body.layer3,
        body.layer4,
    ]
    freeze_batchnorm(stages[0])
    assert isinstance(body.bn1, FrozenBatchNorm), "a stage holds the modules of the backbone"


@pytest.mark.parametrize(
    ("name", "strides"), [("resnet18", [4, 8, 16, 16]), ("convnext_atto", [4, 8, 16, 16])]
)
def test_output_stride(name, strides):
    backbone = create_backbone(name, output_stride=16)
    assert backbone.strides == strides
    maps = backbone(torch.randn(2, 3, 64, 64))
    assert [64 // m.shape[-1] for m in maps] == strides


@pytest.mark.parametrize(
    ("name", "levels", "strides"),
    [
        ("resnet18", (2, 3), [8, 16]),
        ("vit_tiny_patch16_224", (2, 5, 8, 11), [16] * 4),
        ("mobilenetv3_small_050", (1, 2), [4, 8]),
        ("tv_mobilenet_v3_large", (1, 3), [4, 16]),
    ],
)
def test_chosen_levels(name, levels, strides):
    backbone = create_backbone(name, levels=levels)
    maps = backbone(torch.randn(2, 3, 64, 64))
    assert [64 // m.shape[-1] for m in maps] == backbone.strides == strides
    assert [m.shape[1] for m in maps] == backbone.channels
    sum(m.mean() for m in maps).backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None] == []


def test_levels_by_their_strides():
    assert levels_of("resnet18", (8, 16)) == [2, 3]
    assert levels_of("vgg11", (8, 16)) == [3, 4]
    assert levels_of("convnext_atto", (16, 32)) == [2, 3]
    assert levels_of("dla34", (8, 16)) == [3, 4], "its first map, of stride 1, is not given unasked"
    assert levels_of("msra_resnet50", (8, 32)) == [2, 4]
    assert levels_of("tv_mobilenet_v3_large", (8, 32)) == [2, 5], "the last map of each stride"
    assert levels_of("tv_mobilenet_v3_large_ssd", (16, 32)) == [0, 1]
    with pytest.raises(SightlineError, match=r"\[4, 8, 16, 32\], but none of 64"):
        levels_of("convnext_atto", (16, 64))
    with pytest.raises(
        SightlineError, match=r"_ssd' has maps of strides \[16, 32\], but none of 8"
    ):
        levels_of("tv_mobilenet_v3_large_ssd", (8, 16))


@pytest.mark.parametrize(
    ("name", "finest", "strides"),
    [
        ("resnet18", 1, [2, 4, 8, 16, 32]),
        ("resnet18", 8, [8, 16, 32]),
        ("tv_mobilenet_v3_large", 1, [2, 4, 8, 16, 32]),
        ("tv_mobilenet_v3_large", 4, [4, 8, 16, 32]),
        ("tv_mobilenet_v3_large_ssd", 1, [16, 32]),
        ("tv_mobilenet_v3_large_ssd", 32, [32]),
    ],
)
def test_the_finest_level(name, finest, strides):
    backbone = create_backbone(name, finest=finest)
    maps = backbone(torch.randn(2, 3, 64, 64))
    assert [64 // m.shape[-1] for m in maps] == backbone.strides == strides
    assert [m.shape[1] for m in maps] == backbone.channels
    sum(m.mean() for m in maps).backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet51"}, "did you mean.*resnet5"),
        ({"name": "qqqq"}, "list_models"),
        ({"name": "resnet18.nonsense", "pretrained": True}, "nonsense"),
        ({"name": "vgg11", "output_stride": 16}, "output stride 16"),
        ({"name": "tv_mobilenet_v3_large", "output_stride": 16}, "dilated"),
        ({"name": "resnet18", "levels": (9,)}, "levels"),
        ({"name": "tv_mobilenet_v3_large", "levels": (9,)}, "levels"),
        ({"name": "tv_mobilenet_v3_large_ssd", "levels": (4, 5)}, "levels 0 to 1"),
        ({"name": "tv_mobilenet_v3_large", "levels": ()}, "levels 0 to 5"),
        ({"name": "tv_mobilenet_v3_large", "levels": (3, 1)}, "levels 0 to 5, in this order"),
        ({"name": "tv_mobilenet_v3_large", "finest": 64}, "levels 0 to 5"),
        ({"name": "tv_mobilenet_v3_large_ssd_reduced", "pretrained": True}, "of the reduced"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    with pytest.raises(SightlineError, match=message) as caught:
        create_backbone(**arguments)
    assert "\n" not in str(caught.value)


def test_offline_is_one_line():
    with (
        pytest.raises(
            SightlineError, match=r"cannot be downloaded \(no such host\); go online"
        ) as hit,
        one_line_errors("resnet18"),
    ):
        raise FileNotFoundError("no such host.\nand a page of advice")
    assert "\n" not in str(hit.value)


def test_resnet_cut_in_two_is_the_whole():
    torch.manual_seed(0)
    whole = create_backbone("resnet18").eval()
    trunk, tail = split("resnet18")
    state = whole.state_dict()
    last = [k for k in state if k.startswith("body.layer4.")]
    tail.load_state_dict({k.replace("body.layer4.", "layers.0."): state.pop(k) for k in last})
    trunk.load_state_dict(state)
    trunk.eval(), tail.eval()
    assert (trunk.strides, trunk.channels, tail.channels, tail.size) == ([16], [256], 512, 14)
    x = torch.randn(1, 3, 64, 96)
    (middle,) = trunk(x)
    torch.testing.assert_close(tail(middle), whole(x)[-1])


def test_vgg_cut_in_two_is_the_whole():
    import timm

    torch.manual_seed(0)
    whole = timm.create_model("vgg11").eval()
    torch.manual_seed(0)
    trunk, tail = split("vgg11")
    trunk.eval(), tail.eval()
    assert (trunk.strides, trunk.channels, tail.channels, tail.size) == ([16], [512], 4096, 7)
    x = torch.randn(1, 3, 224, 224)
    (conv5,) = trunk(x)
    assert conv5.shape == (1, 512, 14, 14), "the last pooling is left to the regions"
    pooled = nn.functional.max_pool2d(conv5, 2)
    torch.testing.assert_close(
        tail(pooled), whole.pre_logits(whole.features(x)), atol=1e-5, rtol=1e-4
    )
    tail.train()
    assert not torch.equal(tail(pooled), tail(pooled)), "dropout in training"


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"])
def test_transformers_are_not_cut(name):
    with pytest.raises(SightlineError, match="cannot be cut"):
        split(name)


def test_the_authors_resnet_strides_first():
    """Its 3x3 convolutions see every pixel that the 1x1 before them left; the maps are of the same
    size, and without strides the two forms are one."""
    ours, timms = create_backbone("msra_resnet50"), create_backbone("resnet50")
    timms.load_state_dict(ours.state_dict())
    blocks = [ours.body.layer2[0], ours.body.layer3[0], ours.body.layer4[0]]
    assert [(block.conv1.stride, block.conv2.stride) for block in blocks] == [((2, 2), (1, 1))] * 3
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        mine, other = ours.eval()(pixels), timms.eval()(pixels)
    torch.testing.assert_close(mine[0], other[0])  # stage 1 has no stride
    assert all(not torch.allclose(a, b) for a, b in zip(mine[1:], other[1:], strict=True))
    with pytest.raises(SightlineError, match="has no weights of ImageNet here: take resnet50"):
        create_backbone("msra_resnet50", pretrained=True)
