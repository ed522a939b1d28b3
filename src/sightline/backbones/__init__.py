"""Networks that turn pixels into feature maps, fine to coarse: from timm, and the few it lacks."""

from sightline.backbones.backbone import Backbone
from sightline.backbones.create import create_backbone, levels_of
from sightline.backbones.split import Tail, split

__all__ = ["Backbone", "Tail", "create_backbone", "levels_of", "split"]
