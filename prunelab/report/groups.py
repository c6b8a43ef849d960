"""Which runs are the same experiment with another seed, and what to call it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunelab.report.reading import Run

NEUTRAL = ("seed", "outputs", "reuse", "trusted", "latency")  # never tell one experiment from another
DOSES = (  # how much goes
    "amount",
    "schedule.sparsity",
    "schedule.compression",
    "schedule.macs",
    "strategy.threshold",
    "strategy.count",
    "tolerance",
)
CHOICES = ("strategy", "model", "data", "schedule", "criterion", "experiment")  # their value alone says enough


@dataclass(frozen=True)
class Group:
    """Completed runs that differ in their seed only, one a seed.

    Args:
        label: for the eye.
        items: the overrides that tell it from the other groups, by key.
        runs: in the order of their seeds.
        repeats: how many runs were left out, since another one has the same seed.
    """

    label: str
    items: Mapping[str, str]
    runs: Sequence[Run]
    repeats: int = 0


def overrides(run: Run) -> dict[str, str]:
    """A run's overrides by key, without those that never tell one experiment from another."""
    pairs = (item.lstrip("+").partition("=")[::2] for item in run.overrides)
    return {key: value for key, value in pairs if key not in NEUTRAL and not key.startswith(("hydra.", "hydra/"))}


def group(runs: Sequence[Run]) -> list[Group]:
    """Groups the completed runs by what was overridden, or composed, differently; in the order of the runs."""
    distinct = _distinct(runs)
    found: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run, items in zip(runs, distinct, strict=True):
        if run.status == "completed" and run.final:
            found.setdefault(tuple(sorted(items.items())), []).append(run)
    keys = {key for items in found for key, _ in items}
    groups = []
    for key, members in found.items():
        items = dict(key)
        by_seed = {run.seed: run for run in members}  # the last one: a repeat is no further evidence
        ordered = sorted(by_seed.values(), key=lambda run: (isinstance(run.seed, str), run.seed))
        groups.append(Group(label(items, keys), items, ordered, len(members) - len(by_seed)))
    return groups


def label(items: Mapping[str, str], keys: Collection[str]) -> str:
    """`{"amount": "0.5", "strategy": "l1"}` → `l1 amount=0.5`: as it would be typed, the strategy first.

    Args:
        items: what tells the group from the others.
        keys: of all groups; where there are few, a choice needs no key before it.
    """
    repeated = {value for value, times in Counter(items.values()).items() if times > 1}
    few = len(set(keys) - set(DOSES)) < 3
    words = []
    for key in in_order(items):
        telling = key in CHOICES and items[key] not in repeated and (key == "strategy" or few)
        words.append(items[key] if telling else f"{key}={items[key]}")
    return " ".join(words) or "(defaults)"


def in_order(keys: Iterable[str]) -> list[str]:
    """The strategy first, then what else was chosen, then how much goes."""
    return sorted(keys, key=lambda key: (key != "strategy", key in DOSES, key not in CHOICES))


def _distinct(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Of each run the overrides that not all runs share, and the config keys that tell runs with equal ones apart."""
    given = [overrides(run) for run in runs]
    common = set.intersection(*(set(items.items()) for items in given)) if given else set()
    kept = [{key: value for key, value in items.items() if (key, value) not in common} for items in given]
    if not any(kept) and given:  # one experiment: its own overrides name it best
        kept = [dict(items) for items in given]
    members: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for number, items in enumerate(kept):
        if runs[number].config:
            members.setdefault(tuple(sorted(items.items())), []).append(number)
    for numbers in members.values():
        for number, more in zip(numbers, _composed_differently([runs[n] for n in numbers]), strict=True):
            kept[number] |= more
    keys = sorted({key for items in kept for key in items})
    return [items or _composed(run, keys) for run, items in zip(runs, kept, strict=True)]


def _composed(run: Run, keys: Sequence[str]) -> dict[str, str]:
    """The values that a run without overrides of its own has of the keys that others overrode: `amount=0.2`."""
    config = flat(run.config)
    return {key: config[key] for key in keys if key in config}


def _composed_differently(runs: Sequence[Run]) -> list[dict[str, str]]:
    """The config keys of runs with equal overrides whose values differ: defaults change between versions."""
    configs = [flat(run.config) for run in runs]
    if all(config == configs[0] for config in configs):
        return [{} for _ in runs]
    shared = set.intersection(*map(set, configs))  # a key that old runs do not have is not a difference
    differ = [key for key in configs[0] if key in shared and len({config[key] for config in configs}) > 1]
    return [{key: config[key] for key in differ} for config in configs]


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested keys by their dotted names, values as text, without what never tells experiments apart."""
    found: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name not in NEUTRAL:
            found |= flat(value, f"{name}.") if isinstance(value, Mapping) else {name: str(value)}
    return found
