"""Find criteria, granularities and allocations by the name of their file."""

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import Any

from prunelab.errors import ConfigError


def choices(package: ModuleType) -> dict[str, str]:
    """Return the choices of an axis: the name of each file, and the name of its module in the package.

    A file whose name would be a Python keyword ends with an underscore: `global_.py` is the choice `global`.
    """
    modules = (module.name for module in pkgutil.iter_modules(package.__path__))
    return {name.rstrip("_"): name for name in modules if name != "base" and not name.startswith("_")}


def find(package: ModuleType, axis: str, name: str) -> Callable[..., Any]:
    """Return the class or function that a file of a package defines under the file's name; ConfigError without one.

    Case and underscores are ignored: the file `magnitude_increase.py` may define `MagnitudeIncrease`.

    Args:
        package: such as `prunelab.pruning.criteria`.
        axis: such as `criterion`, for the message.
        name: such as `taylor`.
    """
    there = choices(package)
    if name not in there:
        near = difflib.get_close_matches(name, there, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{axis}={name}: must be {', '.join(sorted(there))}, or your own{hint}")
    module = importlib.import_module(f"{package.__name__}.{there[name]}")
    wanted = name.replace("_", "").lower()
    for attribute, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__
        if own and callable(value) and attribute.replace("_", "").lower() == wanted:
            return value
    raise ConfigError(f"{axis}={name}: {module.__name__} must define a function or class of that name")
