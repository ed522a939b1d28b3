"""The documentation holds: its Python runs, its links lead somewhere, its lines are right."""

import re
from pathlib import Path

import pytest

from sightline.data.toybox import toybox_splits
from sightline.data.toybox.folder import write_toybox
from sightline.weights.detectron2 import ZOO
from sightline.weights.releases import RELEASES

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LINK = re.compile(r"!?\[([^\]]*)\]\(([^)#\s]+)(?:#L(\d+))?\)")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for text, target, _ in LINK.findall(page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{text}: {target}"


def test_the_table_of_weights_is_whole() -> None:
    table = (ROOT / "docs/weights.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| .* \| \w+ ([\d.]+) \|", table, re.MULTILINE)
    published = [(name, release.model, release.published) for name, release in RELEASES.items()]
    models = {"faster": "faster_rcnn_detectron2", "retinanet": "retinanet"}
    for name, entry in ZOO.items():
        published.append((name, models[name.rpartition("/")[2].partition("_")[0]], entry.ap))
    told = [(name, model, float(figure)) for name, model, figure in rows]
    assert sorted(told) == sorted(published)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_line_numbers_are_right(page: Path) -> None:
    """The text of a link to a line is the beginning of that line."""
    for text, target, number in LINK.findall(page.read_text(encoding="utf-8")):
        if number:
            lines = [line.strip() for line in (page.parent / target).read_text().splitlines()]
            begins = text.strip("`")
            places = [n for n, line in enumerate(lines, 1) if line.startswith(begins)]
            assert int(number) in places, f"{begins} is in line {places} of {target}"


def python_blocks(page: Path) -> str:
    """All Python of a page, as one program whose line numbers are those of the page."""
    program, inside = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = line == "```python"
            program.append("")
        else:
            program.append(line if inside else "")
    return "\n".join(program)


@pytest.mark.parametrize("page", [p for p in PAGES if "```python" in p.read_text()], ids=named)
def test_the_python_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder with labelled photos, so to say."""
    write_toybox(toybox_splits(8, 4, size=(96, 96)), tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    exec(compile(python_blocks(page), str(page), "exec"), {})
