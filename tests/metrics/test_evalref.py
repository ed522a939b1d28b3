"""Every number of the evaluators' reference data, where it is at hand."""

from pathlib import Path

import pytest

from benchmarks.evalref import Row, main, rows


def test_every_reference_number(real_data: Path) -> None:
    missed = [row for row in rows(real_data / "evalref") if not row.equal]
    assert missed == []


@pytest.mark.parametrize(
    ("row", "equal"),
    [
        (Row("all of a double", 0.1, 0.1), True),
        (Row("the next double", 0.1, 0.10000000000000002), False),
        (Row("rounded", 12.35, 12.3456, "0.01"), True),
        (Row("cut off", 12.34, 12.3456, "0.01", "ROUND_DOWN"), True),
        (Row("a digit off", 12.34, 12.3456, "0.01"), False),
    ],
)
def test_equal_means_to_the_last_digit_given(row: Row, equal: bool) -> None:
    assert row.equal is equal


def test_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "FOLDER" in capsys.readouterr().err
