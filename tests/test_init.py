"""The public names: all there, found on first use, never hidden behind a module."""

import subprocess
import sys
from types import ModuleType

import pytest

import sightline


@pytest.mark.parametrize("name", sightline.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(sightline, name)
    assert callable(value)
    assert not isinstance(value, ModuleType)
    assert value.__name__ == name
    assert name in dir(sightline)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'polish'"):
        _ = sightline.polish


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return done.stdout.decode().strip()


def test_import_costs_nothing() -> None:
    heavy = {"torch", "numpy", "rich", "cyclopts"}
    assert run(f"import sys, sightline; print(*({heavy!r} & set(sys.modules)))") == ""


def test_a_module_does_not_hide_the_function_of_its_name() -> None:
    code = """
import sightline.evaluate, sightline.predict, sightline.train
from sightline.predict import predict_stream
print(*(type(f).__name__ for f in (sightline.evaluate, sightline.predict, sightline.train)))
"""
    assert run(code) == "function function function"
