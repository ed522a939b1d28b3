"""ResNets as their authors trained them: the first 1x1 convolution of a stage has its stride.

Deep Residual Learning for Image Recognition. He, Zhang, Ren, Sun. CVPR 2016,
https://arxiv.org/abs/1512.03385 (the networks of MSRA, in Caffe)

timm, as torchvision, strides in the 3x3 convolution. Detectron2's published detectors stand on the
authors' form; the tensors have the same names and shapes.
"""

from typing import Any

from sightline.backbones.backbone import Backbone

MSRA = {f"msra_resnet{depth}": f"resnet{depth}" for depth in (50, 101, 152)}  # ours: timm's


def stride_first(backbone: Backbone) -> Backbone:
    """The same ResNet of timm, its strides moved forward, up to the last stage that is wanted."""
    stages: dict[str, Any] = dict(backbone.body.named_children())
    for block in (stages[name][0] for name in ("layer2", "layer3", "layer4") if name in stages):
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    return backbone
