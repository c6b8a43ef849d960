"""The new names of keys of 0.1.0, where options of a strategy are axes of their own now."""

from __future__ import annotations

RENAMED = {
    "strategy.n": "granularity.n (the order of a norm; of strategy=nm: allocation.n)",
    "strategy.m": "allocation.m",
    "strategy.dim": "granularity.dim",
    "strategy.size": "granularity.size",
    "strategy.threshold": "allocation.threshold (strategy=layer keeps strategy.threshold)",
}
# Keys whose value is the name of a choice now.
CHOSEN = {
    "strategy.scope": "allocation",
    "strategy.per": "allocation",
    "strategy.budget": "allocation",
    "strategy.granularity": "granularity",
}
VALUES = {"tensor": "local"}


def moved(key: str, value: object) -> str | None:
    """Return the message for a key of 0.1.0 that has a new name; None for any other key."""
    if key in RENAMED:
        return f"{key}={value}: is now {RENAMED[key]}"
    if key in CHOSEN:
        return f"{key}={value}: is now {CHOSEN[key]}={VALUES.get(str(value), value)}"
    if key == "strategy._target_":
        return (
            f"{key}={value}: strategies are presets now; "
            "must be criterion._target_, granularity._target_, allocation._target_ or strategy.method"
        )
    return None
