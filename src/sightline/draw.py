"""Pictures with what is known of them drawn in: boxes, names, masks, keypoints, label maps.

Lines and letters grow with the picture. A class has the same colour in every picture.
"""

import colorsys
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from torch import Tensor

from sightline.ops.masks import rasterise
from sightline.pillow import from_pillow
from sightline.shapes import Int, UInt8
from sightline.types import UNLABELLED, Classes, Instances, Panoptic, Scene

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]

_GOLDEN = 0.618033988749895  # of a turn: successive hues lie far from all before them
_TONES = ((0.85, 1.0), (0.55, 1.0), (1.0, 0.72))  # saturation and value, one after another
_MASK, _MAP = 0.45, 0.55  # how much of a colour covers the picture
_COARSE = 200  # pixels on the long side, where a map is looked at for room
_PAPER, _INK = (255, 255, 255), (60, 60, 60)


@cache
def colour(label: int) -> Colour:
    """The colour of a class: bright, and unlike those of its neighbours."""
    saturation, value = _TONES[label // 8 % len(_TONES)]
    red, green, blue = colorsys.hsv_to_rgb((0.58 + label * _GOLDEN) % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw(
    picture: UInt8[Tensor, "3 H W"] | Image.Image,
    scene: Scene,
    classes: Classes,
    zoom: float = 1,
) -> Image.Image:
    """The picture with all that the scene knows; the picture itself is not changed.

    Things are drawn in the order of their scores, the best on top; an ignored one has only a
    dashed box, an ignored segment only its rim. A class of a label map is named where it has most
    room. A name that would hide another, or the middle of a thing, is left out: the colour still
    tells.

    Args:
        zoom: enlarges the picture first, so that small ones get readable names.
    """
    image = _enlarged(to_pillow(picture), zoom)
    pixels = np.array(image)
    if scene.semantic is not None:
        _cover_map(pixels, scene.semantic)
    if scene.panoptic is not None:
        _cover_panoptic(pixels, scene.panoptic)
    things = _enlarged_things(scene.things, zoom)
    order = _by_score(things)
    if things.masks is not None:
        for row in (row for row in order if not things.ignore[row]):
            mask = rasterise(things.masks[row : row + 1], scene.size)[
                0
            ]  # one at a time: they are big
            _cover(pixels, _scaled(mask, pixels), colour(int(things.labels[row])))
    image = Image.fromarray(pixels)
    sheet = _Sheet(ImageDraw.Draw(image), image.size, _centres(things))
    for row in order:
        sheet.box(things.boxes[row].tolist(), int(things.labels[row]), bool(things.ignore[row]))
    if things.keypoints is not None:
        for row in (row for row in order if not things.ignore[row]):
            sheet.keypoints(things.keypoints[row].tolist(), classes, int(things.labels[row]))
    for row in reversed(order):
        if not things.ignore[row]:
            sheet.name(
                things.boxes[row].tolist(), int(things.labels[row]), _text(things, row, classes)
            )
    if scene.semantic is not None:
        for label, point, room in _roomiest(_scaled(scene.semantic, pixels)):
            if label < len(classes.in_maps) and 2 * room > sheet.letters:
                sheet.name_at(point, label, classes.in_maps[label])
    return image


def index_image(semantic: Int[Tensor, "H W"]) -> Image.Image:
    """A label map as a picture whose bytes are the labels, shown in the colours of the classes;
    what is unlabelled, 255, is white."""
    image = Image.fromarray(semantic.cpu().numpy().astype(np.uint8))
    shades = [*(colour(label) for label in range(UNLABELLED)), _PAPER]
    image.putpalette([value for shade in shades for value in shade])
    return image


def to_pillow(picture: UInt8[Tensor, "3 H W"] | Image.Image) -> Image.Image:
    """The pixels that ``predict`` measures: an image of Pillow's is turned and scaled to bytes."""
    if isinstance(picture, Image.Image):
        picture = from_pillow(picture)
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().cpu().numpy())


def _enlarged(image: Image.Image, zoom: float) -> Image.Image:
    if zoom == 1:
        return image
    width, height = image.size
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    return image.resize(size, Image.Resampling.BICUBIC)


def _enlarged_things(things: Instances, zoom: float) -> Instances:
    """On the CPU; masks stay as they are."""
    things = things.to("cpu")
    things.boxes = things.boxes * zoom
    if things.keypoints is not None:
        things.keypoints = things.keypoints * torch.tensor([zoom, zoom, 1.0])
    return things


def _by_score(things: Instances) -> list[int]:
    """Rows, the best scored last; without scores the smallest, which others would hide, last."""
    width, height = (things.boxes[:, 2:] - things.boxes[:, :2]).unbind(1)
    key = -width * height if things.scores is None else things.scores
    return key.argsort(stable=True).tolist()


def _centres(things: Instances) -> list[tuple[float, float]]:
    boxes = things.boxes[~things.ignore]
    return [(x, y) for x, y in ((boxes[:, :2] + boxes[:, 2:]) / 2).tolist()]


def _text(things: Instances, row: int, classes: Classes) -> str:
    name = classes.names[int(things.labels[row])]
    return name if things.scores is None else f"{name} {float(things.scores[row]):.2f}"


def _cover(pixels: NDArray[np.uint8], mask: NDArray[np.bool_], colour: Colour) -> None:
    """Tint the mask and draw its rim in the full colour."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    part, inside = pixels[window], mask[window]
    part[inside] = _tinted(part[inside], colour, _MASK)
    part[inside & ~_inner(inside, max(1, round(min(pixels.shape[:2]) / 400)))] = colour


def _tinted(pixels: NDArray[np.uint8], colour: Any, share: float) -> NDArray[np.uint8]:
    return (pixels * (1 - share) + np.asarray(colour) * share).round().astype(np.uint8)


def _inner(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """The mask without a rim of that many pixels."""
    for _ in range(width):
        padded = np.pad(mask, 1)
        sides = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        mask = mask & sides
    return mask


def _scaled(values: Tensor, pixels: NDArray[np.uint8]) -> NDArray[Any]:
    """A map brought to the size of the picture, nearest neighbour."""
    height, width = pixels.shape[:2]
    if values.shape == (height, width):
        return values.cpu().numpy()
    rows = (np.arange(height) + 0.5) * values.shape[0] // height
    columns = (np.arange(width) + 0.5) * values.shape[1] // width
    return values.cpu().numpy()[rows.astype(int)][:, columns.astype(int)]


def _cover_map(pixels: NDArray[np.uint8], semantic: Tensor) -> None:
    labels = _scaled(semantic, pixels)
    known = labels != UNLABELLED
    palette = np.array([colour(label) for label in range(UNLABELLED)])
    pixels[known] = _tinted(pixels[known], palette[labels[known]], _MAP)


def _roomiest(
    labels: NDArray[np.int64],
) -> Iterator[tuple[int, tuple[float, float], float]]:
    """Each label that is there, the most frequent first, the point x, y that lies deepest in it and
    how deep that is, in pixels; on a coarse copy, where that takes no time."""
    step = max(1, max(labels.shape) // _COARSE)
    coarse = labels[step // 2 :: step, step // 2 :: step]
    found, counts = np.unique(coarse[coarse != UNLABELLED], return_counts=True)
    for label in found[np.argsort(-counts, kind="stable")].tolist():
        depth = ndimage.distance_transform_edt(np.pad(coarse == label, 1))[1:-1, 1:-1]
        deepest = np.argwhere(depth == depth.max())  # many, in a strip
        row, column = deepest[((deepest - deepest.mean(0)) ** 2).sum(1).argmin()].tolist()
        yield label, ((column + 0.5) * step, (row + 0.5) * step), float(depth.max()) * step


def _cover_panoptic(pixels: NDArray[np.uint8], panoptic: Panoptic) -> None:
    """Each segment in the colour of its class, with a light rim between segments."""
    ids = _scaled(panoptic.map, pixels)
    for segment in (s for s in panoptic.segments if not s.ignore):
        inside = ids == segment.id
        pixels[inside] = _tinted(pixels[inside], colour(segment.label), _MAP)
    rim = np.zeros(ids.shape, dtype=bool)
    rim[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    rim[1:] |= ids[1:] != ids[:-1]
    pixels[rim] = _PAPER


@dataclass
class _Sheet:
    """What is drawn on, and what names must leave free."""

    draw: ImageDraw.ImageDraw
    size: tuple[int, int]  # width, height
    centres: list[tuple[float, float]]  # of the things
    taken: list[Rectangle] = field(default_factory=list)

    @property
    def line(self) -> int:
        """Width of a line in pixels: 1 up to 370 pixels, 3 at 750."""
        return max(1, round(math.sqrt(self.size[0] * self.size[1]) / 250))

    @property
    def letters(self) -> int:
        """Height of letters in pixels."""
        return min(max(10, round(math.sqrt(self.size[0] * self.size[1]) / 45)), 48)

    def box(self, box: Sequence[float], label: int, ignore: bool) -> None:
        x1, y1, x2, y2 = (round(value) for value in box)
        corners = [x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)]
        if ignore:
            self._dashed(corners, colour(label))
        else:
            thin = max(1, min(x2 - x1, y2 - y1) // 8)  # leaves something of a tiny thing to see
            self.draw.rectangle(corners, outline=colour(label), width=min(self.line, thin))

    def _dashed(self, corners: list[int], colour: Colour) -> None:
        x1, y1, x2, y2 = corners
        step = 4 * self.line
        for x in range(x1, x2, 2 * step):
            for y in (y1, y2):
                self.draw.line([x, y, min(x + step, x2), y], colour, self.line)
        for y in range(y1, y2, 2 * step):
            for x in (x1, x2):
                self.draw.line([x, y, x, min(y + step, y2)], colour, self.line)

    def keypoints(self, points: list[list[float]], classes: Classes, label: int) -> None:
        """Bones in the colour of the class, joints in one of their own with a light rim."""
        seen = {k: (x, y) for k, (x, y, visible) in enumerate(points) if visible > 0}
        for a, b in classes.skeleton:
            if a in seen and b in seen:
                self.draw.line([seen[a], seen[b]], colour(label), self.line)
        for number, (x, y) in seen.items():
            r = 1.5 * self.line
            self.draw.ellipse([x - r, y - r, x + r, y + r], colour(number), _PAPER)

    def name(self, box: Sequence[float], label: int, text: str) -> None:
        """In the first free place at the box, on a ground of the colour of the class."""
        self._write(label, text, lambda width, height: self._places(box, width, height))

    def name_at(self, point: tuple[float, float], label: int, text: str) -> None:
        """With its middle at the point, or as near as the picture's edges let it."""

        def place(width: float, height: float) -> list[Rectangle]:
            x, y = point[0] - width / 2, point[1] - height / 2
            x = round(min(max(x, 0), max(self.size[0] - width, 0)))
            y = round(min(max(y, 0), max(self.size[1] - height, 0)))
            return [(x, y, x + width, y + height)]

        self._write(label, text, place)

    def _write(
        self, label: int, text: str, places: Callable[[float, float], Iterable[Rectangle]]
    ) -> None:
        """In the first free one of the places for a name of this width and height."""
        edge = max(1, self.line)
        words = [_word(word, self.letters) for word in text.split(" ")]
        top, bottom = _rows(self.letters)
        gap = self.letters // 4  # between words
        width = sum(word.width for word in words) + gap * (len(words) - 1) + 2 * edge + 2
        for place in places(width, bottom - top + 2 * edge):
            if self._free(place):
                self.taken.append(place)
                ground = colour(label)
                self.draw.rectangle([*place[:2], place[2] - 1, place[3] - 1], fill=ground)
                x, y = round(place[0]) + edge + 1, round(place[1] + edge - top)
                for word in words:
                    self.draw.bitmap((x, y), word, fill=_readable_on(ground))
                    x += word.width + gap
                return

    def _free(self, place: Rectangle) -> bool:
        left, top, right, bottom = place
        return not any(left < x < right and top < y < bottom for x, y in self.centres) and not any(
            _overlap(place, other) for other in self.taken
        )

    def _places(self, box: Sequence[float], width: float, height: float) -> Iterator[Rectangle]:
        """On the box, under its upper edge, beneath it; from the left, then from the right."""
        x1, y1, x2, y2 = (float(round(value)) for value in box)
        for x in (x1, x2 - width):
            for y in (y1 - height, y1, y2, y2 - height):
                if 0 <= y <= self.size[1] - height:
                    x = min(max(x, 0.0), max(self.size[0] - width, 0.0))
                    yield x, y, x + width, y + height


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _readable_on(ground: Colour) -> Colour:
    """Black or white, by the luminance of Rec. 601."""
    red, green, blue = ground
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


@lru_cache(4096)
def _word(text: str, size: int) -> Image.Image:
    """A mask. Kept, since setting letters is most of what drawing costs: the name of a class comes
    again and again, and so do scores of two digits."""
    font = _font(size)
    left, _, right, bottom = font.getbbox(text)
    mask = Image.new("L", (right - left, bottom))
    ImageDraw.Draw(mask).text((-left, 0), text, 255, font)
    return mask


@cache
def _rows(size: int) -> tuple[int, int]:
    """From where to where a line of text reaches, with and without tall letters."""
    _, top, _, bottom = _font(size).getbbox("Ag")
    return top, bottom


@cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def contact_sheet(
    pictures: Sequence[Image.Image],
    columns: int,
    captions: Sequence[str] = (),
    gap: int = 8,
) -> Image.Image:
    """Pictures in rows on a light ground: columns as wide as the widest picture, each row as high
    as its highest, every picture in the middle of its cell.

    Args:
        captions: one above each picture, from the first on.
        gap: pixels between cells and around them.
    """
    rows = [pictures[first : first + columns] for first in range(0, len(pictures), columns)]
    width = max((picture.width for picture in pictures), default=1)
    heights = [max(picture.height for picture in row) for row in rows]
    font = _font(min(max(12, round(width / 30)), 32))
    strip = round(1.6 * font.size) if captions else 0
    across = columns * (width + gap) + gap
    down = sum(heights) + len(rows) * (strip + gap) + gap
    sheet = Image.new("RGB", (across, down), _PAPER)
    pen = ImageDraw.Draw(sheet)
    words = iter(captions)
    top = gap
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            left = gap + column * (width + gap) + (width - picture.width) // 2
            pen.text((left, top + strip // 2), next(words, ""), _INK, font, anchor="lm")
            sheet.paste(picture, (left, top + strip + (height - picture.height) // 2))
        top += strip + height + gap
    return sheet
