"""Augmentation: flip, scale jitter, crop and colour, of a picture and all that is known of it.

Geometry is one window: scale jitter by s takes a window of the picture's shape and 1/s its size (it
reaches beyond the picture where s < 1, filled with grey), a crop takes a smaller one. The window
becomes the picture, and the model's own resize brings it to size: nothing is resampled twice, and
the jitter is not undone, since what is in the window changes and not merely its resolution. SSD's
augmentation (1512.02325, section 2.2) is of the same kind: ``expand`` takes a larger window, and
``overlap`` a smaller one of it that a thing overlaps by at least so much. It distorts the colours
first, so that what fills the window keeps its own.

A window that reaches beyond a large photo would be many times as large, and the model's resize is
about to make a small picture of it: there the photo is made smaller first (``room_for``).

A thing whose centre leaves the window becomes an ignore region on what is left of it: half a thing
is neither a good example nor background. Nothing left: dropped. Boxes, points and polygons are
moved here, in continuous coordinates; pixels and maps by torchvision's transforms.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torchvision.transforms.v2.functional as tvf
from torch import Tensor
from torchvision.tv_tensors import Image, Mask

from sightline.errors import SightlineError
from sightline.ops.boxes import iou
from sightline.ops.masks import rasterise
from sightline.shapes import Bool, Float, UInt8
from sightline.types import UNLABELLED, Instances, Masks, Panoptic, Placement, Polygons, Rle, Scene

_GREY = 114
_MEAN = (124, 116, 104)  # of ImageNet
_TRIES = 10
_FIRST_DRAWS = 8 + 4 * _TRIES

_BAND = 1 << 18  # pixels
_CANVAS = 16 * 640 * 480  # pixels: what the largest canvas of a photo of 640 x 480 has
_EXPAND = 4.0  # times each side, at most
_OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # least IoU; the seventh choice is the whole picture
_SHARES = (0.3, 1.0)  # of each side
_NARROWEST = 0.5  # width to height, or height to width
_PATCHES = 50  # are tried, at most

Window = tuple[int, int, int, int]  # top, left, height, width; it may reach beyond the picture
Resize = Callable[[int, int], tuple[int, int]]  # height and width to height and width


@dataclass(frozen=True)
class Augment:
    """How strongly pictures are varied; all zero leaves them as they are.

    ``flip`` and ``crop`` are probabilities. ``scale`` is the range of the zoom, drawn evenly in its
    logarithm. A crop keeps a share of each side drawn from ``sides``. ``colour`` in 0..1 changes
    brightness, contrast and saturation by up to that factor, and the hue by up to a tenth of that
    of a full turn.

    SSD's own: ``expand`` is the probability that a picture is laid somewhere on a canvas of up to
    four times its sides; ``overlap`` that a patch of it is taken, the whole or one that a thing
    overlaps with an IoU of at least 0, 0.1, 0.3, 0.5, 0.7 or 0.9, each as likely; ``distort`` that
    of each of four changes: brightness by up to an eighth, contrast and saturation by up to a half,
    hue by up to a twentieth of a full turn.

    ``mirrored`` says which keypoints a flip exchanges: the loader fills it in from
    the data set's classes.

    Raises:
        SightlineError: a value outside its range.
    """

    flip: float = 0.5
    scale: tuple[float, float] = (1.0, 1.0)
    crop: float = 0.0
    sides: tuple[float, float] = (0.5, 1.0)
    colour: float = 0.0
    mirrored: tuple[int, ...] = ()
    expand: float = 0.0
    overlap: float = 0.0
    distort: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "crop", "colour", "expand", "overlap", "distort"):
            if not 0 <= getattr(self, name) <= 1:
                raise SightlineError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        if not 0 < self.sides[0] <= self.sides[1] <= 1:
            raise SightlineError(f"sides must be a range within 0 and 1, not {self.sides}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise SightlineError(f"scale must be a range of positive factors, not {self.scale}")

    def __call__(
        self,
        picture: UInt8[Tensor, "3 H W"],
        scene: Scene,
        generator: torch.Generator,
        size: Resize | None = None,
    ) -> tuple[UInt8[Tensor, "3 h w"], Scene]:
        """A varied copy. Every draw is made whatever the settings: none shifts another.

        ``size`` is what the model's resize will make of a picture's height and width; left out, no
        picture is made smaller to save memory.
        """
        count = _FIRST_DRAWS + 14 + 4 * _PATCHES
        draws = torch.rand(count, generator=generator, dtype=torch.float64).tolist()
        window = self._window(scene, draws[8:], do_crop=draws[0] < self.crop, zoom=draws[1])
        window, fill = self._ssd_window(scene, window, draws[_FIRST_DRAWS:])
        if size is not None and (factor := room_for(scene.size, window, size)) < 1:
            picture, scene, window = shrunk(picture, scene, window, factor)
        if self.distort > 0:
            picture = distort(picture, self.distort, draws[_FIRST_DRAWS + 6 : _FIRST_DRAWS + 14])
        if window != (0, 0, *scene.size):
            picture, scene = cut(picture, scene, window, fill)
        if draws[2] < self.flip:
            picture, scene = flip(picture, scene, self.mirrored)
        if self.colour > 0:
            brightness, contrast, saturation, hue = (2 * draw - 1 for draw in draws[3:7])
            picture = recolour(
                picture,
                1 + self.colour * brightness,
                1 + self.colour * contrast,
                1 + self.colour * saturation,
                0.1 * self.colour * hue,
            )
        return picture, scene

    def _ssd_window(
        self, scene: Scene, window: Window, draws: list[float]
    ) -> tuple[Window, int | tuple[int, int, int]]:
        """What ``expand`` and ``overlap`` make of a window, and what fills it beyond the picture.
        Where no patch fits, the whole stays."""
        fill: int | tuple[int, int, int] = _GREY
        if draws[0] < self.expand:
            window, fill = expanded(window, 1 + draws[1] * (_EXPAND - 1), draws[2:4]), _MEAN
        choice = int(draws[5] * (len(_OVERLAPS) + 1))
        if draws[4] < self.overlap and choice < len(_OVERLAPS):
            boxes = scene.things.boxes[~scene.things.ignore]
            places = torch.tensor(draws[14:], dtype=torch.float64).view(-1, 4)
            window = patch(window, boxes, _OVERLAPS[choice], places) or window
        return window, fill

    def _window(self, scene: Scene, draws: list[float], do_crop: bool, zoom: float) -> Window:
        """Up to ten tries to have the centre inside of a thing that is
        not ignored."""
        low, high = (math.log(value) for value in self.scale)
        factor = math.exp(low + zoom * (high - low))
        window = (0, 0, *scene.size)
        if factor == 1 and not do_crop:
            return window
        boxes = scene.things.boxes[~scene.things.ignore]
        for place in range(0, 4 * _TRIES, 4):
            shares = [1.0, 1.0]
            if do_crop:
                least, most = self.sides
                shares = [least + draw * (most - least) for draw in draws[place : place + 2]]
            sides = [
                max(1, round(s * share / factor))
                for s, share in zip(scene.size, shares, strict=True)
            ]
            free = [side - span for side, span in zip(scene.size, sides, strict=True)]
            top, left = (
                round(f * draw) for f, draw in zip(free, draws[place + 2 : place + 4], strict=True)
            )
            window = (top, left, sides[0], sides[1])
            if len(boxes) == 0 or _inside(boxes, window).any():
                break
        return window


def _inside(boxes: Float[Tensor, "N 4"], window: Window) -> Tensor:
    """Which boxes have their centre in the window."""
    top, left, height, width = window
    x, y = (boxes[:, :2] + boxes[:, 2:]).unbind(1)
    x, y = x / 2 - left, y / 2 - top
    return (x >= 0) & (x < width) & (y >= 0) & (y < height)


def expanded(window: Window, factor: float, place: Sequence[float]) -> Window:
    """A window of ``factor`` times the sides, 1 or more, in which the other lies at ``place``, 0 to
    1 down and across."""
    corner, sides = window[:2], window[2:]
    larger = [round(side * factor) for side in sides]
    free = [most - side for most, side in zip(larger, sides, strict=True)]
    top, left = (
        start - round(f * share) for start, f, share in zip(corner, free, place, strict=True)
    )
    return top, left, larger[0], larger[1]


def patch(
    window: Window,
    boxes: Float[Tensor, "N 4"],
    least: float,
    draws: Float[Tensor, "T 4"],
) -> Window | None:
    """The first of T parts of a window that has the centre inside of a box which it overlaps with
    an IoU of ``least`` or more; None where none does. Without boxes any part will do.

    ``draws`` in 0..1 are the height, the width and the place of each part: 0.3 to 1 of each side,
    and no narrower than 1 : 2.
    """
    corner, sides = draws.new_tensor(window[:2]), draws.new_tensor(window[2:])
    low, high = _SHARES
    spans = ((low + (high - low) * draws[:, :2]) * sides).round().clamp(min=1)
    corners = corner + (draws[:, 2:] * (sides - spans)).round()
    good = spans.amin(dim=1) >= _NARROWEST * spans.amax(dim=1)
    if len(boxes) > 0:
        parts = torch.cat([corners, corners + spans], dim=1)[:, [1, 0, 3, 2]]
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = (centre >= parts[:, None, :2]) & (centre < parts[:, None, 2:])
        overlaps = torch.where(inside.all(dim=2), iou(parts, boxes.double()), -1)
        good &= overlaps.amax(dim=1) >= least
    if not good.any():
        return None
    first = int(good.int().argmax())
    top, left, height, width = map(int, [*corners[first].tolist(), *spans[first].tolist()])
    return top, left, height, width


def room_for(picture: tuple[int, int], window: Window, size: Resize) -> float:
    """How many times as large a picture of this height and width is to be before the window is
    taken: 1 where that lies inside or has no more than ``_CANVAS`` pixels, else so much less that
    it has no more; but never so small that ``size`` would enlarge it again."""
    top, left, height, width = window
    inside = top >= 0 and left >= 0 and top + height <= picture[0] and left + width <= picture[1]
    if inside or height * width <= _CANVAS:
        return 1.0
    wanted = size(height, width)
    least = max(wanted[0] / height, wanted[1] / width)
    return min(1.0, max(least, math.sqrt(_CANVAS / (height * width))))


def shrunk(
    picture: UInt8[Tensor, "3 H W"], scene: Scene, window: Window, factor: float
) -> tuple[UInt8[Tensor, "3 h w"], Scene, Window]:
    """Picture, scene and window at ``factor`` times their sides, to a whole pixel."""
    height, width = (max(1, round(side * factor)) for side in scene.size)
    place = Placement(scene.size, (height, width))
    pixels = tvf.resize(picture, [height, width], antialias=True)
    masks = _change_masks(
        scene.things.masks, place.points, lambda maps: place.masks(maps, place.size)
    )
    bare = replace(scene, things=replace(scene.things, masks=None))
    scene = place.scene(bare, place.size)
    scene = replace(scene, things=replace(scene.things, masks=masks))
    down, across = place.scale
    top, left = round(window[0] * down), round(window[1] * across)
    tall, wide = max(1, round(window[2] * down)), max(1, round(window[3] * across))
    return pixels, scene, (top, left, tall, wide)


def cut(
    picture: UInt8[Tensor, "3 H W"],
    scene: Scene,
    window: Window,
    fill: int | tuple[int, int, int] = _GREY,
) -> tuple[UInt8[Tensor, "3 h w"], Scene]:
    """The window of a picture, ``fill`` where it reaches beyond it."""
    _, _, height, width = window
    pixels = _window_of(Image(picture), window, fill)
    things = _cut_things(scene.things, window)
    semantic, panoptic = scene.semantic, scene.panoptic
    if semantic is not None:
        semantic = _window_of(Mask(semantic[None]), window, UNLABELLED)[0]
    if panoptic is not None:
        panoptic = _trim(panoptic._replace(map=_window_of(Mask(panoptic.map[None]), window, 0)[0]))
    scene = replace(
        scene, size=(height, width), things=things, semantic=semantic, panoptic=panoptic
    )
    return pixels, scene


def _trim(panoptic: Panoptic) -> Panoptic:
    """Without the segments that no pixel shows any more."""
    seen = set(panoptic.map.unique().tolist())
    return panoptic._replace(segments=[s for s in panoptic.segments if s.id in seen])


def _window_of(pixels: Any, window: Window, fill: int | tuple[int, int, int]) -> Tensor:
    top, left, height, width = window
    rows, columns = pixels.shape[-2:]
    margins = [
        max(-left, 0),
        max(-top, 0),
        max(left + width - columns, 0),
        max(top + height - rows, 0),
    ]
    if any(margins):
        pixels = tvf.pad(pixels, margins, fill=fill if isinstance(fill, int) else list(fill))
    return tvf.crop(pixels, top + margins[1], left + margins[0], height, width).as_subclass(Tensor)


def _cut_things(things: Instances, window: Window) -> Instances:
    top, left, height, width = window
    shift = things.boxes.new_tensor([left, top])
    limit = things.boxes.new_tensor([width, height])
    boxes = (things.boxes.view(-1, 2, 2) - shift).clamp_min(0).minimum(limit).view(-1, 4)
    moved = replace(
        things,
        boxes=boxes,
        ignore=things.ignore | ~_inside(things.boxes, window),
        keypoints=_cut_keypoints(things.keypoints, shift, limit),
        masks=_change_masks(
            things.masks,
            lambda points: points - shift,
            lambda maps: _window_of(Mask(maps), window, fill=0),
        ),
    )
    return moved[(boxes[:, 2:] > boxes[:, :2]).all(1)]


def _cut_keypoints(
    keypoints: Float[Tensor, "N K 3"] | None, shift: Float[Tensor, "2"], limit: Float[Tensor, "2"]
) -> Float[Tensor, "N K 3"] | None:
    """Those outside become invisible: as if not labelled."""
    if keypoints is None:
        return None
    points = keypoints[..., :2] - shift
    inside = ((points >= 0) & (points < limit)).all(-1, keepdim=True)
    return torch.cat([points, keypoints[..., 2:] * inside], dim=-1)


def flip(
    picture: UInt8[Tensor, "3 H W"], scene: Scene, mirrored: tuple[int, ...] = ()
) -> tuple[UInt8[Tensor, "3 H W"], Scene]:
    """Left and right exchanged; keypoint k becomes keypoint ``mirrored[k]`` where any are named."""
    semantic, panoptic = scene.semantic, scene.panoptic
    if semantic is not None:
        semantic = semantic.flip(-1)
    if panoptic is not None:
        panoptic = panoptic._replace(map=panoptic.map.flip(-1))
    things = _flip_things(scene.things, scene.size[1], mirrored)
    scene = replace(scene, things=things, semantic=semantic, panoptic=panoptic)
    return tvf.horizontal_flip(picture), scene


def _flip_things(things: Instances, width: int, mirrored: tuple[int, ...]) -> Instances:
    x1, y1, x2, y2 = things.boxes.unbind(1)
    keypoints = things.keypoints
    if keypoints is not None:
        x, y, visibility = keypoints.unbind(-1)
        keypoints = torch.stack([width - x, y, visibility], dim=-1)
        keypoints = keypoints[:, list(mirrored)] if mirrored else keypoints
    return replace(
        things,
        boxes=torch.stack([width - x2, y1, width - x1, y2], dim=1),
        keypoints=keypoints,
        masks=_change_masks(
            things.masks,
            lambda points: torch.stack([width - points[:, 0], points[:, 1]], dim=1),
            lambda maps: maps.flip(-1),
        ),
    )


def _change_masks(
    masks: Masks | None,
    change_points: Callable[[Tensor], Tensor],
    change_maps: Callable[[Tensor], Tensor],
) -> Bool[Tensor, "N h w"] | list[Rle | Polygons] | None:
    """Polygons stay polygons. Where one mask is an RLE, all become maps: they soon will anyway."""
    if masks is None or isinstance(masks, Tensor):
        return None if masks is None else change_maps(masks)
    sizes = [tuple(mask["size"]) for mask in masks if isinstance(mask, dict)]
    if sizes:
        return change_maps(rasterise(masks, sizes[0]))
    return [[change_points(polygon) for polygon in mask] for mask in cast(list[Polygons], masks)]


def distort(
    picture: UInt8[Tensor, "3 H W"], chance: float, draws: Sequence[float]
) -> UInt8[Tensor, "3 H W"]:
    """SSD's photometric distortion. Of the eight draws in 0..1 four decide whether brightness,
    contrast, saturation and hue change, the others by how much."""
    done = [float(draw < chance) for draw in draws[:4]]
    amounts = [d * (2 * draw - 1) for d, draw in zip(done, draws[4:], strict=True)]
    brightness, contrast, saturation, hue = amounts
    if not any(done):
        return picture
    return recolour(picture, 1 + brightness / 8, 1 + contrast / 2, 1 + saturation / 2, hue / 20)


def recolour(
    picture: UInt8[Tensor, "3 H W"],
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    hue: float = 0.0,
) -> UInt8[Tensor, "3 H W"]:
    """All four as one 3x3 matrix and an offset: factors of 1 and a turn of 0 change nothing.

    ``hue`` is a share of a full turn about the grey axis. torchvision's four functions take 63 ms
    for a picture of 640x480, 49 of them for the hue; this takes 5. In whole numbers (1/65536), so
    that the result does not depend on the number of threads or the machine; a band of rows at a
    time, since these take many times the memory of the picture.
    """
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    bands = picture.split(max(1, _BAND // picture.shape[2]), dim=1)
    total = sum((band.sum((1, 2)) for band in bands), torch.zeros(3, dtype=torch.int64))
    grey = float(total.double() @ luma) / picture[0].numel()
    cos, sin = math.cos(2 * math.pi * hue), math.sin(2 * math.pi * hue) / math.sqrt(3)
    across = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64)
    identity = torch.eye(3, dtype=torch.float64)
    turn = cos * identity + (1 - cos) / 3 + sin * across
    matrix = (saturation * identity + (1 - saturation) * luma) @ turn * (brightness * contrast)
    offset = round(brightness * (1 - contrast) * grey * 65536) + 32768
    weights = (matrix * 65536).round().int()
    recoloured: list[Tensor] = []
    for band in bands:
        red, green, blue = band.int()
        rows = [(offset + a * red + b * green + c * blue) >> 16 for a, b, c in weights]
        recoloured.append(torch.stack(rows).clamp_(0, 255).to(torch.uint8))
    return torch.cat(recoloured, dim=1)
