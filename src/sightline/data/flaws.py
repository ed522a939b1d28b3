"""What can be wrong with a labelled data set, and how to see it in one thing: pure functions.

An error spoils training or measuring, or stops the reading. A warning is mended while reading, or
is most likely a slip. A note may be meant.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.data.packed import REACHES_OUTSIDE

Severity = Literal["unusable", "error", "warning", "note"]
Box = tuple[float, float, float, float]
Finding = tuple[str, str]  # the kind, and what is wrong

_LOOSE = 3.0, 0.1  # pixels, and share of the box's longer side, that a mask or point may stand out
_BLOCK = 512  # segments of a polygon compared at a time with all others


class Kind(NamedTuple):
    severity: Severity
    told: str
    mended: str = ""  # what a mended copy does about it; empty: nothing


# The worst first.
KINDS = {
    "unusable": Kind("unusable", "data that cannot be read at all"),
    "broken-record": Kind("error", "records that cannot be read", "left out"),
    "missing-picture": Kind("error", "pictures that are not there", "left out"),
    "unreadable-picture": Kind("error", "pictures that cannot be decoded", "left out"),
    "unreadable-map": Kind("error", "label maps that cannot be read", "left out"),
    "truncated-picture": Kind("error", "pictures whose lower part is lost", "left out"),
    "turned-picture": Kind("error", "pictures annotated without their EXIF turn", "left out"),
    "resized-picture": Kind("error", "pictures resized after annotation", "left out"),
    "wrong-size": Kind("error", "annotated sizes that are wrong", "rewritten"),
    "same-in-two-splits": Kind("error", "pictures that are in another split too", "left out"),
    "duplicate-id": Kind("error", "pictures whose id is taken", "left out"),
    "unlisted-image": Kind("error", "annotations of pictures not listed", "left out"),
    "unknown-class": Kind("error", "annotations of classes not listed", "left out"),
    "same-in-one-split": Kind("warning", "pictures that are there twice", "left out"),
    "duplicate-annotation-id": Kind("warning", "annotations whose id is taken", "numbered anew"),
    "alike-classes": Kind("warning", "class names alike but for case or spaces", "made one"),
    "empty-box": Kind("warning", "boxes without area", "left out"),
    "outside-box": Kind("warning", "boxes outside their picture", "left out"),
    "reaching-box": Kind("warning", "boxes that reach outside their picture", "clipped"),
    "duplicate-box": Kind("warning", "boxes drawn twice", "left out"),
    "short-polygon": Kind("warning", "polygons of fewer than three points", "left out"),
    "crossing-polygon": Kind("warning", "polygons that cross themselves", "kept as pixels"),
    "reaching-mask": Kind("warning", "masks that reach outside their picture", "kept as pixels"),
    "mask-off-box": Kind("warning", "masks that stand out of their box", "box drawn anew"),
    "impossible-visibility": Kind("warning", "keypoints of impossible visibility", "unlabelled"),
    "outside-keypoint": Kind("warning", "keypoints outside their picture", "unlabelled"),
    "keypoint-off-box": Kind("warning", "keypoints outside their box", "box widened"),
    "two-classes": Kind("note", "boxes of two classes in one place"),
    "nearly-same": Kind("note", "pictures nearly the same as another"),
    "unlabelled-picture": Kind("note", "pictures without labels"),
    "sparse-labels": Kind("note", "pictures with far fewer labels than usual"),
    "unnamed-picture": Kind("note", "pictures that no annotation names"),
    "unused-class": Kind("note", "classes without a label"),
    "unbalanced-classes": Kind("note", "classes far rarer than the commonest"),
    "mixed-suffixes": Kind("note", "picture names that end in either case"),
    "not-read": Kind("note", "labels that are not read"),
}


class Flaw(NamedTuple):
    kind: str  # one of KINDS
    file: str  # where it is: a picture or an annotation file, relative to the data set
    record: str  # its name in that file; empty where the file is meant
    picture: str  # relative to the data set; empty where none is concerned
    message: str

    @property
    def severity(self) -> Severity:
        return KINDS[self.kind].severity

    @property
    def mended(self) -> str:
        """What a mended copy does about it; empty: nothing."""
        return KINDS[self.kind].mended

    def to_json(self) -> dict[str, Any]:
        return self._asdict() | {"severity": self.severity, "mended": self.mended}


def check_box(box: Sequence[float], size: tuple[int, int]) -> Iterator[Finding]:
    x1, y1, x2, y2 = box
    height, width = size
    told = f"box {_numbers(box)}"
    if x2 <= x1 or y2 <= y1:
        yield "empty-box", f"{told} has no area"
    elif x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        yield "outside-box", f"{told} is outside its picture of {width}x{height}"
    elif (beyond := _beyond(box, (0, 0, width, height))) > REACHES_OUTSIDE:
        yield "reaching-box", f"{told} reaches {beyond:.4g} px outside {width}x{height}"


def check_polygons(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> Iterator[Finding]:
    """Of flat polygons: x, y, x, y."""
    height, width = size
    for number, polygon in enumerate(polygons, 1):
        told = f"polygon {number}" if len(polygons) > 1 else "its polygon"
        points = np.array(polygon).reshape(-1, 2)
        if len(points) < 3:
            yield "short-polygon", f"{told} has {len(points)} point{'s' * (len(points) != 1)}"
            continue
        beyond = _beyond((*points.min(0), *points.max(0)), (0, 0, width, height))
        if beyond > REACHES_OUTSIDE:
            yield "reaching-mask", f"{told} reaches {beyond:.4g} px outside {width}x{height}"
        if crosses_itself(points):
            yield "crossing-polygon", f"{told} crosses itself"


def crosses_itself(points: NDArray[np.float64]) -> bool:
    """Whether two segments of a closed polygon [P, 2] cross; touching is no crossing.

    Segments i and j cross where the ends of each lie on different sides of the other.
    """
    along = np.roll(points, -1, axis=0) - points
    if len(points) <= _BLOCK:
        parted = _parted(points, along, points, along)
        return bool(np.any(parted & parted.T))
    for first in range(0, len(points), _BLOCK):
        rows = slice(first, first + _BLOCK)
        parted = _parted(points[rows], along[rows], points, along)
        parting = _parted(points, along, points[rows], along[rows])
        if np.any(parted & parting.T):
            return True
    return False


def _parted(
    starts: NDArray[np.float64],
    along: NDArray[np.float64],
    others: NDArray[np.float64],
    others_along: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """[I, J]: whether the line through segment i parts the ends of segment j."""
    right, down = along[:, :1], along[:, 1:]
    begin = right * (others[:, 1] - starts[:, 1:]) - down * (others[:, 0] - starts[:, :1])
    end = begin + right * others_along[:, 1] - down * others_along[:, 0]
    near = 1e-6  # square pixels: what rounding makes of a point on the line
    parted: NDArray[np.bool_] = ((begin > near) & (end < -near)) | ((begin < -near) & (end > near))
    return parted


def check_mask(mask_box: Box, box: Box) -> Iterator[Finding]:
    """``mask_box`` is drawn tightly round the mask; both are clipped to the picture."""
    beyond = _beyond(mask_box, box)
    if beyond > _slack(box):
        yield "mask-off-box", f"its mask stands {beyond:.4g} px out of box {_numbers(box)}"


def check_keypoints(
    keypoints: Sequence[Sequence[float]], size: tuple[int, int]
) -> Iterator[tuple[int, str, str]]:
    """Which keypoint, counted from 0, the kind, and what is wrong."""
    height, width = size
    for place, (x, y, visibility) in enumerate(keypoints):
        told, at = f"keypoint {place + 1}", f"{x:.4g}, {y:.4g}"
        if visibility not in (0, 1, 2):
            yield place, "impossible-visibility", f"{told} has visibility {visibility:g}"
        elif visibility == 0 and (x or y):
            yield place, "impossible-visibility", f"{told} is at {at} with visibility 0"
        elif visibility and not (x or y):
            yield (
                place,
                "impossible-visibility",
                f"{told} is at 0, 0 with visibility {visibility:g}",
            )
        elif visibility and _beyond((x, y, x, y), (0, 0, width, height)) > REACHES_OUTSIDE:
            yield place, "outside-keypoint", f"{told} is at {at} in a picture of {width}x{height}"


def check_keypoints_in(
    box: Box, keypoints: Sequence[Sequence[float]]
) -> Iterator[tuple[int, str, str]]:
    """Of the visible ones: a hidden one may lie beside what of its thing can be seen."""
    for place, (x, y, visibility) in enumerate(keypoints):
        beyond = _beyond((x, y, x, y), box) if visibility == 2 else 0.0
        if beyond > _slack(box):
            told = f"keypoint {place + 1} stands {beyond:.4g} px out of box {_numbers(box)}"
            yield place, "keypoint-off-box", told


def _slack(box: Sequence[float]) -> float:
    pixels, share = _LOOSE
    return max(pixels, share * max(box[2] - box[0], box[3] - box[1]))


def _beyond(inner: Sequence[float], outer: Sequence[float]) -> float:
    """How far the one box stands out of the other; negative where it does not."""
    return max(outer[0] - inner[0], outer[1] - inner[1], inner[2] - outer[2], inner[3] - outer[3])


def _numbers(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.5g}" for value in values) + "]"
