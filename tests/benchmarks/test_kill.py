"""The benchmark with three kills: in a checkpoint being written, in a validation, and at random."""

from pathlib import Path

import pytest

from benchmarks import kill


@pytest.mark.slow
def test_a_killed_run_ends_as_an_undisturbed_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kill.compare(tmp_path, kills=3, seed=1) == []
    told = capsys.readouterr().out
    for moment in (kill.RANDOM, kill.WRITING, kill.VALIDATION):
        assert f"  {moment} " in told
