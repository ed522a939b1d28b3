"""What all tests share: how their processes run, and the real photos where there are any."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # two workers with two threads each slow one another down
    os.environ["OMP_NUM_THREADS"] = "1"

# The tests start many processes; without bytecode each would compile torch anew, for ten seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

import jaxtyping
import pytest
import torch
from hypothesis import settings

pytest.register_assert_rewrite("tests.contracts")

# Shared machines stall now and then, so an example may take as long as it likes; the same examples
# each time, so that a change fails for what it did and not by chance.
settings.register_profile("house", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("house")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of annotated photos that ``SIGHTLINE_DATA`` names; skips where it is not set."""
    folder = os.environ.get("SIGHTLINE_DATA")
    if not folder:
        pytest.skip("needs real photos: SIGHTLINE_DATA is not set")
    return Path(folder)


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """Without shape checks: torch.compile and torch.export cannot see through them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def python_s_own() -> Iterator[None]:
    """Ctrl-C as in a terminal: a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
