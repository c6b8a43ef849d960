"""Python values as Hydra's overrides: `{"strategy": "l1", "amount": 0.3}` becomes `strategy=l1`, `amount=0.3`."""

import os
import re
from collections.abc import Iterable, Mapping

from hydra.core.override_parser.types import Quote, QuotedString

from prunelab.errors import ConfigError

BARE = re.compile(r"[A-Za-z_][\w./-]*")  # text that Hydra's grammar reads as itself, unless it is one of
WORDS = ("null", "true", "false", "inf", "nan")


def overrides(keys: Mapping[str, object]) -> list[str]:
    """Return overrides for keys and values.

    Args:
        keys: by dotted name; a mapping sets the keys below: `{"train": {"epochs": 1}}` is `{"train.epochs": 1}`;
            beside `_target_` they may be new ones.

    Raises:
        ConfigError: for a value that is no None, bool, number, text, path, list, tuple or mapping.
    """
    found: list[str] = []
    for key, value in keys.items():
        if isinstance(value, Mapping) and value:
            add = "++" if "_target_" in value and not key.startswith("+") else ""  # any key of that class
            found += overrides({f"{add}{key}.{name}": inner for name, inner in value.items()})
        else:
            found.append(f"{key}={_text(key, value)}")
    return found


def _text(key: str, value: object) -> str:
    """Return a value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        plain = BARE.fullmatch(value) and value.lower() not in WORDS
        return value if plain else QuotedString(value, Quote.single).with_quotes()
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{name}:{_text(key, inner)}' for name, inner in value.items())}}}"
    if isinstance(value, Iterable) and not isinstance(value, bytes) and not hasattr(value, "item"):
        return f"[{','.join(_text(key, inner) for inner in value)}]"
    for kind in (int, float):  # NumPy's and torch's numbers, too
        if isinstance(value, kind):
            return repr(kind(value))
    number = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else None
    if isinstance(number, (bool, int, float)):
        return _text(key, number)
    raise ConfigError(f"{key}={type(value).__name__}: must be None, a bool, a number, text, a list or a dict")
