"""The digest of a config, by which a run folder and its rows are known to be of one experiment."""

from collections.abc import Mapping
from typing import Any

from prunelab.records import flat
from prunelab.stages.stage import canonical, name_of

NEVER_COMPARED = ("outputs", "reuse", "trusted", "threads", "device", "latency", "baseline")  # keys of no experiment
IRRELEVANT = ("outputs", "reuse", "trusted", "reference")  # keys that change no result


def digest(config: Mapping[str, Any], live: str = "") -> str:
    """Return a name for a config that is plain data: the same for two configs whose runs write the same results.

    Args:
        live: digest of the live model and data that replace the config's.
    """
    return name_of(canonical({**_relevant(config), "live": live or None}))


def difference(config: Mapping[str, Any], earlier: Mapping[str, Any]) -> str:
    """Return the first key in which a config differs from an earlier one, such as `seed=0, not 1`."""
    new, old = flat(_relevant(config)), flat(_relevant(earlier))
    changed = (key for key in {**new, **old} if new.get(key) != old.get(key))
    return next((f"{key}={old.get(key)}, not {new.get(key)}" for key in changed), "another model or other data")


def _relevant(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in IRRELEVANT}
