"""What is to be mended first, in plain words."""

from typing import NamedTuple

import numpy as np

from sightline.metrics.errors import KINDS, Kind
from sightline.report.findings import Findings, Judged
from sightline.report.markup import Markup, join, tag

_LITTLE = 0.001  # AP50 that is not worth a word
_LOOSE = 0.15  # of AP50 lost at IoU 0.75: boxes fit too loosely
_SMALL = 32.0**2  # square pixels, COCO's small
_ON_NOTHING_RIGHT = (
    "To mend a single kind of error would not help. Is it the right model for these pictures and "
    "classes, and trained long enough?"
)


class Told(NamedTuple):
    """How a kind of error is called, what it is, and what usually helps."""

    name: str
    means: str
    several: str
    briefly: str  # after the name of a class
    advice: str


KIND_WORDS: dict[Kind, Told] = {
    "class": Told(
        "Wrong class",
        "the box is right, the name is not",
        "things given the wrong name",
        "given the wrong name",
        "See below which class is taken for which. Are the two labelled by the same rule "
        "everywhere? If so, more pictures of the rarer one help most.",
    ),
    "place": Told(
        "Wrong place",
        "the name is right, the box is too far off (IoU 0.1 to 0.5)",
        "boxes that are too far off",
        "too far off",
        "Look at the examples. Are the labelled boxes tight, and drawn by the same rule, also "
        "where things touch or are cut off? If so, larger pictures and longer training help most.",
    ),
    "both": Told(
        "Both wrong",
        "near something of another class, and too far off",
        "answers near something of another class",
        "near something else",
        "Look at the examples: these are mostly parts of things, or things that touch. Longer "
        "training on more pictures of them helps most.",
    ),
    "duplicate": Told(
        "Duplicate",
        "a second answer to a thing that is already found",
        "second answers to a thing already found",
        "found twice",
        "Suppress overlapping answers more strictly: a lower IoU in the model's suppression.",
    ),
    "background": Told(
        "Background",
        "an answer where nothing is labelled",
        "answers where nothing is labelled",
        "where nothing is labelled",
        "Look at the examples. If the thing is there, its label is missing: label it, or mark the "
        "region as ignored. If it is not, add pictures that look like these.",
    ),
    "missed": Told(
        "Missed",
        "labelled, and no answer on it",
        "labelled things that get no answer",
        "missed",
        "Look at the examples. Is the label right? If so: things that are small in the picture "
        "need larger pictures, rare ones more examples, all of them longer training.",
    ),
}


def first_words(findings: Findings) -> list[Markup]:
    """Paragraphs: what to mend first, what next, and whether boxes are tight."""
    costs = findings.costs()
    if not costs:
        return [tag("p", "Nothing is labelled in these pictures, so nothing can be measured.")]
    if not len(findings.every.errors.kinds):
        return [_strong("The model answers nothing at all. ", _on_no_answer(findings))]
    first, *others = costs
    if costs[first] < _LITTLE and findings.numbers["AP50"] < 0.5:
        return [_strong("Almost nothing is right yet. ", _ON_NOTHING_RIGHT)]
    if costs[first] < _LITTLE:
        paragraphs = [_strong("No kind of error costs a tenth of a point of AP50. ", "")]
    else:
        paragraphs = [_first(findings, first), tag("p", KIND_WORDS[first].advice)]
    further = [kind for kind in others if costs[kind] >= max(_LITTLE, costs[first] / 4)]
    if further:
        told = join([_short(findings, kind) for kind in further], "; ")
        paragraphs.append(tag("p", "After that: ", told, "."))
    return paragraphs + _loose(findings)


def _strong(told: str, more: str) -> Markup:
    return tag("p", tag("strong", told), more)


def _on_no_answer(findings: Findings) -> str:
    return (
        f"All {int(findings.counts.sum())} labelled things are missed. Is it the right model for "
        "these classes, trained long enough, and the least score it answers with not too high?"
    )


def _first(findings: Findings, kind: Kind) -> Markup:
    before = findings.numbers["AP50"]
    after = before + findings.costs()[kind]
    return tag(
        "p",
        tag("strong", f"Mend first: {KIND_WORDS[kind].several}. "),
        f"They cost {points(findings.costs()[kind])} points of AP50: it is {points(before)} and "
        f"would be {points(after)} without them. ",
        _where(findings, kind),
        _seen(findings, kind),
    )


def _where(findings: Findings, kind: Kind) -> Markup:
    """The class that suffers most; nothing to say if there is one alone."""
    if (findings.counts > 0).sum() < 2:
        return Markup()
    label = findings.dearest_class(kind)
    before = float(findings.every.errors.ap[label])
    after = before + float(findings.every.errors.costs[KINDS.index(kind), label])
    name = tag("b", findings.classes.names[label])
    return join(
        [
            "The class that loses most is ",
            name,
            f": it would go from {points(before)} to {points(after)}. ",
        ]
    )


def _seen(findings: Findings, kind: Kind) -> str:
    """How many a user would see, of which classes, and how small they are."""
    every, kept = len(findings.every.rows(kind)), len(findings.kept.rows(kind))
    if kind == "missed":
        told = f"{every:,} get none at any score{_spread(findings, findings.every, kind)}"
        further = f"; {kept - every:,} more get one that scores lower than suggested below"
        return told + (further if kept > every else "") + "."
    if not kept:
        return (
            f"All {every:,} score lower than suggested below: who keeps to that sees none of them, "
            "AP does."
        )
    answers = len(findings.kept.matching.answers.labels)
    told = f"Of the {answers:,} answers above the suggested scores {kept:,} are such"
    return f"{told}{_spread(findings, findings.kept, kind)}."


def _spread(findings: Findings, judged: Judged, kind: Kind) -> str:
    """Over classes, pictures and sizes."""
    things = judged.things(kind).take(judged.rows(kind))
    numbers = np.bincount(things.labels, minlength=len(findings.classes))
    most = [label for label in np.argsort(-numbers, kind="stable")[:3] if numbers[label]]
    told = ", ".join(f"{numbers[label]:,} {findings.classes.names[label]}" for label in most)
    others = " and others" if np.count_nonzero(numbers) > len(most) else ""
    pictures = f"in {len(np.unique(things.images))} of {len(findings.truths)} pictures"
    small = int(((things.boxes[:, 2:] - things.boxes[:, :2]).prod(axis=1) < _SMALL).sum())
    return f" ({told}{others}), {pictures}" + (
        f"; {small:,} are smaller than 32 × 32 pixels" if small else ""
    )


def _short(findings: Findings, kind: Kind) -> Markup:
    label = findings.dearest_class(kind)
    within = [", most in ", tag("b", findings.classes.names[label])]
    several = (findings.counts > 0).sum() > 1
    return join(
        [
            f"{KIND_WORDS[kind].several} ({points(findings.costs()[kind])} points",
            *(within if several else []),
            ")",
        ]
    )


def _loose(findings: Findings) -> list[Markup]:
    """Costs are those at IoU 0.5; AP also asks for tight boxes."""
    half, three_quarters = findings.numbers["AP50"], findings.numbers["AP75"]
    if not half - three_quarters >= _LOOSE:
        return []
    return [
        tag(
            "p",
            tag("b", "Boxes could be tighter: "),
            f"of AP50 {points(half)}, {points(three_quarters)} are left when a box must overlap "
            "its truth by 0.75 instead of 0.5. If you need tight boxes, train longer, and check "
            "that the labels are tight themselves.",
        )
    ]


def mistakes(findings: Findings, picture: int) -> str:
    """What went wrong in a picture, most often first."""
    told = [
        f"{count} × {truth} taken for {name}"
        if kind == "class"
        else f"{count} × {name} {KIND_WORDS[kind].briefly}"
        for (kind, name, truth), count in findings.mistakes(picture).most_common()
    ]
    return "; ".join(told)


def points(value: float) -> str:
    """Of 0..1, in percent with one digit."""
    return "–" if np.isnan(value) else f"{100 * value:.1f}"
