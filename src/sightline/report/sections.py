"""The parts of the page, from the numbers down to single pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sightline.draw import colour
from sightline.metrics.curves import COCO_RECALLS, sampled
from sightline.metrics.errors import Kind
from sightline.report.charts import precision_recall, reliability
from sightline.report.findings import Findings
from sightline.report.markup import Markup, join, tag
from sightline.report.words import KIND_WORDS, points

_PANELS = 12  # charts, or classes of a table, shown at once; more are folded away
_PAIRS = 6  # of classes that are named
_LINES = {"half": "IoU 0.5", "tight": "IoU 0.75", "mean": "mean of IoU 0.5 to 0.95"}
_NAMES = {
    "AP": "IoU 0.5 to 0.95",
    "AP50": "IoU 0.5",
    "AP75": "IoU 0.75",
    "APs": "small things",
    "APm": "medium things",
    "APl": "large things",
    "AR1": "1 answer",
    "AR10": "10 answers",
    "AR100": "100 answers",
    "ARs": "small things",
    "ARm": "medium things",
    "ARl": "large things",
}


def numbers(findings: Findings) -> Markup:
    tiles = [
        tag("div", tag("i", name), tag("b", points(value)), tag("span", _NAMES[name]))
        for name, value in findings.numbers.overall.items()
    ]
    note = (
        "COCO's twelve numbers for boxes, in percent: average precision (AP) and average recall "
        "(AR, by how many answers a picture and class may have). Small is below 32 × 32 pixels, "
        "large from 96 × 96."
    )
    return join([tag("div", *tiles, class_="numbers"), tag("p", note, class_="note soft")])


def errors_by_kind(findings: Findings) -> Markup:
    costs = findings.costs()
    most = max([*costs.values(), 1e-9])
    rows = [_kind_row(findings, kind, cost, most) for kind, cost in costs.items()]
    totals = [
        ("All wrong answers", findings.every.errors.false_positives, "none is given"),
        ("All not found", findings.every.errors.false_negatives, "only what is found is asked for"),
    ]
    rows += [
        tag(
            "tr",
            tag("td", name, tag("small", f"gain if {means}")),
            tag("td", points(findings.total(cost)), class_="cost"),
            tag("td", class_="rest"),
            tag("td", class_="rest"),
            tag("td"),
        )
        for name, cost, means in totals
    ]
    head = tag(
        "tr",
        tag("th", "kind of error"),
        tag("th", "costs in points of AP50", class_="cost"),
        tag("th", "most in", class_="rest"),
        tag("th", "at any score", class_="rest"),
        tag("th", "at suggested scores"),
    )
    note = (
        "A cost is what AP50 would gain if no error of this kind were made and all else stayed; "
        "costs do not add up. They are of all answers, at any score; the suggested scores stand "
        "below. The kinds are those of TIDE (Bolya et al. 2020)."
    )
    return join(
        [
            tag("h2", "Errors by kind"),
            tag("p", note, class_="note soft"),
            tag("div", tag("table", tag("thead", head), tag("tbody", *rows), class_="kinds"),
                class_="wide"),
        ]
    )  # fmt: skip


def _kind_row(findings: Findings, kind: Kind, cost: float, most: float) -> Markup:
    words = KIND_WORDS[kind]
    where = findings.classes.names[findings.dearest_class(kind)] if cost > 0 else ""
    return tag(
        "tr",
        tag("td", words.name, tag("small", words.means)),
        tag(
            "td",
            tag("span", class_="meter", style=f"width:{62 * max(cost, 0) / most:.1f}%"),
            points(cost),
            class_="cost",
        ),
        tag("td", where, class_="rest"),
        tag("td", f"{len(findings.every.rows(kind)):,}", class_="rest"),
        tag("td", f"{len(findings.kept.rows(kind)):,}"),
    )


def classes_table(findings: Findings) -> Markup:
    titles = ["class", "labelled", "AP", "AP50", "recall (100)", "suggested score"]
    titles += ["precision", "recall", "F1"]
    rows = [_class_row(findings, label) for label in _by_ap(findings)]
    note = (
        "Worst first. The suggested score of a class is the one with the best F1 (the harmonic "
        "mean of precision and recall) at IoU 0.5: keep the answers scored higher. The last three "
        "columns are what it gives. A file of them: sightline evaluate --choose-scores."
    )
    table = tag(
        "table", tag("thead", tag("tr", *(tag("th", title) for title in titles))),
        tag("tbody", *rows),
    )  # fmt: skip
    parts = [tag("h2", "Classes"), tag("p", note, class_="note soft")]
    return join([*parts, tag("div", table, class_="wide")])


def _class_row(findings: Findings, label: int) -> Markup:
    name = findings.classes.names[label]
    values = findings.numbers.per_class[name]
    choice = findings.scores.get(name)
    cells = [f"{findings.counts[label]:,}", *(points(values[n]) for n in ("AP", "AP50", "AR100"))]
    cells += (
        ["–"] * 4
        if choice is None
        else [f"{choice.score:.2f}", *map(points, (choice.precision, choice.recall, choice.f1))]
    )
    return tag("tr", tag("td", _swatch(label), name), *(tag("td", cell) for cell in cells))


def _swatch(label: int) -> Markup:
    red, green, blue = colour(label)
    return tag("span", class_="swatch", style=f"background:rgb({red},{green},{blue})")


def _by_ap(findings: Findings) -> list[int]:
    """Labels, the least AP50 first, those without a truth last."""
    return np.argsort(findings.every.errors.ap, kind="stable").tolist()


def curves(findings: Findings) -> Markup:
    measured = [label for label in _by_ap(findings) if findings.counts[label]]
    lines = {label: _lines(findings, label) for label in measured}
    panels = []
    if len(measured) > 1:
        mean: dict[str, Any] = {
            name: np.mean([lines[label][name] for label in measured], axis=0) for name in _LINES
        }
        panels.append(_panel("all classes", findings.numbers.overall, mean, None))
    for label in measured:
        name = findings.classes.names[label]
        choice = findings.scores.get(name)
        point = None if choice is None else (choice.recall, choice.precision)
        panels.append(_panel(name, findings.numbers.per_class[name], lines[label], point))
    keys = [tag("span", tag("span", class_=f"key {n}"), told) for n, told in _LINES.items()]
    note = (
        "Further right: more is found. Higher: more of the answers are right. The circle is the "
        "suggested score. A line that ends early means: the rest is never found, at any score."
    )
    return join(
        [
            tag("h2", "Precision and recall"),
            tag("p", note, class_="note soft"),
            tag("p", *keys, class_="note"),
            *_folded(panels, "charts"),
        ]
    )


def _lines(findings: Findings, label: int) -> dict[str, Any]:
    """Precision at 101 recalls; at IoU 0.5, at 0.75, and the mean over all ten."""
    all_ten = np.stack([sampled(row[label], COCO_RECALLS) for row in findings.curves])
    return {"half": all_ten[0], "tight": all_ten[5], "mean": all_ten.mean(axis=0)}


def _panel(
    name: str, values: dict[str, float], lines: dict[str, Any], point: tuple[float, float] | None
) -> Markup:
    told = "".join(f" {number} {points(values[number])}" for number in ("AP50", "AP75", "AP"))
    caption = tag("figcaption", tag("b", name), told)
    return tag("figure", precision_recall(lines, COCO_RECALLS, point), caption)


def _folded(panels: Sequence[Markup], style: str) -> list[Markup]:
    """Some of them at once, the rest behind a line to click."""
    parts = [tag("div", *panels[:_PANELS], class_=style)]
    if rest := panels[_PANELS:]:
        told = tag("summary", f"{len(rest)} more")
        parts.append(tag("details", told, tag("div", *rest, class_=style)))
    return parts


def confusions(findings: Findings) -> Markup:
    """Rows are truths, columns answers; of many classes folded away behind the worst pairs."""
    names = findings.classes.names
    rows = [
        tag("tr", tag("th", _row_name(findings, index)), *_cells(row, index))
        for index, row in enumerate(findings.confusion.tolist())
    ]
    head = tag("tr", *(tag("th", name) for name in ("labelled as", *names, "not found")))
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="cells")
    shown = tag("div", table, class_="wide")
    if len(names) > _PANELS:
        shown = tag("details", tag("summary", f"all {len(names)} classes"), shown)
    note = (
        "Each labelled thing is in one cell of its row: what the model called it, by answers above "
        "the suggested scores at IoU 0.5. The last row has the answers that are left over: on "
        "nothing, too far off, or second ones."
    )
    parts = [tag("h2", "What is taken for what"), tag("p", note, class_="note soft")]
    return join([*parts, tag("p", _worst_pairs(findings)), shown])


def _row_name(findings: Findings, label: int) -> str:
    return [*findings.classes.names, "nothing"][label]


def _cells(row: list[int], own: int) -> list[Markup]:
    """Tinted by their share of the row. Nothing answered with nothing is no number."""
    total, last = max(sum(row), 1), len(row) - 1
    cells = []
    for column, count in enumerate(row):
        style = "none" if not count else "good" if column == own else "bad"
        told = "" if own == column == last else f"{count:,}"
        share = f"--share:{10 + 60 * count / total:.0f}%" if count else None
        cells.append(tag("td", told, class_=style, style=share))
    return cells


def _worst_pairs(findings: Findings) -> str:
    between = findings.confusion[:-1, :-1].copy()
    np.fill_diagonal(between, 0)
    worst = [divmod(int(cell), len(between)) for cell in np.argsort(-between, axis=None)[:_PAIRS]]
    names = findings.classes.names
    told = [
        f"{between[row, column]} × {names[row]} taken for {names[column]}"
        for row, column in worst
        if between[row, column]
    ]
    if not told:
        return "No thing is taken for one of another class."
    return f"Most often: {'; '.join(told)}."


def calibrated(findings: Findings) -> Markup:
    found = findings.calibration
    parts = [tag("h2", "Do scores mean what they say?")]
    if not found.counts.sum():
        return join([*parts, tag("p", "There are no answers.")])
    off = float(np.nansum(found.counts * (found.scores - found.precisions)) / found.counts.sum())
    lean = "too sure of itself" if off > 0 else "not sure enough of itself"
    told = (
        f"On average a score is {points(found.error)} points away from the share of answers that "
        "are right (the expected calibration error)"
    )
    told += f"; mostly the model is {lean}." if abs(off) > 0.5 * found.error else "."
    note = (
        "Where scores mean what they say, bars end at the broken line: of the answers with score "
        "0.7, 70 % are right. Bars below it: too sure. The grey bars count the answers."
    )
    return join(
        [
            *parts,
            tag("p", told),
            tag("p", note, class_="note soft"),
            tag("figure", reliability(found), class_="reliability"),
        ]
    )
