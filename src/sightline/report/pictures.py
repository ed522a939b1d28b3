"""Pictures with truth and answer over them: one JPEG, and boxes as SVG that say what they are when
pointed at. What is right is drawn thin in the colour of its class, what is wrong stands out."""

import base64
import io
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from sightline.draw import colour, to_pillow
from sightline.metrics.errors import KINDS, Kind
from sightline.report.findings import Findings
from sightline.report.markup import Markup, tag
from sightline.report.words import KIND_WORDS
from sightline.shapes import UInt8

_SIDE, _CUT = 640, 220  # the long side of a picture on the page, and of a cut-out, in pixels
_QUALITY = 80  # of JPEG
_AROUND = 0.75  # of a thing's longer side is shown on each side of it in a cut-out, and
_LEAST = 20.0  # so many pixels at least
_LETTERS = 34  # lines of text would fill a square picture

Region = tuple[float, float, float, float]  # x1, y1, x2, y2


class _Mark(NamedTuple):
    """A box and how it is drawn."""

    box: list[float]
    label: int
    style: str  # right, wrong, missed, meant or ignored
    name: str  # written beside what is not right
    told: str  # shown when pointed at


def beside(findings: Findings, row: int, picture: UInt8[Tensor, "3 H W"]) -> Markup:
    """Truth and answer of picture number ``row``."""
    image = to_pillow(picture)
    region = (0.0, 0.0, float(image.width), float(image.height))
    shown = f"picture-{row}"  # embedded once, used twice
    embedded, again = _embedded(image, region, _SIDE, shown), tag("use", href=f"#{shown}")
    return tag(
        "div",
        tag("div", tag("span", "truth"), _svg(region, embedded, _truths(findings, row))),
        tag("div", tag("span", "answer"), _svg(region, again, _answers(findings, row))),
        class_="beside",
    )


def cut_out(findings: Findings, kind: Kind, row: int, picture: UInt8[Tensor, "3 H W"]) -> Markup:
    """A wrong answer or a missed truth, given by its row, with what lies around it."""
    image = to_pillow(picture)
    things = findings.every.things(kind)
    box, label, name = things.boxes[row].tolist(), int(things.labels[row]), KIND_WORDS[kind].name
    own = _Mark(box, label, "missed" if kind == "missed" else "wrong", "", name)
    truths = _truths(findings, int(things.images[row]))
    if kind == "missed":
        truths = [mark for mark in truths if (mark.box, mark.label) != (box, label)]
    region = _around(box, image.size)
    thin = [mark if mark.style == "ignored" else mark._replace(style="right") for mark in truths]
    marks = [*thin, own]
    return _svg(region, _embedded(image, region, _CUT), marks)


def _truths(findings: Findings, picture: int) -> list[_Mark]:
    """Meant is what no answer found, though a wrong one was about it."""
    matching, missed = findings.kept.matching, findings.kept.errors.missed
    things, found = matching.truths, set(matching.found[0][matching.right()].tolist())
    marks = []
    for row in np.flatnonzero(things.images == picture).tolist():
        label = int(things.labels[row])
        name = findings.classes.names[label]
        style = "missed" if missed[row] else "right" if row in found else "meant"
        style = "ignored" if things.ignore[row] else style
        told = name if style == "right" else f"{name}: {style}"
        marks.append(_Mark(things.boxes[row].tolist(), label, style, name, told))
    return marks


def _answers(findings: Findings, picture: int) -> list[_Mark]:
    matching, errors = findings.kept.matching, findings.kept.errors
    marks = []
    for row in np.flatnonzero(matching.answers.images == picture).tolist():
        label, kind = int(matching.answers.labels[row]), int(errors.kinds[row])
        name = f"{findings.classes.names[label]} {matching.answers.scores[row]:.2f}"
        style = "wrong" if kind >= 0 else "right" if matching.counted[0, row] else "ignored"
        told = f"{name}: {KIND_WORDS[KINDS[kind]].name.lower()}" if kind >= 0 else name
        marks.append(_Mark(matching.answers.boxes[row].tolist(), label, style, name, told))
    return marks


def _around(box: list[float], size: tuple[int, int]) -> Region:
    """A square with the thing in its middle, moved and cut to lie within the picture."""
    x1, y1, x2, y2 = box
    longer = max(x2 - x1, y2 - y1)
    side = longer + 2 * max(_AROUND * longer, _LEAST)
    (left, right), (top, bottom) = (
        _span((low + high) / 2, side, float(limit))
        for low, high, limit in ((x1, x2, size[0]), (y1, y2, size[1]))
    )
    return left, top, right, bottom


def _span(middle: float, length: float, limit: float) -> tuple[float, float]:
    length = min(length, limit)
    low = min(max(middle - length / 2, 0.0), limit - length)
    return low, low + length


def _embedded(image: Image.Image, region: Region, side: int, name: str | None = None) -> Markup:
    """The part of a picture, small enough for the page, in its place."""
    left, top, right, bottom = region
    factor = side / max(right - left, bottom - top)
    size = max(1, round((right - left) * factor)), max(1, round((bottom - top) * factor))
    part = image.resize(size, Image.Resampling.BICUBIC, box=region)
    data = io.BytesIO()
    part.save(data, "JPEG", quality=_QUALITY)
    source = "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
    return tag(
        "image", href=source, id=name, x=_short(left), y=_short(top), width=_short(right - left),
        height=_short(bottom - top), preserveAspectRatio="none",
    )  # fmt: skip


def _svg(region: Region, picture: Markup, marks: list[_Mark]) -> Markup:
    """Right ones first, so that none hides what is wrong."""
    left, top, right, bottom = region
    ordered = sorted(marks, key=lambda mark: mark.style != "right")
    wrong = [mark for mark in ordered if mark.style in ("wrong", "missed", "meant")]
    view = " ".join(map(_short, (left, top, right - left, bottom - top)))
    return tag(
        "svg", picture, *map(_box, ordered), *_names(wrong, region), viewBox=view, role="img",
        class_="photo",
    )  # fmt: skip


def _box(mark: _Mark) -> Markup:
    x1, y1, x2, y2 = mark.box
    red, green, blue = colour(mark.label)
    own = f"stroke:rgb({red},{green},{blue})" if mark.style == "right" else None
    return tag(
        "rect", tag("title", mark.told), x=_short(x1), y=_short(y1), width=_short(max(x2 - x1, 0)),
        height=_short(max(y2 - y1, 0)), class_=f"box {mark.style}", style=own,
    )  # fmt: skip


def _names(marks: list[_Mark], region: Region) -> list[Markup]:
    """Above the box, else inside or beneath it; left out where it would hide another."""
    left, top, right, bottom = region
    letters = max(right - left, bottom - top) / _LETTERS
    taken: list[Region] = []
    drawn = []
    for mark in marks:
        width, (x1, y1, _, y2) = 0.62 * letters * len(mark.name), mark.box
        x = max(left, min(x1, right - width))
        for y in (y1 - letters / 4, y1 + letters, y2 + letters):
            place = (x, y - letters, x + width, y)
            if top <= place[1] and y <= bottom and not any(_touch(place, t) for t in taken):
                taken.append(place)
                at = {"x": _short(x), "y": _short(y), "font_size": _short(letters)}
                drawn.append(tag("text", mark.name, **at))
                break
    return drawn


def _touch(a: Region, b: Region) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
