"""What travels between folders: pictures in a batch, things in a picture, the parts of a loss.

Boxes are xyxy in pixels, in continuous coordinates (a box over the whole of an H x W picture is
``[0, 0, W, H]``); classes are ``0..C-1``; 255 is unlabelled in a label map. Ground truth and
prediction are the same types.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.shapes import Bool, Float, Int, Shaped

UNLABELLED = 255


class Images(NamedTuple):
    """A batch of pictures, padded at the right and the bottom to one size: what a model takes."""

    pixels: Float[Tensor, "B 3 H W"]  # normalised; the padding is zero
    sizes: Int[Tensor, "B 2"]  # height, width of each picture inside its padding
    regions: Float[Tensor, "B R 4"] | None = None  # proposals from outside; zero area where fewer

    def to(self, device: torch.device | str) -> "Images":
        regions = None if self.regions is None else self.regions.to(device)
        return Images(self.pixels.to(device), self.sizes.to(device), regions)


class Loss(NamedTuple):
    """A weighted sum and what it is to be divided by, over all processes."""

    total: Float[Tensor, ""]
    count: Float[Tensor, ""]  # type: ignore[assignment]  # hides tuple.count, which nobody needs

    def mean(self) -> Float[Tensor, ""]:
        """The loss of this process alone; a count of zero divides by one."""
        return self.total / self.count.clamp(min=1)


# On disk and in results a mask is COCO's RLE, {"size": [height, width], "counts": bytes}, or a list
# of polygons, each [P, 2] points x, y; in a batch it is a map.
Rle = dict[str, Any]
Polygons = list[Float[Tensor, "_ 2"]]
Masks = Bool[Tensor, "N H W"] | list[Rle | Polygons]


@dataclass(frozen=True)
class Classes:
    """What the labels 0..C-1 stand for.

    ``ids`` are the data set's own category ids, gaps and all, given back in results, and
    ``stuff_ids`` those of the stuff. A label map counts the ``stuff`` after the things: its label
    C + i is ``stuff[i]``. Keypoint k becomes keypoint ``mirrored[k]`` when the picture is flipped.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...] = ()  # left out: 0..C-1
    stuff: tuple[str, ...] = ()
    keypoints: tuple[str, ...] = ()
    mirrored: tuple[int, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()  # pairs of keypoints, from 0
    # Left out: from the highest of ``ids`` on. Runs know their data by the rest, as it is printed.
    stuff_ids: tuple[int, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.ids:
            object.__setattr__(self, "ids", tuple(range(len(self.names))))
        if not self.stuff_ids:
            after = max(self.ids, default=-1) + 1
            object.__setattr__(self, "stuff_ids", tuple(range(after, after + len(self.stuff))))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def in_maps(self) -> tuple[str, ...]:
        """What the labels of a map stand for: the things, then the stuff."""
        return self.names + self.stuff


@dataclass
class Instances:
    """N things of one picture, indexed together: ``things[keep]`` selects from every field."""

    boxes: Float[Tensor, "N 4"]
    labels: Int[Tensor, " N"]
    scores: Float[Tensor, " N"] | None = None  # None in ground truth
    # Crowd, difficult, don't care; left out: all False.
    ignore: Bool[Tensor, " _"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    area: Float[Tensor, " N"] | None = None  # in square pixels of the original; None: unknown
    masks: Masks | None = None
    keypoints: Float[Tensor, "N K 3"] | None = None  # x, y, visibility 0, 1 or 2 (or a score)
    extra: dict[str, Tensor | list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.ignore) == 0:
            self.ignore = torch.zeros(len(self.labels), dtype=torch.bool, device=self.boxes.device)
        for name, column in self._columns().items():
            if len(column) != len(self.labels):
                raise ValueError(f"{name} has {len(column)} rows for {len(self.labels)} things")

    @classmethod
    def empty(cls, device: torch.device | str = "cpu") -> "Instances":
        return cls(
            boxes=torch.zeros(0, 4, device=device),
            labels=torch.zeros(0, dtype=torch.long, device=device),
        )

    @classmethod
    def join(cls, parts: Sequence["Instances"]) -> "Instances":
        """The things of all parts after one another; a field absent in one part is absent."""
        if not parts:
            return cls.empty()
        columns = [part._columns() for part in parts]
        shared = [name for name in columns[0] if all(name in other for other in columns)]
        joined = {name: _join_column([part[name] for part in columns]) for name in shared}
        return cls.empty()._with_columns(joined)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Shaped[Tensor, "..."] | slice) -> "Instances":
        """The things an index tensor, a Boolean mask or a slice points at."""
        return self._map(lambda column: _take(column, index))

    @property
    def difficult(self) -> Bool[Tensor, " N"]:
        """Which are ignored as one thing each, being hard to see, and not as a region with who
        knows how many in it: those that ``extra["difficult"]`` names."""
        told = self.extra.get("difficult")
        return self.ignore & told if isinstance(told, Tensor) else torch.zeros_like(self.ignore)

    def to(self, device: torch.device | str) -> "Instances":
        return self._map(lambda c: c.to(device) if isinstance(c, Tensor) else c)

    def _columns(self) -> dict[str, Any]:
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        present = {name: value for name, value in own.items() if value is not None}
        return present | {f"extra.{name}": value for name, value in self.extra.items()}

    def _with_columns(self, columns: dict[str, Any]) -> "Instances":
        own = {k: v for k, v in columns.items() if not k.startswith("extra.")}
        extra = {k.removeprefix("extra."): v for k, v in columns.items() if k.startswith("extra.")}
        return replace(self, **own, extra=extra)

    def _map(self, change: Callable[[Any], Any]) -> "Instances":
        return self._with_columns({name: change(c) for name, c in self._columns().items()})


def _take(column: Any, index: Tensor | slice) -> Any:
    if isinstance(column, Tensor):
        return column[index.to(column.device) if isinstance(index, Tensor) else index]
    if isinstance(index, slice):
        return column[index]
    rows = index.nonzero().flatten() if index.dtype == torch.bool else index
    return [column[row] for row in rows.tolist()]


def _join_column(columns: list[Any]) -> Any:
    if isinstance(columns[0], Tensor):
        return torch.cat(columns)
    return [row for column in columns for row in column]


class Segment(NamedTuple):
    """One segment of a panoptic map."""

    id: int  # its value in the map
    label: int
    thing: bool
    score: float | None = None
    ignore: bool = False


class Panoptic(NamedTuple):
    """Every pixel's segment: a map of segment ids (0 is void) and what each id stands for."""

    map: Int[Tensor, "H W"]
    segments: list[Segment]


class Moment(NamedTuple):
    """When in a video a picture is shown."""

    frame: int  # counted from 0
    seconds: float  # since the first frame


@dataclass
class Scene:
    """All that is known of one picture, true or predicted.

    ``seed`` is the source of every random choice a model makes for this picture in this step
    (which anchors to sample, say), so that a batch split over processes draws as one process does.
    """

    size: tuple[int, int]  # height, width of what the boxes are measured in
    things: Instances = field(default_factory=Instances.empty)
    semantic: Int[Tensor, "H W"] | None = None
    panoptic: Panoptic | None = None
    captions: list[str] | None = None  # sentences, each about the whole picture
    path: str = ""  # where the picture came from, for messages
    image_id: int | str | None = None  # the data set's own id, given back in results
    seed: int | None = None
    moment: Moment | None = None  # of a frame of a video

    def to(self, device: torch.device | str) -> "Scene":
        return replace(
            self,
            things=self.things.to(device),
            semantic=None if self.semantic is None else self.semantic.to(device),
            panoptic=None
            if self.panoptic is None
            else self.panoptic._replace(map=self.panoptic.map.to(device)),
        )


@dataclass(frozen=True)
class Placement:
    """How a picture was scaled and then shifted into its place in the batch.

    A point (x, y) of the original lies at ``(x * scale_x + left, y * scale_y + top)``.
    """

    original: tuple[int, int]  # height, width in the file
    size: tuple[int, int]  # height, width after scaling
    offset: tuple[int, int] = (0, 0)  # top, left

    @property
    def scale(self) -> tuple[float, float]:
        """Vertical and horizontal."""
        return self.size[0] / self.original[0], self.size[1] / self.original[1]

    def _factor_and_shift(self, like: Tensor) -> tuple[Tensor, Tensor]:
        vertical, horizontal = self.scale
        top, left = self.offset
        return like.new_tensor([horizontal, vertical]), like.new_tensor([left, top])

    def points(self, points: Float[Tensor, "*P 2"]) -> Float[Tensor, "*P 2"]:
        """From the original into the batch."""
        factor, shift = self._factor_and_shift(points)
        return points * factor + shift

    def points_back(self, points: Float[Tensor, "*P 2"]) -> Float[Tensor, "*P 2"]:
        factor, shift = self._factor_and_shift(points)
        return (points - shift) / factor

    def boxes(self, boxes: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N 4"]:
        """From the original into the batch."""
        return self.points(boxes.unflatten(-1, (2, 2))).flatten(-2)

    def boxes_back(self, boxes: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N 4"]:
        return self.points_back(boxes.unflatten(-1, (2, 2))).flatten(-2)

    def keypoints(self, keypoints: Float[Tensor, "N K 3"]) -> Float[Tensor, "N K 3"]:
        """From the original into the batch; the third value stays."""
        return torch.cat([self.points(keypoints[..., :2]), keypoints[..., 2:]], dim=-1)

    def keypoints_back(self, keypoints: Float[Tensor, "N K 3"]) -> Float[Tensor, "N K 3"]:
        return torch.cat([self.points_back(keypoints[..., :2]), keypoints[..., 2:]], dim=-1)

    def masks(
        self, masks: Shaped[Tensor, "N h w"], canvas: tuple[int, int], fill: int = 0
    ) -> Shaped[Tensor, "N H W"]:
        """Maps of the original, nearest neighbour, on a canvas of the batch's height and width."""
        scaled = _nearest(masks, self.size)
        top, left = self.offset
        bottom, right = canvas[0] - top - self.size[0], canvas[1] - left - self.size[1]
        return F.pad(scaled, (left, right, top, bottom), value=fill)

    def masks_back(self, masks: Shaped[Tensor, "N H W"]) -> Shaped[Tensor, "N h w"]:
        """Maps of the batch, cut out of the padding and brought to the original size."""
        top, left = self.offset
        inside = masks[:, top : top + self.size[0], left : left + self.size[1]]
        return _nearest(inside, self.original)

    def things(self, things: Instances, canvas: tuple[int, int]) -> Instances:
        """All that has a place in the picture, carried into the batch; ``area`` stays in pixels of
        the original, since that is what metrics sort by."""
        masks = things.masks
        if isinstance(masks, list):
            raise ValueError("masks must be rasterised before they are placed")
        return replace(
            things,
            boxes=self.boxes(things.boxes),
            keypoints=None if things.keypoints is None else self.keypoints(things.keypoints),
            masks=None if masks is None else self.masks(masks, canvas),
        )

    def scene(self, scene: Scene, canvas: tuple[int, int]) -> Scene:
        """A target in the pixels of the batch: its size is that of the picture inside its padding,
        its maps are as large as the canvas, unlabelled (or void) in the padding."""
        semantic, panoptic = scene.semantic, scene.panoptic
        if semantic is not None:
            semantic = self.masks(semantic[None], canvas, fill=UNLABELLED)[0]
        if panoptic is not None:
            panoptic = panoptic._replace(map=self.masks(panoptic.map[None], canvas)[0])
        things = self.things(scene.things, canvas)
        return replace(scene, size=self.size, things=things, semantic=semantic, panoptic=panoptic)


def _nearest(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(maps.shape[-2:]) == tuple(size) or len(maps) == 0:
        return maps.new_zeros(0, *size) if len(maps) == 0 else maps
    rows = _centres(size[0], maps.shape[-2], maps.device)
    columns = _centres(size[1], maps.shape[-1], maps.device)
    return maps[:, rows][:, :, columns]


def _centres(count: int, source: int, device: torch.device) -> Tensor:
    """The source index under the centre of each of ``count`` pixels."""
    centres = (torch.arange(count, device=device, dtype=torch.float64) + 0.5) * (source / count)
    return centres.long().clamp(max=source - 1)
