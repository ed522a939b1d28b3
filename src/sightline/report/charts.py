"""Charts as inline SVG; colours and fonts come from the style of the page."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sightline.metrics.calibration import Calibration
from sightline.report.markup import Markup, tag

_LEFT, _TOP, _SIDE = 40, 8, 180  # of the square that 0..1 x 0..1 is drawn in


def precision_recall(
    lines: dict[str, NDArray[np.float64]],
    recalls: NDArray[np.float64],
    point: tuple[float, float] | None,
) -> Markup:
    """Precision over recall, one line for each name (also its class in the style); the ``point`` is
    a recall and a precision."""
    drawn = [
        tag("polyline", points=_path(recalls, precisions), class_=f"line {name}")
        for name, precisions in lines.items()
    ]
    if point is not None:
        x, y = _place(*point)
        told = f"best F1: precision {point[1]:.2f} at recall {point[0]:.2f}"
        drawn.append(tag("circle", tag("title", told), cx=x, cy=y, r=5, class_="point"))
    return _square("recall", "precision", drawn)


def reliability(found: Calibration) -> Markup:
    """A bar for each bin of scores: how high its precision is; the diagonal is where it should be;
    under it how many answers are in the bin."""
    drawn: list[Markup] = []
    most = max(int(found.counts.max(initial=0)), 1)
    for bin_, count in enumerate(found.counts.tolist()):
        low, high = found.edges[bin_], found.edges[bin_ + 1]
        if not count:
            continue
        precision = float(found.precisions[bin_])
        told = f"{count} answers with scores {low:.1f} to {high:.1f}: {precision:.0%} right"
        left, top = _place(low, precision)
        right, bottom = _place(high, 0)
        drawn += [
            tag("rect", x=left + 1, y=top, width=round(right - left - 2, 1),
                height=round(bottom - top, 1), class_="bar"),
            tag("rect", tag("title", told), x=left + 1, y=_TOP, width=round(right - left - 2, 1),
                height=_SIDE, class_="hover"),
            tag("rect", x=left + 1, y=round(bottom + 62 - max(24 * count / most, 1), 1),
                width=round(right - left - 2, 1), height=round(max(24 * count / most, 1), 1),
                class_="count"),
            tag("text", f"{count}", x=round((left + right) / 2, 1), y=bottom + 71,
                class_="middle tiny"),
        ]  # fmt: skip
    (x1, y1), (x2, y2) = _place(0, 0), _place(1, 1)
    drawn.append(tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_="ideal"))
    return _square("score", "share that is right", drawn, below=44)


def _square(across: str, up: str, drawn: Sequence[Markup], below: int = 0) -> Markup:
    """Axes from 0 to 1 around what is drawn."""
    parts: list[Markup] = []
    for value in (0, 0.25, 0.5, 0.75, 1):
        x, y = _place(value, value)
        parts.append(tag("line", x1=_LEFT, x2=_LEFT + _SIDE, y1=y, y2=y, class_="grid"))
        parts.append(tag("line", x1=x, x2=x, y1=_TOP, y2=_TOP + _SIDE, class_="grid"))
        if value in (0, 0.5, 1):
            parts.append(tag("text", f"{value:g}", x=_LEFT - 5, y=y + 3.5, class_="end"))
            parts.append(tag("text", f"{value:g}", x=x, y=_TOP + _SIDE + 13, class_="middle"))
    middle = _LEFT + _SIDE / 2
    parts.append(tag("text", across, x=middle, y=_TOP + _SIDE + 26, class_="middle name"))
    turn = f"rotate(-90 10 {_TOP + _SIDE / 2:g})"
    parts.append(tag("text", up, x=10, y=_TOP + _SIDE / 2, class_="middle name", transform=turn))
    width, height = _LEFT + _SIDE + 10, _TOP + _SIDE + 32 + below
    return tag("svg", *parts, *drawn, viewBox=f"0 0 {width} {height}", role="img", class_="chart")


def _place(x: float, y: float) -> tuple[float, float]:
    return round(_LEFT + float(x) * _SIDE, 1), round(_TOP + (1 - float(y)) * _SIDE, 1)


def _path(xs: NDArray[np.float64], ys: NDArray[np.float64]) -> str:
    return " ".join("{:g},{:g}".format(*_place(x, y)) for x, y in zip(xs, ys, strict=True))
