"""The benchmark of public weights takes the command that the README gives."""

import sys

import pytest

from benchmarks import coco_ap
from sightline.errors import SightlineError


def test_the_folder_is_given_by_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["coco_ap", "/nowhere/at/all"])
    with pytest.raises(SightlineError, match="no such folder: /nowhere/at/all"):
        coco_ap.main()
