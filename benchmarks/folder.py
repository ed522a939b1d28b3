"""A folder of pictures, predicted in flat memory and in little more than the time of the model:
``uv run python -m benchmarks.folder`` (2,000 pictures; ``--help`` for a small try).

Promised: at most 1.15 of the time that the model alone takes for the same pictures in batches that
were decoded and preprocessed before; and flat memory: over the last half of the folder it grows by
less than 8 MB. Chunks of the folder go through the model alone, through ``predict_stream``, and
through ``predict_stream`` with the drawing of ``sightline predict --out``, in turn, and the medians
of their times are compared. Then the whole folder is predicted in one go, without and with drawing,
and the memory of the process is read after each picture. Exits with 1 where a promise is broken.

Weights are random unless a checkpoint is named: the time is the same, and with scores from 0 every
picture has as many things as are asked for. The pictures are Toybox scenes of several sizes or
those of a folder, repeated.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from sightline import create
from sightline.cli.predict import drawn
from sightline.data.images import SUFFIXES, image_size, read_image
from sightline.data.toybox import Toybox
from sightline.predict import Found, answer_of, choosing, predict_stream
from sightline.runtime import open_model
from sightline.types import Images

TIME, GROWTH = 1.15, 8.0  # promised: times the model alone, MB
SIZES = ((480, 640), (640, 480), (426, 640), (427, 640), (500, 375), (360, 640))
SCENES = 24  # drawn, and then repeated


def scenes(folder: Path) -> list[Path]:
    """Toybox pictures as JPEGs of the sizes that photos have."""
    paths = []
    for index in range(SCENES):
        picture = Toybox(1, first=index, size=SIZES[index % len(SIZES)]).picture(0)
        paths.append(folder / f"{index}.jpg")
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(paths[-1], quality=90)
    return paths


def repeated(paths: list[Path], count: int, folder: Path) -> list[Path]:
    """So many names for the pictures, in turn."""
    folder.mkdir()
    links = [folder / f"{index:06}{paths[index % len(paths)].suffix}" for index in range(count)]
    for index, link in enumerate(links):
        link.symlink_to(paths[index % len(paths)].resolve())
    return links


def build(options: argparse.Namespace) -> Any:
    if options.model is not None:
        return open_model(options.model)
    torch.manual_seed(0)
    given = {name: getattr(options, name) for name in ("backbone", "short", "long", "proposals")}
    return open_model(create("faster_rcnn", classes=20, **given).eval())


class Looking(NamedTuple):
    model: Any
    batch: int
    things: int

    def alone(self, files: list[Path]) -> float:
        """Seconds in the model, its input at hand."""
        seconds = 0.0
        with choosing(self.model, score=0.0, top=self.things):
            for images in self.batches(files):
                began = time.perf_counter()
                answer_of(self.model, images)
                seconds += time.perf_counter() - began
        return seconds

    def batches(self, files: list[Path]) -> Iterator[Images]:
        """Full batches of one canvas as far as possible, as ``predict_stream`` forms them."""
        preprocess = self.model.preprocess
        groups: dict[tuple[int, int], list[Path]] = defaultdict(list)
        for file in files:
            groups[preprocess.canvas([preprocess.size(*image_size(file))])].append(file)
        for members in groups.values():
            for first in range(0, len(members), self.batch):
                part = members[first : first + self.batch]
                yield preprocess([read_image(file) for file in part])[0]

    def stream(self, files: list[Path], out: Path | None) -> Iterator[Found]:
        found = predict_stream(self.model, files, score=0.0, top=self.things, batch=self.batch)
        return found if out is None else drawn(found, out, self.model.card.classes, self.batch)

    def whole(self, files: list[Path], out: Path | None = None) -> float:
        """Seconds from the names of files to all that was found, and drawn if there is a folder."""
        began = time.perf_counter()
        assert sum(1 for _ in self.stream(files, out)) == len(files)
        return time.perf_counter() - began


def times(looking: Looking, files: list[Path], step: int, out: Path) -> bool:
    """Whether the promise is kept."""
    measured: dict[str, list[float]] = defaultdict(list)
    for first in range(0, len(files) - step + 1, step):
        chunk = files[first : first + step]
        measured["alone"].append(looking.alone(chunk))
        measured["stream"].append(looking.whole(chunk))
        measured["drawn"].append(looking.whole(chunk, out))
    medians = {name: statistics.median(seconds) for name, seconds in measured.items()}
    ratios = {name: median / medians["alone"] for name, median in medians.items()}
    print(f"time: {len(measured['alone'])} chunks of {step} pictures, in turn")
    for name, seconds in measured.items():
        print(
            f"{name:>8}: {1000 * medians[name] / step:8.1f} ms a picture "
            f"({1000 * min(seconds) / step:.1f} to {1000 * max(seconds) / step:.1f}), "
            f"{ratios[name]:.3f} of the model alone",
            flush=True,
        )
    return max(ratios.values()) <= TIME


def resident() -> float:
    """MB of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def grown(stream: Iterable[Any], count: int, name: str) -> float:
    """MB by which the last half of the pictures makes the process grow, by a line through it."""
    start = resident()
    held = np.array([resident() for _ in stream])
    assert len(held) == count
    half = held[count // 2 :]
    slope = np.polyfit(np.arange(len(half)), half, 1)[0]
    print(
        f"{name:>8}: {start:.0f} MB at the start, {held[count // 10]:.0f} after a tenth, "
        f"{held[-1]:.0f} at the end, at most {held.max():.0f}; last half "
        f"{1000 * slope:+.2f} MB for 1,000 pictures",
        flush=True,
    )
    return float(slope * len(half))


def memory(looking: Looking, files: list[Path], out: Path) -> bool:
    """Whether the promise is kept."""
    print(f"memory: {len(files)} pictures", flush=True)
    growth = [
        grown(looking.stream(files, folder), len(files), name)
        for name, folder in (("stream", None), ("drawn", out))
    ]
    return max(growth) < GROWTH


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--chunk", type=int, default=100, help="pictures timed at a time")
    parser.add_argument("--photos", type=Path, help="folder of pictures; left out, Toybox scenes")
    parser.add_argument("--model", help="checkpoint; left out, Faster R-CNN with random weights")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--short", type=int, default=800)
    parser.add_argument("--long", type=int, default=1333)
    parser.add_argument("--proposals", type=int, default=1000)
    parser.add_argument("--things", type=int, default=20, help="found in each picture")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--only", choices=("time", "memory"))
    options = parser.parse_args()
    looking = Looking(build(options), options.batch, options.things)
    kept = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = sorted(options.photos.iterdir()) if options.photos else scenes(folder)
        paths = [path for path in given if path.suffix.lower() in SUFFIXES]
        files, out = repeated(paths, options.images, folder / "photos"), folder / "drawn"
        print(f"{torch.get_num_threads()} threads for the model", flush=True)
        looking.whole(files[: 2 * options.batch], out)  # warm
        if options.only != "memory":
            kept.append(times(looking, files, options.chunk, out))
        if options.only != "time":
            kept.append(memory(looking, files, out))
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
