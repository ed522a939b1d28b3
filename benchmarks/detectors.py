"""Our detectors beside torchvision's own, trained from scratch on the same folder.

    python -m benchmarks.detectors DATA faster_rcnn retinanet fcos ssd --passes 6 --seeds 0 1 2
    python -m benchmarks.detectors DATA faster_rcnn --passes 18 --by ours

Both: batch 8, a one-cycle schedule, flips. Faster R-CNN: a ResNet-18 with a pyramid of 256
channels, torchvision's anchors, 64 sampled regions a picture, 240 x 320 pixels, SGD. RetinaNet and
FCOS: the same with torchvision's anchors or points, 192 x 256 pixels, AdamW, since SGD with their
small first gradients takes several times as long. SSD: VGG16, 300 x 300 pixels, AdamW. Measured is
AP; see ``benchmarks.scratch``.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import vgg16
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.ssd import SSD, SSDFeatureExtractorVGG
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from benchmarks.scratch import Family, compare
from sightline.metrics.detection import coco_numbers
from sightline.ops.suppress import Detections, to_scenes
from sightline.preprocess import Preprocess
from sightline.types import Classes, Images, Loss, Placement, Scene

TWO_STAGES = Preprocess(short=240, long=320)
ONE_STAGE = Preprocess(short=192, long=256)
SIDE = 300  # of SSD's
SAMPLES = 64
UNCHANGED: dict[str, Any] = {"image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]}


def same(place: Preprocess) -> dict[str, Any]:
    """What torchvision's own transform is told, so that it does nothing."""
    return UNCHANGED | {"min_size": place.short, "max_size": place.long}


class Torchvision(nn.Module):
    """torchvision's model behind the four methods of ours; it gets pictures that are normalised and
    of their final size, so that its own transform only joins them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Images, targets: list[Scene] | None = None) -> Any:
        cut = [p[:, :h, :w] for p, (h, w) in zip(images.pixels, images.sizes.tolist(), strict=True)]
        self.model.train(targets is not None)
        if targets is not None:
            means = self.model(cut, [self._target(scene) for scene in targets])
            return {name: Loss(mean, torch.ones(())) for name, mean in means.items()}
        return [
            Detections(r["boxes"][None], r["scores"][None], r["labels"][None] - 1)
            for r in self.model(cut)
        ]

    def describe(self, selected: list[Detections], placements: list[Placement]) -> list[Scene]:
        return [to_scenes(d, [p])[0] for d, p in zip(selected, placements, strict=True)]

    def _target(self, scene: Scene) -> dict[str, Tensor]:
        things = scene.things[~scene.things.ignore]
        return {"boxes": things.boxes, "labels": things.labels + 1}


def backbone(**options: Any) -> nn.Module:
    return resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        norm_layer=nn.BatchNorm2d,
        trainable_layers=5,
        **options,
    )


def faster_rcnn(classes: Classes) -> nn.Module:
    regions = same(TWO_STAGES) | {"box_batch_size_per_image": SAMPLES}
    model = FasterRCNN(backbone(), len(classes) + 1, **regions)
    return Torchvision(model)


def one_stage(model: Callable[..., nn.Module], classes: Classes) -> nn.Module:
    more = LastLevelP6P7(256, 256)
    body = backbone(returned_layers=[2, 3, 4], extra_blocks=more)
    return Torchvision(model(body, len(classes) + 1, **same(ONE_STAGE)))


def ssd(classes: Classes) -> nn.Module:
    """As torchvision's ``ssd300_vgg16`` is built, which takes no other pixel statistics."""
    defaults = DefaultBoxGenerator(
        [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
        steps=[8, 16, 32, 64, 100, 300],
    )
    body = SSDFeatureExtractorVGG(vgg16(weights=None).features, highres=False)
    return Torchvision(SSD(body, defaults, (SIDE, SIDE), len(classes) + 1, **UNCHANGED))


FAMILIES = {
    "faster_rcnn": Family(
        name="faster_rcnn",
        options={"backbone": "resnet18", "even_anchors": True, "samples": SAMPLES},
        theirs=faster_rcnn,
        preprocess=TWO_STAGES,
    ),
    "retinanet": Family(
        name="retinanet",
        options={"backbone": "resnet18", "even_anchors": True, "extra": "convs", "top": 300},
        theirs=partial(one_stage, RetinaNet),
        preprocess=ONE_STAGE,
        lr=5e-4,
        optimizer="adamw",
    ),
    "fcos": Family(
        name="fcos",
        options={
            "backbone": "resnet18",
            "even_points": True,
            "score": "root",
            "threshold": 0.2,
        },
        theirs=partial(one_stage, FCOS),
        preprocess=ONE_STAGE,
        lr=5e-4,
        optimizer="adamw",
    ),
    "ssd": Family(
        name="ssd",
        options={},
        theirs=ssd,
        preprocess=Preprocess(fixed=(SIDE, SIDE), multiple=1),
        lr=2e-4,
        optimizer="adamw",
    ),
}


if __name__ == "__main__":
    summary = (__doc__ or "").splitlines()[0]
    compare(summary, FAMILIES, coco_numbers, ("AP", "AP50"), 6, Path("runs/detectors.jsonl"))
