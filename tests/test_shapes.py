"""Signatures carry shapes; where jaxtyping is missing they are plain tensors."""

import subprocess
import sys

WITHOUT_JAXTYPING = """
import sys
sys.modules["jaxtyping"] = None  # its import now fails
from sightline.shapes import Bool, Float, Int, Shaped, UInt8
for kind in (Bool, Float, Int, Shaped, UInt8):
    assert kind[list, "N 4"] is list
assert (Float[list, "N"] | None) == (list | None)
"""


def test_shapes_are_harmless_without_jaxtyping() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_JAXTYPING], check=True)


def test_shapes_are_checked_in_the_tests() -> None:
    import pytest
    import torch

    from sightline.types import Placement

    with pytest.raises(Exception, match="boxes"):
        Placement((4, 4), (4, 4)).boxes(torch.zeros(2, 3))
