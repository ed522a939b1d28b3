"""What a measurement gives: named numbers, overall and per class."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Evaluation:
    """Named numbers, 0..1, the higher the better; NaN where there was nothing to measure (a class
    without a truth, no small things). ``evaluation["AP"]`` is an overall number."""

    kind: str  # which rules: "coco", "voc", "semantic" ...
    overall: dict[str, float]
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)  # by class name
    images: int = 0

    def __getitem__(self, name: str) -> float:
        if name not in self.overall:
            raise KeyError(f"{name}: not among {', '.join(self.overall)}")
        return self.overall[name]

    @property
    def columns(self) -> list[str]:
        """The names of all numbers: overall, and those that only a class has."""
        of_classes = (name for row in self.per_class.values() for name in row)
        return list(dict.fromkeys([*self.overall, *of_classes]))

    def to_json(self) -> dict[str, Any]:
        """JSON values; NaN, which JSON lacks, becomes None."""
        return {
            "kind": self.kind,
            "images": self.images,
            "overall": _without_nan(self.overall),
            "per_class": {name: _without_nan(row) for name, row in self.per_class.items()},
        }

    def table(self, names: Sequence[str] = ()) -> "RichTable":
        """For ``rich.print``: a row for all and one for each class, in percent; a column for each
        of the ``names``, or for every number."""
        from rich.table import Table as RichTable
        from rich.text import Text

        columns = names or self.columns
        table = RichTable("class", title=f"{self.kind}, {self.images} pictures, percent")
        for column in columns:
            table.add_column(column, justify="right")
        rows = [("all", self.overall), *self.per_class.items()]
        for index, (name, row) in enumerate(rows):
            cells = [_percent(row.get(column, math.nan)) for column in columns]
            table.add_row(Text(name), *cells, end_section=index == 0)
        return table


def mean(values: Iterable[float]) -> float:
    """Of those that are not NaN; NaN if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def _without_nan(row: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in row.items()}
