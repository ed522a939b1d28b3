"""FCN beside torchvision's, and U-Net beside segmentation_models_pytorch's, trained from scratch on
the same folder of photos and label maps.

    python -m benchmarks.segmenters DATA fcn unet --passes 8 --seeds 0 1 2

Both: a ResNet-18, 240 x 320 pixels, batch 8, a one-cycle schedule, flips and a zoom of 0.5 to 2.
FCN: stride 32 as in the paper (torchvision cannot dilate so small a ResNet), SGD. U-Net: AdamW.
Measured is mIoU; see ``benchmarks.scratch``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation.fcn import FCN, FCNHead

from benchmarks.scratch import Family, compare
from sightline.data.transforms import Augment
from sightline.metrics.semantic import semantic_numbers
from sightline.ops.maps import to_maps
from sightline.preprocess import Preprocess
from sightline.types import UNLABELLED, Classes, Images, Loss, Placement, Scene

AUXILIARY = 0.5  # weight of the second head's loss in torchvision's script
ZOOM = Augment(flip=0.5, scale=(0.5, 2.0))
PLACED = Preprocess(short=240, long=320)
MAPS = frozenset({"semantic"})


class Theirs(nn.Module):
    """A model of another library behind the four methods of ours. ``weights`` are those of the
    losses of its maps, of which the first is its answer."""

    def __init__(self, model: nn.Module, weights: Sequence[float]) -> None:
        super().__init__()
        self.model, self.weights = model, weights

    def forward(self, images: Images, targets: list[Scene] | None = None) -> Any:
        found = self.model(images.pixels)
        maps = list(found.values()) if isinstance(found, dict) else [found]
        if targets is None:
            return maps[0]
        truth = torch.stack([scene.semantic for scene in targets if scene.semantic is not None])
        means = [F.cross_entropy(logits, truth.long(), ignore_index=UNLABELLED) for logits in maps]
        weighed = zip(self.weights, means, strict=True)
        return {
            str(number): Loss(weight * mean, torch.ones(()))
            for number, (weight, mean) in enumerate(weighed)
        }

    def describe(self, logits: Tensor, placements: Sequence[Placement]) -> list[Scene]:
        return to_maps(logits, placements)


def fcn(classes: Classes) -> nn.Module:
    labels = len(classes.in_maps)
    stages = {"layer3": "aux", "layer4": "out"}
    body = IntermediateLayerGetter(resnet18(weights=None), return_layers=stages)
    return Theirs(FCN(body, FCNHead(512, labels), FCNHead(256, labels)), (1.0, AUXILIARY))


def unet(classes: Classes) -> nn.Module:
    model = smp.Unet("resnet18", encoder_weights=None, classes=len(classes.in_maps))
    return Theirs(model, (1.0,))


FAMILIES = {
    "fcn": Family(
        name="fcn",
        options={"backbone": "resnet18", "output_stride": 32, "auxiliary": AUXILIARY},
        theirs=fcn,
        preprocess=PLACED,
        augment=ZOOM,
        needs=MAPS,
    ),
    "unet": Family(
        name="unet",
        options={"backbone": "resnet18"},
        theirs=unet,
        preprocess=PLACED,
        augment=ZOOM,
        needs=MAPS,
        lr=0.001,
        optimizer="adamw",
    ),
}


if __name__ == "__main__":
    summary = (__doc__ or "").split(".\n")[0]
    compare(summary, FAMILIES, semantic_numbers, ("mIoU",), 8, Path("runs/segmenters.jsonl"))
