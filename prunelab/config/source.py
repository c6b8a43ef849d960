"""Digests of the source code that a class or function comes from, for the names of stages."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def source_digest(target: Callable[..., Any]) -> str | None:
    """Return the SHA-256 of the source files of a user's class or function; None for prunelab's and torch's own.

    These are the file that defines it, and the files that it imports from the same top-level package, directly or not.
    """
    waiting = [inspect.unwrap(target).__module__]
    if waiting[0].split(".")[0] in ("prunelab", "torch", "torchvision"):
        return None
    files: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        file = _file(name)
        if file is not None and name not in files:
            files[name] = file
            waiting += _imports(name, file)
    lines = "".join(f"{name} {file_digest(file)}\n" for name, file in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest() if files else None


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file's content, as hexadecimal digits."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _file(module: str) -> Path | None:
    """Return the source file of a module; None if there is no such module, or it has none."""
    try:
        spec = getattr(sys.modules.get(module), "__spec__", None) or importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    origin = spec.origin if spec is not None else None
    return Path(origin) if origin is not None and origin.endswith(".py") and Path(origin).is_file() else None


def _imports(module: str, file: Path) -> Iterator[str]:
    """Return the modules of the same top-level package that a module's source imports, and their packages."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        yield from (name for name in names if name.split(".")[0] == module.split(".")[0])
