"""``sightline doctor``: what is wrong with labelled photos, and a mended copy of them."""

import json as json_format
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from sightline.errors import SightlineError

if TYPE_CHECKING:
    from rich.table import Table

    from sightline.data.doctor import Examination
    from sightline.data.flaws import Flaw
    from sightline.data.summary import Summary

_CLASSES = 12  # in the table; JSON has them all
_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def doctor(
    data: Path,
    /,
    *,
    fix: Path | None = None,
    examples: int = 3,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Find what is wrong with labelled photos; write a mended copy.

    Exit code 0: nothing worse than notes; 1: errors or warnings; 2: they cannot be read at all.

    Parameters
    ----------
    data
        A folder of labelled photos in any known layout, or one annotation file.
    fix
        A new or empty folder for a mended copy in COCO's format, and changes.json, which says what
        was changed; the original is not touched.
    examples
        How many flaws of each kind are shown.
    json
        Print all as one JSON document on stdout, and nothing else.
    """
    from sightline.data.doctor import doctor as examine

    if examples < 0:
        raise SightlineError(f"examples must be at least 0, not {examples}")
    found = examine(data, fix)
    if json:
        print(json_format.dumps(found.to_json(), indent=1))
    if found.worst() == "unusable":
        raise SightlineError(found.flaws[0].message)
    if not json:
        _show(found, examples, fix)
    return int(found.worst() in ("error", "warning"))


def _show(found: "Examination", examples: int, fix: Path | None) -> None:
    from sightline.console import Console

    console = Console(highlight=False)
    print(f"{found.path}: {found.layout}")
    if found.splits:
        console.print(_splits(found.splits))
        first = next(iter(found.splits.values()))
        if first.classes:
            console.print(_sides(found.splits))
            console.print(_classes("class", {s: v.classes for s, v in found.splits.items()}))
        if first.pixels:
            console.print(_classes("pixels", {s: v.pixels for s, v in found.splits.items()}))
    if found.flaws:
        console.print(_flaws(found, examples, fix is not None))
    print(_verdict(found.flaws))
    if fix is not None:
        changed = sum(bool(flaw.mended) for flaw in found.flaws)
        print(f"written: {fix}, with {changed} changes, listed in {fix / 'changes.json'}")


def _table(first: str, others: Iterable[str]) -> "Table":
    """Names to the left, numbers to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for other in others:
        table.add_column(other, justify="right")
    return table


def _splits(splits: dict[str, "Summary"]) -> "Table":
    areas = next(iter(splits.values())).areas
    table = _table("split", ["pictures", "unlabelled", "things", "ignored", *areas])
    for split, summary in splits.items():
        row = [summary.pictures, summary.unlabelled, summary.things, summary.ignored]
        table.add_row(split, *map(str, [*row, *summary.areas.values()]))
    return table


def _sides(splits: dict[str, "Summary"]) -> "Table":
    table = _table("box side, of the picture's", next(iter(splits.values())).shares)
    for split, summary in splits.items():
        table.add_row(split, *_with_shares(list(summary.shares.values()), summary.things))
    return table


def _classes(head: str, numbers: dict[str, dict[str, int]]) -> "Table":
    """By split: the most frequent, one by one, and the others together."""
    names = list(next(iter(numbers.values())))
    names.sort(key=lambda name: -sum(of_split[name] for of_split in numbers.values()))
    table = _table(head, numbers)
    groups = {name: [name] for name in names[:_CLASSES]}
    if rest := names[_CLASSES:]:
        groups[f"{len(rest)} others"] = rest
    for told, group in groups.items():
        row = [
            _with_shares([sum(of_split[name] for name in group)], sum(of_split.values()))[0]
            for of_split in numbers.values()
        ]
        table.add_row(told, *row)
    return table


def _with_shares(numbers: Sequence[int], whole: int) -> list[str]:
    return [f"{number} {f'({number / max(whole, 1):.0%})':>6}" for number in numbers]


def _flaws(found: "Examination", examples: int, mending: bool) -> "Table":
    """A row for each kind: how many, and the first of them."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from sightline.data.flaws import KINDS

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("severity")
    table.add_column("number", justify="right")
    table.add_column("flaw", overflow="fold")
    for kind, number in found.counts().items():
        severity, told, mended = KINDS[kind]
        lines = Text(told, style="bold")
        if mending and mended:
            lines.append(f": {mended}", style="green")
        of_kind = [flaw for flaw in found.flaws if flaw.kind == kind]
        for flaw in of_kind[:examples]:
            lines.append(f"\n{_line(flaw)}", style="not bold")
        if 0 < examples < number:
            lines.append(f"\nand {number - examples} more", style="not bold")
        table.add_row(Text(severity, style=_STYLES[severity]), str(number), lines)
    return table


def _line(flaw: "Flaw") -> str:
    told = Path(flaw.file).stem == Path(flaw.picture).stem  # a.xml is of a.jpg
    beside = f"({flaw.picture})" if flaw.picture and not told else ""
    where = " ".join(filter(None, (flaw.file, flaw.record, beside)))
    return f"{where}: {flaw.message}" if where else flaw.message


def _verdict(flaws: Sequence["Flaw"]) -> str:
    """How many of each severity."""
    severities: list[str] = [flaw.severity for flaw in flaws]
    counts = {name: severities.count(name) for name in _STYLES}
    told = [f"{n} {name}{'s' * (n != 1)}" for name, n in counts.items() if n]
    return ", ".join(told) or "no flaw found"
