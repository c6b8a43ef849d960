"""The errors that a user can mend: each is one line that quotes the key, its value and what is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

COLOUR = re.compile(r"\x1b\[[\d;]*m")  # codes for terminals, as in messages of torch's exporter


class ConfigError(ValueError):
    """A setting that cannot work. The message quotes the key, the value and what is allowed."""


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, without colours; the name of its class if it has no message."""
    return " ".join(COLOUR.sub("", str(error)).split()) or type(error).__name__


def check_number(key: str, value: object, allowed: str, fits: Callable[[float], bool]) -> None:
    """Raise ConfigError unless a value is a finite number and fits.

    Args:
        key: the config key, for the message.
        allowed: what the message says is allowed, such as `a number ≥ 0`.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not fits(value):  # type: ignore[arg-type]
        raise ConfigError(f"{key}={value}: must be {allowed}")


def at_least_one(key: str, value: int) -> int:
    """Return the value of a config key; raise ConfigError if it is not a whole number ≥ 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{key}={value}: must be a whole number ≥ 1")
    return value


def need(extra: str, *packages: str, caller: str = "") -> None:
    """Raise ConfigError, which names the extra to install, if one of its packages is missing.

    Args:
        caller: what needs them; by default what the extra is named after.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ConfigError(f'{caller or extra} needs {", ".join(missing)}: pip install "prunelab[{extra}]"')


def optional(module: str, caller: str) -> ModuleType:
    """Return a module of the extra `report`; raise ImportError, which names `caller`, if it is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise ImportError(f'{caller} needs {package}: pip install "prunelab[report]"') from error
