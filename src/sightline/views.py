"""A picture seen another way: mirrored, turned, larger or smaller; and what was found in it carried
back to the picture as it is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from sightline.errors import SightlineError
from sightline.ops.masks import decode, encode
from sightline.shapes import Bool, Float, Shaped, UInt8
from sightline.types import Instances, Masks, Polygons, Rle, Scene

Flip = Literal["horizontal", "vertical"]


@dataclass(frozen=True)
class View:
    """Left and right exchanged or not, then turned counter-clockwise by so many quarter turns.
    ``scale`` is for the model's own resize, so that nothing is resampled twice: a picture is looked
    at so many times as large as the model would by itself."""

    mirrored: bool = False
    turns: int = 0
    scale: float = 1.0

    def picture(self, picture: UInt8[Tensor, "3 H W"]) -> UInt8[Tensor, "3 _ _"]:
        """The picture as this view has it; its scale is not in it."""
        seen = picture.flip(-1) if self.mirrored else picture
        return seen.rot90(self.turns, (-2, -1)).contiguous()

    def maps_back(self, maps: Shaped[Tensor, "*N h w"]) -> Shaped[Tensor, "*N _ _"]:
        """Maps of the view as maps of the picture."""
        turned = maps.rot90(-self.turns, (-2, -1))
        return turned.flip(-1) if self.mirrored else turned

    def points_back(
        self, points: Float[Tensor, "*P 2"], size: tuple[int, int]
    ) -> Float[Tensor, "*P 2"]:
        """``size`` is height and width of the view."""
        x, y = points.unbind(-1)
        height, width = size
        for _ in range(self.turns):
            x, y = height - y, x
            height, width = width, height
        return torch.stack([width - x if self.mirrored else x, y], dim=-1)

    def scene_back(self, scene: Scene, mirrored: Sequence[int] = ()) -> Scene:
        """What was found in the view, in the picture. What ``extra`` holds stays as it is.

        Args:
            mirrored: keypoint k becomes keypoint ``mirrored[k]`` where left and right are
                exchanged; empty: each stays what it is.
        """
        if not self.mirrored and self.turns == 0:
            return scene
        size = scene.size[::-1] if self.turns % 2 else scene.size
        semantic, panoptic = scene.semantic, scene.panoptic
        if semantic is not None:
            semantic = self.maps_back(semantic)
        if panoptic is not None:
            panoptic = panoptic._replace(map=self.maps_back(panoptic.map))
        things = self._things_back(scene.things, scene.size, mirrored)
        return replace(scene, size=size, things=things, semantic=semantic, panoptic=panoptic)

    def _things_back(
        self, things: Instances, size: tuple[int, int], mirrored: Sequence[int]
    ) -> Instances:
        corners = self.points_back(things.boxes.unflatten(-1, (2, 2)), size)
        keypoints = things.keypoints
        if keypoints is not None:
            points = self.points_back(keypoints[..., :2], size)
            keypoints = torch.cat([points, keypoints[..., 2:]], dim=-1)
            if self.mirrored and mirrored:
                keypoints = keypoints[:, list(mirrored)]
        return replace(
            things,
            boxes=torch.cat([corners.amin(-2), corners.amax(-2)], dim=-1),
            keypoints=keypoints,
            masks=self._masks_back(things.masks, size),
        )

    def _masks_back(
        self, masks: Masks | None, size: tuple[int, int]
    ) -> Bool[Tensor, "N h w"] | list[Rle | Polygons] | None:
        """Each stays of its kind. RLEs are unpacked one at a time: as maps, a hundred of a large
        photo would fill the memory."""
        if masks is None or isinstance(masks, Tensor):
            return None if masks is None else self.maps_back(masks)
        back: list[Rle | Polygons] = []
        for mask in masks:
            if isinstance(mask, dict):
                back += encode(self.maps_back(decode([mask], size)))
            else:
                back.append([self.points_back(polygon, size) for polygon in mask])
        return back


def views(
    flips: Sequence[Flip] = (), turns: bool = False, scales: Sequence[float] = ()
) -> list[View]:
    """The picture as it is, first, and with it every combination of what is asked for.

    Args:
        flips: mirrored, "horizontal" (left and right exchanged) or "vertical" (top and bottom); of
            both together comes the picture upside down as well.
        turns: turned by each quarter turn.
        scales: looked at so many times as large.

    Raises:
        SightlineError: no such flip, or a scale that is none.
    """
    if unknown := set(flips) - {"horizontal", "vertical"}:
        raise SightlineError(f"a flip is horizontal or vertical, not {sorted(unknown)[0]}")
    for scale in scales:
        if not 0 < scale < float("inf"):
            raise SightlineError(f"a scale is a factor above 0, not {scale:g}")
    # Top and bottom exchanged is left and right exchanged, and half a turn.
    mirrors = {(False, 0), *((True, 2 * (flip == "vertical")) for flip in flips)}
    if len(mirrors) == 3:
        mirrors.add((False, 2))
    quarters = range(4 if turns else 1)
    seen = {(mirror, (turn + quarter) % 4) for mirror, turn in mirrors for quarter in quarters}
    factors = sorted({1.0, *scales}, key=lambda scale: (scale != 1, scale))
    return [View(*pose, scale) for scale, pose in product(factors, sorted(seen))]
