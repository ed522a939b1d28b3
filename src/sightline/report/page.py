"""The page: one HTML file with everything inside."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

import sightline
from sightline.files import check_target, replacing
from sightline.report.findings import Findings, find
from sightline.report.gallery import Picture, examples, pictures
from sightline.report.markup import Markup, join, tag
from sightline.report.sections import (
    calibrated,
    classes_table,
    confusions,
    curves,
    errors_by_kind,
    numbers,
)
from sightline.report.style import CSS
from sightline.report.words import first_words
from sightline.types import Classes, Scene


def report(
    path: str | Path,
    truths: Sequence[Scene],
    answers: Sequence[Scene],
    classes: Classes,
    picture: Picture,
    *,
    about: Mapping[str, str] | None = None,
    above: float = 0.0,
) -> None:
    """Write a page that says how good ``answers`` are, what is wrong with them and what to mend
    first; boxes are compared, by COCO's rules. It needs no other file and no network.

    Args:
        path: the HTML file to write.
        answers: one for each truth, of the same picture.
        picture: gives the pixels of picture i, such as ``dataset.picture``; called for those that
            are shown.
        about: what was measured, such as the model and the data, for the head of the page.
        above: things scored higher are among the answers.

    Raises:
        SightlineError: the file cannot be written, or hotcoco is not installed.
    """
    path = Path(path)
    check_target(path)
    page = _page(find(truths, answers, classes, above), picture, about or {})
    with replacing(path) as beside:
        beside.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")


def _page(findings: Findings, picture: Picture, about: Mapping[str, str]) -> str:
    sections = [
        tag("h1", "What the model finds, and what to mend first"),
        _about(findings, about),
        tag("div", *first_words(findings), class_="first"),
        numbers(findings),
        errors_by_kind(findings),
        examples(findings, picture),
        classes_table(findings),
        curves(findings),
        confusions(findings),
        calibrated(findings),
        pictures(findings, picture),
    ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", "What the model finds, and what to mend first"),
        tag("style", Markup(CSS)),
    )
    body = tag("body", tag("main", join(sections, "\n")))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _about(findings: Findings, about: Mapping[str, str]) -> Markup:
    things, ignored = int(findings.counts.sum()), int(findings.kept.matching.truths.ignore.sum())
    facts = dict(about) | {
        "pictures": f"{len(findings.truths):,}",
        "labelled things": f"{things:,}" + (f" and {ignored:,} ignored" if ignored else ""),
        "classes": f"{len(findings.classes)}",
        "measured": f"{datetime.date.today().isoformat()} with Sightline {sightline.__version__}",
    }
    told = [join([f"{name} ", tag("b", value)]) for name, value in facts.items()]
    return tag("p", join(told, " · "), class_="about soft")
