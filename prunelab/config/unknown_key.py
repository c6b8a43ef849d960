"""The message for a key that does not exist: its new name since 0.1.0, or the nearest name that exists."""

import difflib
from collections.abc import Iterable

from prunelab.config.conf_folder import choices, content
from prunelab.config.schema import OPTIONAL, REQUIRED, keys

# Keys of 0.1.0 whose value stays as it was.
RENAMED = {
    "strategy.n": "granularity.n (the order of a norm; of strategy=nm: allocation.n)",
    "strategy.m": "allocation.m",
    "strategy.dim": "granularity.dim",
    "strategy.size": "granularity.size",
    "strategy.threshold": "allocation.threshold (strategy=layer keeps strategy.threshold)",
    "strategy._target_": "criterion._target_, granularity._target_, allocation._target_ or strategy.method",
}
# Keys of 0.1.0 whose value is the name of a choice now.
CHOSEN = {
    "strategy.scope": "allocation",
    "strategy.per": "allocation",
    "strategy.budget": "allocation",
    "strategy.granularity": "granularity",
}


def unknown_key(key: str, value: object, known: Iterable[str]) -> str:
    """Return the message for a key that does not exist.

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
    if not near and part in (*REQUIRED, *OPTIONAL):
        others = [choice for choice in choices(part) if leaf in (content(part, choice).get(part) or {})]
        if others:
            return f"{key}={value}: there is no such key, {there}; {part}={' or '.join(others)} has it"
    everywhere = [item.name for item in keys()]
    parts = {name.rpartition(".")[0] for name in everywhere} | set(everywhere)
    near = near or nearest(leaf, everywhere) or (nearest(key, everywhere) if part not in parts else [])
    near = [name for name in near if name != key]
    said = f"{key}={value}: there is no such key"
    return f"{said}{hint(near)} T{there[1:]}" if near and known else f"{said}, {there}{hint(near)}"


def moved(key: str, value: object) -> str | None:
    """Return the message for a key of 0.1.0 that has a new name; None for any other key."""
    if key in RENAMED:
        return f"{key}={value}: is now {RENAMED[key]}"
    if key in CHOSEN:
        return f"{key}={value}: is now {CHOSEN[key]}={'local' if value == 'tensor' else value}"
    return None


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Return the name that is spelt most similarly, or nothing."""
    return difflib.get_close_matches(name, list(names), n=1)


def hint(near: list[str]) -> str:
    """Return the end of a message that suggests a name, or nothing."""
    return f"; did you mean {near[0]}?" if near else ""
