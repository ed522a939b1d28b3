"""A rented GPU machine often has nothing but torch and what belongs to it: training works there."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

BARE = ["torch", "torchvision", "timm", "numpy", "scipy", "pillow", "rich"]  # timm brings the rest

HIDE = """
import sys
from importlib.machinery import PathFinder

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in {hidden!r}
        return None if hidden else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [Bare if finder is PathFinder else finder for finder in sys.meta_path]
"""


def with_what_they_need(packages: list[str]) -> set[str]:
    """The distributions, and all that installing them brings along."""
    found: set[str] = set()
    waiting = list(packages)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        try:
            needs = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:  # for another system
            continue
        waiting += [r.name for r in needs if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def hidden_modules() -> set[str]:
    """The installed modules that a bare machine lacks."""
    there = with_what_they_need(BARE)
    return {
        module
        for module, owners in packages_distributions().items()
        if module != "sightline" and not there & {canonicalize_name(owner) for owner in owners}
    }


def run_bare(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    code = HIDE.format(hidden=hidden_modules()) + program
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, encoding="utf-8"
    )


def test_the_extras_are_really_hidden(tmp_path: Path) -> None:
    hidden = hidden_modules()
    assert {"torchcodec", "hotcoco", "pycocotools", "cyclopts", "jaxtyping", "beartype"} <= hidden
    assert not {"torch", "torchvision", "timm", "safetensors", "huggingface_hub"} & hidden
    assert not {"numpy", "scipy", "PIL", "rich", "sympy"} & hidden
    assert "No module named 'cyclopts'" in run_bare("import cyclopts", tmp_path).stderr


STEP = """
import torch
import sightline

model = sightline.create("faster_rcnn", classes=["cat", "dog"], backbone="resnet18", short=64)
pictures = [torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8)]
images, placements = model.preprocess(pictures)
things = sightline.Instances(torch.tensor([[8.0, 8, 40, 50]]), torch.tensor([1]))
scene = sightline.Scene((60, 80), things)
targets = [placements[0].scene(scene, tuple(images.pixels.shape[-2:]))]
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
sum(loss.mean() for loss in model(images, targets).values()).backward()
optimizer.step()
sightline.save(model, "cats.safetensors")
(scene,) = sightline.predict("cats.safetensors", pictures)
print("found", scene.size)
"""

RUN = """
import sys
from pathlib import Path
from sightline.data.toybox import toybox_splits
from sightline.data.toybox.folder import write_toybox
from sightline.recipes.__main__ import main

write_toybox(toybox_splits(8, 4, size=(96, 96)), Path("toys"))
sys.argv[1:] = "faster_rcnn_toybox --data toys --passes 1 --batch 4 --workers 0 --out run".split()
sys.exit(main())
"""


def test_a_bare_machine_trains_and_predicts(tmp_path: Path) -> None:
    """A step by hand; then a run from labelled pictures to weights. Average precision needs
    hotcoco, which one line says. (One process: torch takes seconds to import.)"""
    done = run_bare(STEP + RUN, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "found (60, 80)" in done.stdout
    assert (tmp_path / "run" / "model.safetensors").exists()
    told = done.stdout + done.stderr
    assert sum("hotcoco" in line for line in told.splitlines()) == 1, told


def test_the_command_line_says_what_it_lacks(tmp_path: Path) -> None:
    done = run_bare("import runpy\nrunpy.run_module('sightline', run_name='__main__')", tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "pip install cyclopts" in done.stderr
