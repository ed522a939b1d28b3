"""The parts of the page that show pictures."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from sightline.report.findings import Findings
from sightline.report.markup import Markup, join, tag
from sightline.report.pictures import beside, cut_out
from sightline.report.words import KIND_WORDS, mistakes
from sightline.shapes import UInt8

_EXAMPLES = 12  # cut-outs of the error to mend first
_WORST, _BEST = 6, 3  # pictures

Picture = Callable[[int], UInt8[Tensor, "3 H W"]]


def examples(findings: Findings, picture: Picture) -> Markup:
    """Cut-outs of the dearest kind of error: the surest answers, or the largest missed truths."""
    kind = next(iter(findings.costs()), None)
    rows = [] if kind is None else findings.every.rows(kind).tolist()
    if kind is None or not rows:
        return Markup()
    things = findings.every.things(kind)
    if kind == "missed":
        order = "the largest"
        sides = things.boxes[:, 2:] - things.boxes[:, :2]
        rows.sort(key=lambda row: -float(sides[row].prod()))
    else:
        order = "those with the highest scores"
        rows.sort(key=lambda row: -float(things.scores[row]))
    figures = []
    for row in rows[:_EXAMPLES]:
        number = int(things.images[row])
        score = "" if kind == "missed" else f" {things.scores[row]:.2f}"
        name = findings.classes.names[int(things.labels[row])]
        caption = tag("figcaption", tag("b", name + score), f" {_named(findings, number)}")
        figures.append(tag("figure", cut_out(findings, kind, row, picture(number)), caption))
    told = f"Examples: {KIND_WORDS[kind].several}"
    note = f"{len(figures)} of {len(rows):,}, {order}. Thin boxes are labelled things."
    return join(
        [
            tag("h3", told),
            tag("p", note, class_="note soft"),
            tag("div", *figures, class_="cuts"),
        ]
    )


def _named(findings: Findings, picture: int) -> str:
    return Path(findings.truths[picture].path).name or f"picture {picture}"


def pictures(findings: Findings, picture: Picture) -> Markup:
    """The worst and the best, each once."""
    order = findings.by_cost()
    costs = findings.picture_costs()
    worst = [row for row in order if costs[row] > 0][:_WORST]
    best = [row for row in order[::-1] if row not in worst][:_BEST]
    note = (
        "Answers above the suggested scores. Worst: the sum of the scores of its wrong answers, "
        "and 1 for each thing that is missed, is highest. Thick red: wrong; broken red: missed; "
        "dotted red: not found, but meant by an answer in the wrong place or of the wrong class; "
        "thin, in the colour of the class: right; point at a box to read more."
    )
    parts = [tag("h2", "The worst pictures, and the best"), tag("p", note, class_="note soft")]
    for title, rows in (("Worst", worst), ("Best", best)):
        if rows:
            parts.append(tag("h3", title))
            parts += [_pair(findings, row, picture) for row in rows]
    return join(parts)


def _pair(findings: Findings, row: int, picture: Picture) -> Markup:
    matching = findings.kept.matching
    asked = (matching.truths.images == row) & ~matching.truths.ignore
    right = matching.right() & (matching.answers.images == row)
    caption = tag(
        "figcaption",
        tag("b", _named(findings, row)),
        f" {right.sum()} of {asked.sum()} found. {mistakes(findings, row) or 'Nothing is wrong'}.",
    )
    return tag("figure", caption, beside(findings, row, picture(row)), class_="pair")
