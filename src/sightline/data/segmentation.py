"""Boxes, masks and keypoints as COCO's records have them, and Detectron2's after them."""

from typing import Any

from sightline.data import runs
from sightline.data.packed import encloses
from sightline.data.records import numbers, whole_numbers
from sightline.errors import SightlineError


def read_segmentation(
    segmentation: Any, size: tuple[int, int], where: str
) -> tuple[list[list[float]], bytes]:
    """Flat polygons or an RLE's compressed counts.

    Raises:
        SightlineError: it is neither; the line begins with ``where``.
    """
    if not segmentation:
        return [], b""
    if isinstance(segmentation, dict):
        return [], _counts(segmentation, size, where)
    if not isinstance(segmentation, list):
        raise SightlineError(f"{where} has a segmentation that is neither polygons nor RLE")
    flat = segmentation if isinstance(segmentation[0], list) else [segmentation]
    polygons = [numbers(polygon, where, "segmentation") for polygon in flat]
    if any(len(polygon) % 2 for polygon in polygons):
        raise SightlineError(f"{where} has a polygon with an odd number of coordinates")
    return polygons, b""


def _counts(segmentation: dict[str, Any], size: tuple[int, int], where: str) -> bytes:
    """An RLE's counts, compressed or as a list, that must fill the picture."""
    told, counts = segmentation.get("size"), segmentation.get("counts")
    if told != list(size):
        raise SightlineError(f"{where} has an RLE of size {told} in a picture of {list(size)}")
    try:
        if isinstance(counts, str):
            lengths = runs.expand(counts.encode()).tolist()
        else:
            lengths = whole_numbers(counts, where, "counts")
    except ValueError as error:
        raise SightlineError(f"{where} has a broken RLE: {error}") from error
    if min(lengths, default=-1) < 0 or sum(lengths) != size[0] * size[1]:
        raise SightlineError(f"{where} has an RLE that does not fill its size {told}")
    return counts.encode() if isinstance(counts, str) else runs.compress(lengths)


def read_box(values: Any, where: str) -> list[float]:
    """The four numbers of a box, whatever they stand for.

    Raises:
        SightlineError: they are anything else; the line begins with ``where``.
    """
    found = numbers(values, where, "bbox")
    if len(found) != 4:
        raise SightlineError(f"{where} has a bbox of {len(found)} numbers instead of 4")
    return found


def box_around(
    polygons: list[list[float]], counts: bytes, size: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    """The tight box of a mask, xyxy; None where nothing is enclosed."""
    enclosing = [polygon for polygon in polygons if encloses(polygon)]
    if enclosing:
        xs = [x for polygon in enclosing for x in polygon[::2]]
        ys = [y for polygon in enclosing for y in polygon[1::2]]
        return min(xs), min(ys), max(xs), max(ys)
    return runs.box(runs.expand(counts), size[0]) if counts else None


def read_keypoints(values: Any, count: int, where: str) -> list[float]:
    """x, y and visibility of each; all zero (not labelled) where there are none.

    Raises:
        SightlineError: they are something else; the line begins with ``where``.
    """
    if not values or not count:
        return [0.0] * (3 * count)
    if not isinstance(values, list) or len(values) != 3 * count:
        raise SightlineError(f'{where} has a "keypoints" that is no list of {3 * count} numbers')
    return numbers(values, where, "keypoints")
