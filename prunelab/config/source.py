"""Digests of the source code that a user's class or function comes from, for the names of stages."""

import ast
import hashlib
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import CodeType
from typing import NamedTuple

OWN = ("prunelab", "torch", "torchvision")  # their versions stand in the run's summary
SUFFIXES = (".py", *EXTENSION_SUFFIXES)
CODE = (".py", ".so", ".pyd")  # last suffixes of the files of a package
DYNAMIC = ("import_module", "__import__", "iter_modules", "walk_packages")  # functions that import by a name


class Module(NamedTuple):
    """Where a module is: its file, None for a namespace package; and the folders of a package."""

    file: Path | None
    folders: list[Path]


def source_digest(target: object, dotted: str = "") -> str | None:
    """Return the SHA-256 of the user's files that a class or function comes from; None for prunelab's and torch's own.

    These are the file that defines it, and all files that it imports, directly or not, at the top or inside a function:
    from the same top-level package, or from elsewhere but the standard library and site-packages.

    Args:
        dotted: the name by which the config reaches it, which may lie in another module than its definition.
    """
    target = inspect.unwrap(target) if callable(target) else target
    home = str(getattr(target, "__module__", None) or type(target).__module__)
    if home.split(".")[0] in OWN:
        return None
    files: dict[str, bytes] = {}
    waiting, seen = [home, *_within(dotted)], {*OWN, "builtins"}
    while waiting:
        name = waiting.pop()
        if name in seen or name.split(".")[0] in OWN:
            continue
        seen.add(name)
        found = _find(name)
        if found is None:
            continue
        waiting += _within(name)
        installed = _installed(found)
        if installed and name.split(".")[0] != home.split(".")[0]:
            continue
        if found.file is not None:
            files[name] = _content(found.file)
        if installed:  # too large to be parsed at every start
            inside = (file for folder in found.folders for file in folder.rglob("*") if file.suffix in CODE)
            files |= {str(file): file.read_bytes() for file in inside}
        elif found.file is not None and found.file.suffix == ".py":
            waiting += _imports(name, found, files[name])
    if not files:
        return code_digest(target)
    lines = "".join(f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _within(dotted: str) -> Iterator[str]:
    """Return the packages that a dotted name lies in."""
    parts = dotted.split(".")
    return (".".join(parts[:i]) for i in range(1, len(parts)))


def _find(name: str) -> Module | None:
    """Return where a module is, or would be imported from; None if there is no such module, or it has no file."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        file, folders = getattr(loaded, "__file__", None), getattr(loaded, "__path__", ())
        return Module(file and Path(file), [Path(f) for f in folders]) if file or folders else None
    above, _, last = name.rpartition(".")
    if not above:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            return None
        if spec is None or not (spec.has_location or spec.submodule_search_locations):
            return None
        file = Path(spec.origin) if spec.has_location and spec.origin else None
        return Module(file, [Path(folder) for folder in spec.submodule_search_locations or ()])
    package = _find(above)
    for folder in package.folders if package is not None else ():
        for file in (folder / last / "__init__.py", *(folder / f"{last}{suffix}" for suffix in SUFFIXES)):
            if file.is_file():
                return Module(file, [file.parent] if file.name == "__init__.py" else [])
    spaces = [folder / last for folder in package.folders if (folder / last).is_dir()] if package is not None else []
    return Module(None, spaces) if spaces else None


def _installed(module: Module) -> bool:
    """Return whether a module belongs to the standard library or was installed into site-packages."""
    place = module.file or module.folders[0]
    library = Path(sysconfig.get_path("stdlib")).resolve()
    return bool({"site-packages", "dist-packages"} & {*place.parts}) or place.resolve().is_relative_to(library)


def _content(file: Path) -> bytes:
    """Return a file's content; for a module inside a zip file, that of the zip file."""
    found = next((path for path in (file, *file.parents) if path.is_file()), None)
    return b"" if found is None else found.read_bytes()


def _imports(name: str, module: Module, content: bytes) -> Iterator[str]:
    """Return the modules that a source imports; all of its package if it imports by names that are computed."""
    package = name if module.folders else name.rpartition(".")[0]
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _resolved("." * node.level + (node.module or ""), package)
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in DYNAMIC:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield _resolved(first.value, package)
            elif package:
                yield from _all_of(package.split(".")[0])


def _resolved(name: str, package: str) -> str:
    try:
        return importlib.util.resolve_name(name, package)
    except ImportError:  # a relative import beyond the top-level package, which Python refuses too
        return ""


def _all_of(package: str) -> Iterator[str]:
    found = _find(package)
    for folder in found.folders if found is not None else ():
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder).with_suffix("").parts
            yield ".".join((package, *(part for part in parts if part != "__init__")))


def code_digest(target: object) -> str | None:
    """Return the SHA-256 of the compiled code of a class or function without a file, such as one typed into Python."""
    kinds = target.__mro__ if isinstance(target, type) else ()
    own = [vars(kind) for kind in kinds if kind.__module__.split(".")[0] not in (*OWN, "builtins")]
    parts = [value for content in own for value in content.values()] or [target]
    codes = [getattr(part, "__code__", None) for part in parts]
    text = "".join(_described(code) for code in codes if isinstance(code, CodeType))
    return hashlib.sha256(text.encode()).hexdigest() if text else None


def _described(code: CodeType) -> str:
    constants = (sorted(map(repr, part)) if isinstance(part, frozenset) else part for part in code.co_consts)
    inner = (_described(part) if isinstance(part, CodeType) else repr(part) for part in constants)
    return f"{code.co_code.hex()} {code.co_names} {' '.join(inner)}"
