"""Imports only go down; files and functions stay short; every file says in its first line what it is for."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "prunelab"
FLOORS = [  # each may import those below it
    {"__init__", "__main__", "compact", "export", "inspect", "search"},
    {"cli"},
    {"reproduce"},
    {"sweeps"},
    {"experiment"},
    {"report"},
    {"tracking"},
    {"compaction"},
    {"exports"},
    {"costs"},
    {"training", "integrations"},
    {"config"},
    {"pruning"},
    {"data", "models"},
    {"stages"},
    {"runtime"},
    {"records", "text"},
    {"errors"},
]
FLOOR = {room: number for number, rooms in enumerate(reversed(FLOORS)) for room in rooms}
FILES = sorted(ROOT.rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION = 250, 40  # lines
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def room(path: Path) -> str:
    """The folder or file; `python -m prunelab.<folder>` stands at the top, like the other command lines."""
    return "__main__" if path.name == "__main__.py" else path.relative_to(ROOT).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[str]:
    """The full names of everything that a file imports from prunelab, inside functions too."""
    here = ("prunelab", *path.relative_to(ROOT).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "prunelab")
        elif isinstance(node, ast.ImportFrom):
            base = [*here[: len(here) - node.level]] if node.level else []
            base += node.module.split(".") if node.module else []
            if base[0] == "prunelab":
                yield from (".".join([*base, alias.name]) for alias in node.names)


def imported_rooms(path: Path) -> set[str]:
    """The other rooms that a file imports from. The package itself counts as a room, but for its version."""
    names = {name for name in imports(path) if name != "prunelab.__version__"}
    found = {(name.split(".")[1:] or ["__init__"])[0] for name in names}
    return {name if name in FLOOR else "__init__" for name in found} - {room(path)}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def test_every_file_has_a_floor():
    assert {room(path) for path in FILES} <= set(FLOOR)
    assert len(FLOOR) == sum(map(len, FLOORS))


@every_file
def test_imports_only_go_down(path):
    up = {name for name in imported_rooms(path) if FLOOR[name] >= FLOOR[room(path)]}
    assert not up


@every_file
def test_a_file_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


@every_file
def test_a_file_is_short(path):
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


@every_file
def test_functions_are_short(path):
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions(ast.parse(path.read_text()))}
    assert {name: lines for name, lines in long.items() if lines > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=str)
def test_an_init_only_exports(path):
    """But that of prunelab itself, which imports what it exports when it is first used."""
    if path.parent == ROOT:
        return
    for node in ast.parse(path.read_text()).body[1:]:  # after the docstring
        names = [target.id for target in node.targets] if isinstance(node, ast.Assign) else []
        assert isinstance(node, (ast.Import, ast.ImportFrom)) or names == ["__all__"], ast.unparse(node)


def test_pruning_training_and_costs_need_no_config():
    for name in ("pruning", "costs", "compaction", "training", "integrations"):
        for path in (ROOT / name).rglob("*.py"):
            assert "config" not in imported_rooms(path), path
            assert "hydra" not in path.read_text(), path


def test_models_know_nothing_of_pruning():
    for path in (ROOT / "models").glob("*.py"):
        assert "nn.utils" not in path.read_text()
        assert not imported_rooms(path)
