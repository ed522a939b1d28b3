"""What a measurement gives."""

import io
import json
import math

import pytest
from rich.console import Console

from sightline.metrics.evaluation import Evaluation, mean

NUMBERS = Evaluation("coco", {"AP": 0.25, "APs": math.nan}, {"cat": {"AP": 0.5}}, images=3)


def test_overall_by_name() -> None:
    assert NUMBERS["AP"] == 0.25
    with pytest.raises(KeyError, match="AP75: not among AP, APs"):
        NUMBERS["AP75"]


def test_json_has_no_nan() -> None:
    text = json.dumps(NUMBERS.to_json(), allow_nan=False)
    assert json.loads(text) == {
        "kind": "coco",
        "images": 3,
        "overall": {"AP": 0.25, "APs": None},
        "per_class": {"cat": {"AP": 0.5}},
    }


def test_table_in_percent() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(NUMBERS.table())
    rows = [line.split() for line in console.export_text().splitlines()]
    assert ["│", "all", "│", "25.0", "│", "-", "│"] in rows
    assert ["│", "cat", "│", "50.0", "│", "-", "│"] in rows


def test_table_of_some_numbers() -> None:
    assert [column.header for column in NUMBERS.table(["APs"]).columns] == ["class", "APs"]


def test_mean_of_what_is_known() -> None:
    assert mean([1.0, math.nan, 3.0]) == 2
    assert math.isnan(mean([]))


def test_a_class_may_be_named_like_markup() -> None:
    console = Console(file=io.StringIO(), width=100)
    rows = {"[/x]": {"AP": 0.5}, "[red]": {"AP": 0.5}}
    console.print(Evaluation("coco", {"AP": 0.5}, rows).table())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[/x]" in shown
    assert "[red]" in shown
