"""Imports only go down; files and functions stay short; every file says in its first line what it is for."""

import ast
from collections.abc import Iterator
from pathlib import Path

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
TREES = {path: ast.parse(path.read_text()) for path in FILES}
LONGEST_FILE, LONGEST_FUNCTION = 250, 40  # lines


def room(path: Path) -> str:
    """The folder or file; `python -m prunelab.<folder>` stands at the top, like the other command lines."""
    return "__main__" if path.name == "__main__.py" else path.relative_to(ROOT).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[str]:
    """The full names of everything that a file imports from prunelab, inside functions too."""
    here = ("prunelab", *path.relative_to(ROOT).parts)
    for node in ast.walk(TREES[path]):
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


def test_imports_only_go_down():
    up = {path: {name for name in imported_rooms(path) if FLOOR[name] >= FLOOR[room(path)]} for path in FILES}
    assert {path: names for path, names in up.items() if names} == {}


def test_a_file_says_what_it_is_for():
    assert [path for path, tree in TREES.items() if not ast.get_docstring(tree)] == []


def test_a_file_is_short():
    lines = {path: len(path.read_text().splitlines()) for path in FILES}
    assert {path: number for path, number in lines.items() if number > LONGEST_FILE} == {}


def test_functions_are_short():
    lines = {(path, f.name): f.end_lineno - f.lineno + 1 for path, tree in TREES.items() for f in functions(tree)}
    assert {name: number for name, number in lines.items() if number > LONGEST_FUNCTION} == {}


def test_an_init_only_exports():
    """But that of prunelab itself, which imports what it exports when it is first used."""
    for path in (path for path in FILES if path.name == "__init__.py" and path.parent != ROOT):
        for node in TREES[path].body[1:]:  # after the docstring
            names = [target.id for target in node.targets] if isinstance(node, ast.Assign) else []
            assert isinstance(node, (ast.Import, ast.ImportFrom)) or names == ["__all__"], (path, ast.unparse(node))


def test_pruning_training_and_costs_need_no_config():
    for name in ("pruning", "costs", "compaction", "training", "integrations"):
        for path in (ROOT / name).rglob("*.py"):
            assert "config" not in imported_rooms(path), path
            assert "hydra" not in path.read_text(), path


def test_models_know_nothing_of_pruning():
    for path in (ROOT / "models").glob("*.py"):
        assert "nn.utils" not in path.read_text()
        assert not imported_rooms(path)
