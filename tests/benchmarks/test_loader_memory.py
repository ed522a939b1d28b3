"""The measurement on few pictures: the promise is that of the benchmark."""

import pytest

from benchmarks import loader_memory


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # more workers than cores
def test_annotations_are_shared_and_nothing_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--images", "4000", "--epochs", "3", "--part", "1"]
    monkeypatch.setattr("sys.argv", ["loader_memory", *options])
    assert loader_memory.main() == 0
