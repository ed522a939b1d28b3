"""What ``create`` takes for classes, and which models it builds for them."""

from typing import Any

import pytest

from sightline.errors import SightlineError
from sightline.models import MODELS, as_classes, create
from sightline.types import Classes


def test_a_number_a_list_or_classes() -> None:
    assert as_classes(2).names == ("class 0", "class 1")
    assert as_classes(["cat", "dog"]).ids == (0, 1)
    stuff = Classes((), stuff=("sky",))
    assert as_classes(stuff) is stuff


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ("cat", "classes must be a list of names or their number, not 'cat'"),
        (0, "a model needs one class or more"),
        (-1, "a model needs one class or more"),
        ([], "a model needs one class or more"),
        (["cat", "dog", "cat"], "the class 'cat' is named twice"),
        (Classes(("cat", "cat")), "the class 'cat' is named twice"),
    ],
)
def test_what_are_no_classes(classes: Any, told: str) -> None:
    with pytest.raises(SightlineError, match=told):
        as_classes(classes)


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"fcn", "unet"}))
def test_a_detector_needs_a_class_of_things(name: str) -> None:
    told = rf"^{name} finds things, .* only label maps \(sky, road\): take fcn or unet$"
    with pytest.raises(SightlineError, match=told):
        create(name, Classes((), stuff=("sky", "road")))
