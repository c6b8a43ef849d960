"""Dotted names that the user types on the command line; they need no `trusted`."""

import re
from collections.abc import Iterator, Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException

from prunelab.config.allow_list import DOTTED, is_allowed

NAMING = re.compile(r"^\+{0,2}[\w.]*(_target_|method|rules)[\w.\[\]]*=")


def trusting(arguments: Sequence[str], loader: ConfigLoader) -> list[str]:
    """Return arguments with `trusted=[…]` after the first that names a class or function of the user's.

    Only what somebody types, or a program of the user's passes, may be given: never what was read from a file.
    """
    own = re.compile(r"^\+{0,2}trusted=")
    parser = OverridesParser.create(loader)
    listed, place, typed = list[str](), len(arguments), list[tuple[str, str]]()
    for number, argument in enumerate(arguments):
        if not own.match(argument) and not NAMING.match(argument):
            continue
        try:
            override = parser.parse_override(argument)
        except HydraException:
            return list(arguments)  # which Hydra refuses, and explains
        if not own.match(argument):
            place, key = min(place, number + 1), override.get_key_element().lstrip("+")
            values = override.sweep_iterator() if override.is_discrete_sweep() else [override.value()]
            typed += [pair for value in values for pair in _names(key, value)]
        elif isinstance(override.value(), list):
            listed = [str(_plain(name)) for name in override.value()]  # type: ignore[union-attr]
        else:
            return list(arguments)
    new = list(dict.fromkeys(name for key, name in typed if not is_allowed(name, key, listed)))
    if not new:
        return list(arguments)
    whole = [*arguments[:place], f"++trusted=[{','.join([*listed, *new])}]", *arguments[place:]]
    return [item for number, item in enumerate(whole) if number == place or not own.match(item)]


def _names(key: str, node: object) -> Iterator[tuple[str, str]]:
    """Yield the keys `_target_` and `method` with the dotted names that a value gives them."""
    node = _plain(node)
    if isinstance(node, dict):
        for name, inner in node.items():
            yield from _names(f"{key}.{_plain(name)}", inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _names(key, inner)
    elif isinstance(node, str) and key.endswith(("._target_", ".method")) and DOTTED.fullmatch(node):
        yield key, node


def _plain(value: object) -> object:
    return value.text if isinstance(value, QuotedString) else value
