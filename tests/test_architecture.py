"""Imports only go down, read from the source; and every file says in its first line what it is for."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "prunelab"
FLOORS = [
    ["__main__", "__init__", "cli", "search", "compact", "export", "inspect"],
    ["sweeps"],
    ["experiment"],
    ["report"],
    ["tracking"],
    ["compaction"],
    ["exports"],
    ["costs"],
    ["stages", "training"],
    ["pruning"],
    ["config"],
    ["data", "models"],
    ["runtime"],
]
FLOOR = {room: number for number, rooms in enumerate(reversed(FLOORS)) for room in rooms}
FILES = sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    """The folder or file; a folder's own command line stands at the top, like the others."""
    return "__main__" if path.name == "__main__.py" else path.relative_to(ROOT).with_suffix("").parts[0]


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "prunelab":
            parts = node.module.split(".")[1:]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
    return {name for name in found if name in FLOOR} - {room(path)}


def test_every_file_has_a_floor():
    assert {room(path) for path in FILES} == set(FLOOR)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_go_down(path):
    up = {name for name in imported_rooms(path) if FLOOR[name] >= FLOOR[room(path)]}
    assert not up


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_models_know_nothing_of_pruning():
    for path in (ROOT / "models").glob("*.py"):
        assert "nn.utils" not in path.read_text()
        assert imported_rooms(path) <= {"config"}
