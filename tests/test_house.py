"""The rules of the house that a machine can check: who imports whom, and how long things are."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PROGRAMS = SOURCES + sorted((ROOT / "benchmarks").glob("*.py"))


def test_imports_go_one_way() -> None:
    """The contracts of pyproject.toml, section importlinter."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout


def test_distributed_alone_knows_torch_distributed() -> None:
    known = re.compile(r"^\s*(import|from) torch\.distributed|^\s*from torch import .*distributed")
    users = {path.name for path in SOURCES if any(map(known.match, path.read_text().splitlines()))}
    assert users <= {"distributed.py"}


def test_files_are_short() -> None:
    """500 lines, a model file 400."""
    for path in PROGRAMS:
        limit = 400 if path.parent.name == "models" else 500
        lines = len(path.read_text().splitlines())
        assert lines <= limit, f"{path.relative_to(ROOT)} has {lines} lines"


def length(node: ast.AST) -> int:
    return node.end_lineno - node.lineno + 1  # type: ignore[attr-defined]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and lines of each, docstring left out: that of a command is its help."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            described = ast.get_docstring(node, clean=False) is not None
            yield node.name, length(node) - (length(node.body[0]) if described else 0)


def test_functions_are_short() -> None:
    for path in PROGRAMS:
        for name, lines in functions(path):
            assert lines <= 70, f"{path.relative_to(ROOT)}: {name} has {lines} lines"


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX"])
def test_nothing_is_left_for_later(word: str) -> None:
    for path in PROGRAMS:
        assert word not in path.read_text(), path.relative_to(ROOT)


def tree_in_readme() -> dict[str, str]:
    """Path -> what the README's tree says of it; a folder ends in a slash."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"## The tree\n.*?```\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    found: dict[str, str] = {}
    folders: list[str] = []
    for line in block[1].splitlines():
        name, _, described = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 2
        folders = folders[:depth]
        path = "".join(folders) + name
        found[path] = described.strip()
        if name.endswith("/"):
            folders.append(name)
    return found


def real_tree() -> set[str]:
    """Every source file, and the top of tests, benchmarks and docs. A folder stands for its
    __init__.py."""
    found = set()
    for path in SOURCES + [p for f in ("tests", "benchmarks", "docs") for p in ROOT.glob(f"{f}/*")]:
        empty = path.is_dir() and not any(path.glob("*.*"))
        if empty or "__pycache__" in path.parts or path.name.startswith("."):
            continue
        where = path.relative_to(ROOT).as_posix()
        found.add(where.removesuffix("__init__.py") if not path.is_dir() else f"{where}/")
    folders = {"".join(f"{part}/" for part in Path(p).parts[:n]) for p in found for n in (1, 2, 3)}
    return found | {f for f in folders if (ROOT / f).is_dir()} - {"src/"}


def test_the_readme_shows_the_tree() -> None:
    told, real = set(tree_in_readme()), real_tree()
    assert told - real == set(), "in the README alone"
    assert real - told == set(), "not in the README"


def test_every_line_of_the_tree_says_something() -> None:
    for path, described in tree_in_readme().items():
        assert len(described) > 9 or path.count("/") == 1, path
