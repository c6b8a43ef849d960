"""The hint "did you mean": the nearest name among those that exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from prunelab.config.conf_folder import with_option
from prunelab.config.moved import moved
from prunelab.config.schema import OPTIONAL, REQUIRED, keys


def unknown_key(key: str, value: object, known: Iterable[str]) -> str:
    """Return the message for a key that does not exist, with its new name or the nearest key that does.

    Args:
        key: dotted.
        known: the names of the keys beside it, without the part before the last dot.
    """
    if said := moved(key, value):
        return said
    known = sorted(known)
    part, _, leaf = key.rpartition(".")
    there = f"there are {', '.join(known)}" if known else f"{part or 'the config'} has none of its own here"
    near = nearest(leaf, known)
    if not near and part in (*REQUIRED, *OPTIONAL) and (others := with_option(part, leaf)):
        return f"{key}={value}: there is no such key, {there}; {part}={' or '.join(others)} has it"
    everywhere = [item.name for item in keys()]
    parts = {name.rpartition(".")[0] for name in everywhere} | set(everywhere)
    near = [*near, *nearest(leaf, everywhere), *(nearest(key, everywhere) if part not in parts else [])]
    return f"{key}={value}: there is no such key, {there}{hint(near[:1])}"


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Return the name that is spelt most similarly, or nothing."""
    return difflib.get_close_matches(name, list(names), n=1)


def hint(near: list[str]) -> str:
    """Return the end of a message that suggests a name, or nothing."""
    return f"; did you mean {near[0]}?" if near else ""
