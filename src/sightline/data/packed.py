"""The one in-memory form of a labelled data set: flat tensors and offsets.

A hundred thousand pictures are a dozen tensors, not millions of Python objects: workers that are
forked read the same memory without ever touching a reference count, and workers that are spawned
get the tensors through shared memory. Whatever a picture or a thing has many of lies in one row
after another, and ``spans`` say from where to where.
"""

import warnings
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from sightline.data.images import read_image
from sightline.data.maps import PackedLabels, PackedPanoptic
from sightline.data.parts import mask_area
from sightline.data.records import RecordError
from sightline.data.strings import PackedCaptions, Strings, in_one_row, spans_between
from sightline.errors import SightlineError
from sightline.shapes import Bool, Float, Int, UInt8
from sightline.types import Classes, Instances, Polygons, Rle, Scene, Segment

REACHES_OUTSIDE = 0.1  # pixels: annotation tools round, so less is clipped without a word
_Loaded = TypeVar("_Loaded")


@runtime_checkable
class Dataset(Protocol):
    """What a loader and an evaluation need: packed from files, or generated."""

    @property
    def classes(self) -> Classes: ...

    def __len__(self) -> int: ...

    def size(self, index: int) -> tuple[int, int]:
        """Height and width, without decoding the picture."""

    def scene(self, index: int) -> Scene:
        """The truth, in pixels of the original picture; masks as RLE or polygons."""

    def picture(self, index: int) -> UInt8[Tensor, "3 H W"]:
        """RGB, upright."""


class Splits(NamedTuple):
    train: Dataset
    val: Dataset


class DataWarning(UserWarning):
    """Something in the data that was mended and that the user should know of: one line."""


@dataclass(frozen=True, eq=False)
class PackedMasks:
    """The masks of all things: each has polygons or an RLE, or zero polygons."""

    polygons: Int[Tensor, "N 2"]  # the span of each thing among the outlines
    outlines: Int[Tensor, "_ 2"]  # the span of each polygon among the points
    points: Float[Tensor, "_ 2"]  # float64: rasterised to the same pixels as from the file
    counts: Strings  # of each thing, compressed; empty where it has polygons

    def masks(self, first: int, last: int, size: tuple[int, int]) -> list[Rle | Polygons]:
        return [self._mask(thing, size) for thing in range(first, last)]

    def _mask(self, thing: int, size: tuple[int, int]) -> Rle | Polygons:
        counts = self.counts.encoded(thing)
        if counts:
            return {"size": list(size), "counts": counts}
        first, last = self.polygons[thing].tolist()
        outlines = self.outlines[first:last].tolist()
        return [self.points[start:end].clone() for start, end in outlines]


@dataclass(frozen=True, eq=False)
class Packed:
    """Pictures in files and what is known of the things in them."""

    classes: Classes
    root: str  # what the paths are relative to
    paths: Strings
    sizes: Int[Tensor, "I 2"]  # height, width, upright
    image_ids: Int[Tensor, " I"] | Strings
    spans: Int[Tensor, "I 2"]  # of each picture among the things
    boxes: Float[Tensor, "N 4"]
    labels: Int[Tensor, " N"]
    ignore: Bool[Tensor, " N"]
    area: Float[Tensor, " N"]
    masks: PackedMasks | None = None
    keypoints: Float[Tensor, "N K 3"] | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)
    semantic: PackedLabels | None = None
    panoptic: PackedPanoptic | None = None
    captions: PackedCaptions | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width as annotated, without opening the picture."""
        height, width = self.sizes[index].tolist()
        return height, width

    def path(self, index: int) -> Path:
        return Path(self.root, self.paths[index])

    def image_id(self, index: int) -> int | str:
        ids = self.image_ids
        return ids[index] if isinstance(ids, Strings) else int(ids[index])

    def picture(self, index: int) -> UInt8[Tensor, "3 H W"]:
        """RGB, upright.

        Raises:
            SightlineError: the file cannot be decoded, or is not of the size it was annotated in.
        """
        picture = read_image(self.path(index))
        found, annotated = tuple(picture.shape[1:]), self.size(index)
        if found != annotated:
            raise SightlineError(
                f"{self.path(index)} is {found[1]}x{found[0]}, its annotation says "
                f"{annotated[1]}x{annotated[0]}: {_size_hint(found, annotated)}"
            )
        return picture

    def scene(self, index: int) -> Scene:
        """The truth in pixels of the original picture, masks as polygons or RLE."""
        first, last = self.spans[index].tolist()
        rows = slice(first, last)
        size = self.size(index)
        things = Instances(
            boxes=self.boxes[rows].clone(),
            labels=self.labels[rows].clone(),
            ignore=self.ignore[rows].clone(),
            area=self.area[rows].clone(),
            masks=None if self.masks is None else self.masks.masks(first, last, size),
            keypoints=None if self.keypoints is None else self.keypoints[rows].clone(),
            extra={name: column[rows].clone() for name, column in self.extra.items()},
        )
        return Scene(
            size=size,
            things=things,
            semantic=None if self.semantic is None else self.semantic.map(index, self.root, size),
            panoptic=None if self.panoptic is None else self.panoptic.map(index, self.root, size),
            captions=None if self.captions is None else self.captions.of(index),
            path=str(self.path(index)),
            image_id=self.image_id(index),
        )

    def take(self, indices: Sequence[int]) -> "Packed":
        """Some of the pictures, in this order; the things are shared, not copied."""
        rows, ids = torch.tensor(indices, dtype=torch.int64), self.image_ids
        return replace(
            self,
            paths=self.paths.take(rows),
            sizes=self.sizes[rows],
            image_ids=ids.take(rows) if isinstance(ids, Strings) else ids[rows],
            spans=self.spans[rows],
            semantic=self.semantic and self.semantic.take(rows),
            panoptic=self.panoptic and self.panoptic.take(rows),
            captions=self.captions and self.captions.take(rows),
        )


def lean(dataset: Dataset, needs: Collection[str] = ()) -> Dataset:
    """Without the maps that nobody needs: each would be read from a file of its own."""
    if not isinstance(dataset, Packed):
        return dataset
    kept = {name: getattr(dataset, name) for name in ("semantic", "panoptic") if name in needs}
    return replace(dataset, **({"semantic": None, "panoptic": None} | kept))


def fingerprint(dataset: Dataset) -> str:
    """The same for the same labels and files of the same sizes in bytes, whatever their folder is
    called; of a data set that is generated, for as many pictures of the same classes."""
    found = zlib.crc32(repr((len(dataset), dataset.classes)).encode(errors="surrogatepass"))
    parts: list[Any] = []
    if isinstance(dataset, Packed):
        parts = [dataset, {"bytes": _file_sizes(dataset)}]
    while parts:
        part = parts.pop()
        for value in (part if isinstance(part, dict) else vars(part)).values():
            parts += [value] if is_dataclass(value) or isinstance(value, dict) else []
            if isinstance(value, Tensor):
                found = zlib.crc32(
                    value.contiguous().view(-1).view(torch.uint8).numpy().tobytes(), found
                )
    return f"{found:08x}"


def _file_sizes(data: Packed) -> Int[Tensor, " F"]:
    """Of the pictures and maps; -1 where there is no such file, which is told when it is read."""
    columns = [data.paths, *(maps.paths for maps in (data.semantic, data.panoptic) if maps)]
    files = [Path(data.root, column[i]) for column in columns for i in range(len(column))]
    return torch.tensor([_file_size(file) for file in files])


def _file_size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def _size_hint(found: tuple[int, ...], annotated: tuple[int, int]) -> str:
    if found == annotated[::-1]:
        return (
            "it was annotated without its EXIF orientation; remove that tag or annotate it upright"
        )
    return "was it resized after it was annotated?"


class Packer:
    """Takes a data set in picture by picture, each followed by its things, and packs it.

    Boxes are clipped to their picture; those without area (before or after) are dropped with all
    that belongs to them. ``finish`` says in one warning how many of each.
    """

    def __init__(self, source: str | Path, root: str | Path, keypoints: int = 0) -> None:
        self.source, self.root, self.keypoints = source, root, keypoints
        self.paths: list[str] = []
        self.image_ids: list[int | str | None] = []
        self._taken = dict[str, str]()  # the path of each id
        self._files = set[str]()
        self.sizes, self.thing_at = array("q"), array("q")
        self.boxes, self.labels, self.ignore = array("d"), array("q"), array("b")
        self.area, self.points, self.keypoint_values = array("d"), array("d"), array("d")
        self.polygon_at, self.point_at = array("q", [0]), array("q", [0])
        self.counts: list[bytes] = []
        self.extra: dict[str, list[Any]] = {}
        self.label_maps, self.panoptic_maps = dict[int, str](), dict[int, str]()
        self.meaning: Mapping[int, int] = {}
        self.segments: dict[int, Sequence[Segment]] = {}
        self.captions: dict[int, Sequence[str]] = {}
        self.dropped = self.clipped = self.again = 0
        self._records: list[tuple[Path, str]] = []  # that are being read, the innermost last

    @contextmanager
    def record(self, name: str = "", file: Path | None = None) -> Iterator[None]:
        """Around the reading of one record, a picture's or a thing's: what is wrong in it is an
        error. (The doctor's packer notes it instead, and goes on with the next; it calls the record
        by its name in the file, which is the source where none is given.)"""
        self._records.append((Path(self.source) if file is None else file, name))
        try:
            yield
        finally:
            self._records.pop()

    def load(self, files: Iterable[Path], load: Callable[[Path], _Loaded]) -> dict[Path, _Loaded]:
        """What the files hold, each a record of its own."""
        loaded = {}
        for file in files:
            with self.record(file=file):
                loaded[file] = load(file)
        return loaded

    def picture(
        self, path: str | Path, size: tuple[int, int], image_id: int | str | None = None
    ) -> None:
        """``path`` is relative to the root; ``size`` is height, width. A picture without an id is
        called by its file: the stem, or the path where another has that stem.

        Raises:
            RecordError: another picture has that id, or that file where there are no ids.
        """
        name = Path(path).as_posix()
        taken = str(name if image_id is None else image_id)
        if taken in self._taken:
            told = f"{self._taken[taken]} and {name} have one id, {taken}"
            if image_id is None:
                told = f"two records are of {name}"
            raise RecordError("duplicate-id", f"{self._where()}: {told}")
        self.again += name in self._files
        self._files.add(name)
        self._taken[taken] = name
        self.paths.append(name)
        self.sizes.extend(size)
        self.image_ids.append(image_id)
        self.thing_at.append(len(self.labels))

    def _where(self) -> str:
        """Of the record being read."""
        file, name = self._records[-1] if self._records else (self.source, "")
        return f"{file}, {name}" if name else str(file)

    def label_map(self, path: str | Path, meaning: Mapping[int, int]) -> None:
        """Of the picture last taken in. ``meaning`` is the label of each value that may stand in
        the file, the same for all pictures."""
        self.label_maps[len(self.paths) - 1] = Path(path).as_posix()
        self.meaning = meaning

    def panoptic_map(self, path: str | Path, segments: Sequence[Segment]) -> None:
        """Of the picture last taken in."""
        self.panoptic_maps[len(self.paths) - 1] = Path(path).as_posix()
        self.segments[len(self.paths) - 1] = segments

    def say(self, captions: Sequence[str]) -> None:
        """Sentences about the picture last taken in."""
        self.captions[len(self.paths) - 1] = captions

    def thing(
        self,
        box: Sequence[float],
        label: int,
        *,
        ignore: bool = False,
        area: float | None = None,
        polygons: Sequence[Sequence[float]] = (),
        counts: bytes = b"",
        keypoints: Sequence[float] = (),
        **extra: Any,
    ) -> None:
        """One thing of the picture last taken in; ``box`` is xyxy, continuous.

        ``area`` is that of the mask, or else of the clipped box, where it is left out. ``polygons``
        are flat: x, y, x, y; those with fewer than three points enclose nothing and are left out.
        ``counts`` are a compressed RLE's. ``keypoints`` are flat, x, y, visibility, and as many for
        every thing.
        """
        height, width = self.sizes[-2:]
        x1, x2 = (min(max(x, 0.0), width) for x in box[::2])
        y1, y2 = (min(max(y, 0.0), height) for y in box[1::2])
        if x2 <= x1 or y2 <= y1:
            self.dropped += 1
            return
        moved = max(abs(a - b) for a, b in zip(box, (x1, y1, x2, y2), strict=True))
        self.clipped += moved > REACHES_OUTSIDE
        self.boxes.extend((x1, y1, x2, y2))
        self.labels.append(label)
        self.ignore.append(ignore)
        enclosing = list(filter(encloses, polygons))
        if area is None and (enclosing or counts):
            area = mask_area(enclosing, counts)
        self.area.append((x2 - x1) * (y2 - y1) if area is None else area)
        self.keypoint_values.extend(keypoints)
        for name, value in extra.items():
            self.extra.setdefault(name, []).append(value)
        self._mask(enclosing, counts)

    def _mask(self, polygons: Sequence[Sequence[float]], counts: bytes) -> None:
        for polygon in polygons:
            self.points.extend(polygon)
            self.point_at.append(len(self.points) // 2)
        self.polygon_at.append(len(self.point_at) - 1)
        self.counts.append(counts)

    def finish(self, classes: Classes) -> Packed:
        """The data set.

        Warns:
            DataWarning: boxes were dropped or clipped, or pictures are listed again.
        """
        self._warn()
        things = len(self.labels)
        has_masks = len(self.points) > 0 or any(self.counts)
        keypoints = _tensor(self.keypoint_values, torch.float32).view(things, self.keypoints, 3)
        return Packed(
            classes=classes,
            root=str(self.root),
            paths=Strings.pack(self.paths),
            sizes=_tensor(self.sizes, torch.int64).view(-1, 2),
            image_ids=_ids(self._names()),
            spans=spans_between([*self.thing_at, things]),
            boxes=_tensor(self.boxes, torch.float32).view(-1, 4),
            labels=_tensor(self.labels, torch.int64),
            ignore=_tensor(self.ignore, torch.bool),
            area=_tensor(self.area, torch.float32),
            masks=self._masks() if has_masks else None,
            keypoints=keypoints if self.keypoints else None,
            extra={name: torch.tensor(column) for name, column in self.extra.items()},
            semantic=self._label_maps() if self.label_maps else None,
            panoptic=self._panoptic_maps() if self.panoptic_maps else None,
            captions=self._captions() if self.captions else None,
        )

    def _names(self) -> list[int | str]:
        """The pictures' ids."""
        paths = zip(self.image_ids, self.paths, strict=True)
        names = [Path(path).stem if number is None else number for number, path in paths]
        same = Counter(map(str, names))
        own = zip(self.image_ids, names, self.paths, strict=True)
        return [path if i is None and same[str(n)] > 1 else n for i, n, path in own]

    def _label_maps(self) -> PackedLabels:
        paths = Strings.pack(self.label_maps.get(i, "") for i in range(len(self.paths)))
        values = sorted(self.meaning)
        labels = [self.meaning[value] for value in values]
        return PackedLabels(paths, torch.tensor(values), torch.tensor(labels))

    def _panoptic_maps(self) -> PackedPanoptic:
        paths = Strings.pack(self.panoptic_maps.get(i, "") for i in range(len(self.paths)))
        rows, spans = in_one_row(self.segments, len(self.paths))
        fields = [(s.id, s.label, s.thing, s.ignore) for s in rows]
        return PackedPanoptic(paths, spans, torch.tensor(fields, dtype=torch.int64).view(-1, 4))

    def _captions(self) -> PackedCaptions:
        texts, spans = in_one_row(self.captions, len(self.paths))
        return PackedCaptions(Strings.pack(texts), spans)

    def _masks(self) -> PackedMasks:
        return PackedMasks(
            polygons=spans_between(self.polygon_at),
            outlines=spans_between(self.point_at),
            points=_tensor(self.points, torch.float64).view(-1, 2),
            counts=Strings.pack(self.counts),
        )

    def _warn(self) -> None:
        mended = {
            ("box", "boxes", "without area dropped"): self.dropped,
            ("box", "boxes", "reaching outside the picture clipped"): self.clipped,
            ("picture", "pictures", "listed again under another id"): self.again,
        }
        told = [
            f"{n} {one if n == 1 else many} {what}" for (one, many, what), n in mended.items() if n
        ]
        if told:
            warnings.warn(f"{self.source}: {', '.join(told)}", DataWarning, stacklevel=2)


def encloses(polygon: Sequence[float]) -> bool:
    """Whether a flat polygon has the three points that it takes."""
    return len(polygon) >= 6


MakePacker = Callable[[str | Path, str | Path, int], Packer]  # of a source, a root and a number


def _ids(ids: Sequence[int | str]) -> Tensor | Strings:
    """As integers where they all are; else all as strings."""
    if all(isinstance(number, int) and abs(number) < 1 << 63 for number in ids):
        return torch.tensor(ids, dtype=torch.int64)
    return Strings.pack(map(str, ids))


_TYPES = {"d": torch.float64, "q": torch.int64, "b": torch.int8}


def _tensor(values: Any, dtype: torch.dtype) -> Tensor:
    """A tensor of its own memory, from an array or a list."""
    if len(values) == 0:
        return torch.zeros(0, dtype=dtype)
    if isinstance(values, array):
        return torch.frombuffer(values, dtype=_TYPES[values.typecode]).to(dtype, copy=True)
    return torch.tensor(values, dtype=dtype)
