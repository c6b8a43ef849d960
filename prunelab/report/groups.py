"""Group runs that differ only in their seed, and name the groups."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunelab.records import flat
from prunelab.report.run_folders import Run

NEUTRAL = (
    "seed",
    "outputs",
    "reuse",
    "trusted",
    "latency",
    "baseline",
)  # keys that change no round
# fmt: off
DOSES = (  # keys that say how much is pruned
    "amount", "schedule.sparsity", "schedule.compression", "schedule.macs", "strategy.threshold", "strategy.count",
    "allocation.threshold", "tolerance",
)
# fmt: on
TREATMENTS = ("init", "checkpoint", "label_noise", "shift", "flip")  # of model and data; network and test set stay
# Keys whose value alone names them in a label.
CHOICES = ("strategy", "model", "data", "schedule", "criterion", "granularity", "allocation", "experiment")


@dataclass(frozen=True)
class Group:
    """Completed runs of one experiment, one per seed.

    Args:
        label: a short name that tells the group from the others.
        items: the keys and values that tell the group from the others.
        runs: in the order of their seeds.
        repeats: number of runs that are left out since a later run has the same seed.
    """

    label: str
    items: Mapping[str, str]
    runs: Sequence[Run]
    repeats: int = 0


def overrides(run: Run) -> dict[str, str]:
    """Return a run's overrides by key, without `NEUTRAL` keys and Hydra's own."""
    pairs = (item.lstrip("+").partition("=")[::2] for item in run.overrides)
    return {key: value for key, value in pairs if key not in NEUTRAL and not key.startswith(("hydra.", "hydra/"))}


def group(runs: Sequence[Run]) -> list[Group]:
    """Group the completed runs by the keys in which they differ, the seed apart; in the order of the runs."""
    distinct = differing(runs)
    found: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run, items in zip(runs, distinct, strict=True):
        if run.status == "completed" and run.final:
            found.setdefault(tuple(sorted(items.items())), []).append(run)
    keys = {key for items in found for key, _ in items}
    groups = []
    for key, members in found.items():
        items = dict(key)
        by_seed = {run.seed: run for run in members}  # the last run with a seed replaces the earlier ones
        ordered = sorted(by_seed.values(), key=lambda run: (isinstance(run.seed, str), run.seed))
        groups.append(Group(label(items, keys), items, ordered, len(members) - len(by_seed)))
    return groups


def label(items: Mapping[str, str], keys: Collection[str]) -> str:
    """Return the name of a group: `{"amount": "0.5", "strategy": "l1"}` gives `l1 amount=0.5`.

    Args:
        items: the keys and values that tell the group from the others.
        keys: the keys of all groups. If there are few, choices such as `criterion` are named by their value alone.
    """
    repeated = {value for value, times in Counter(items.values()).items() if times > 1}
    few = len(set(keys) - set(DOSES)) < 3
    words = []
    for key in in_order(items):
        telling = key in CHOICES and items[key] not in repeated and (key == "strategy" or few)
        words.append(items[key] if telling else f"{key}={items[key]}")
    return " ".join(words) or "(defaults)"


def in_order(keys: Iterable[str]) -> list[str]:
    """Sort keys: the strategy first, then other choices, then other keys, then how much is pruned."""
    return sorted(keys, key=lambda key: (key != "strategy", key in DOSES, key not in CHOICES))


def differing(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Return for each run the keys in which the runs differ, with its values.

    These are the overrides that not all runs share, and the config keys that differ between runs with equal overrides
    (after a default changed). A run without such an override has the value of its config.
    """
    given = [overrides(run) for run in runs]
    common = set.intersection(*(set(items.items()) for items in given)) if given else set()
    keys = list(dict.fromkeys(key for items in given for key, value in items.items() if (key, value) not in common))
    kept = _filled(runs, given, keys or list(dict.fromkeys(key for items in given for key in items)))
    same = {key for key in keys if len({items.get(key) for items in kept}) == 1}
    if len(same) < len(keys):  # else one experiment: it is named by all its overrides
        kept = [{key: value for key, value in items.items() if key not in same} for items in kept]
    members: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for number, items in enumerate(kept):
        if runs[number].config:
            members.setdefault(tuple(sorted(items.items())), []).append(number)
    for numbers in members.values():
        for number, more in zip(numbers, _composed_differently([runs[n] for n in numbers]), strict=True):
            kept[number] |= more
    return kept


def _filled(runs: Sequence[Run], given: Sequence[Mapping[str, str]], keys: Sequence[str]) -> list[dict[str, str]]:
    """Return for each run the values of keys: as an override names the value that its config has, or else that value.

    So `amount=0.2`, and no override where 0.2 is the default, are the same; so are `model=lenet` and its class `LeNet`.
    """
    named: dict[tuple[str, str], str] = {}
    for run, items in zip(runs, given, strict=True):
        for key, text in items.items():
            if (value := _value(run, key)) is not None:
                named.setdefault((key, repr(value)), text)
    filled = []
    for run, items in zip(runs, given, strict=True):
        texts = {key: named.get((key, repr(_value(run, key)))) or choice(run, key) or items.get(key) for key in keys}
        filled.append({key: text for key, text in texts.items() if text is not None})
    return filled


def _composed_differently(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Return for each of several runs with equal overrides the config keys whose values differ."""
    configs = [_texts(run.config) for run in runs]
    shared = set.intersection(*map(set, configs))  # a key that older runs lack is not a difference
    differ = [key for key in configs[0] if key in shared and len({config[key] for config in configs}) > 1]
    return [{key: config[key] for key in differ} for config in configs]


def _texts(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of a nested config as text by their dotted keys, without `NEUTRAL` keys."""
    return {key: str(value) for key, value in flat(config).items() if key not in NEUTRAL}


def choice(run: Run, key: str) -> str | None:
    """Return the value of a key in a run's config; of a part, such as `strategy`, its name. None if it is missing."""
    value = _value(run, key)
    if isinstance(value, Mapping):
        value = value.get("name") or str(value.get("_target_") or "").rpartition(".")[2] or None
    return None if value is None else str(value)


def unlike(runs: Sequence[Run], part: str) -> bool:
    """Return whether the `model` or `data` of runs differ, so that they cannot be compared, in a key that all have."""
    given = [value for run in runs if (value := run.config.get(part))]
    found = [_texts(value if isinstance(value, Mapping) else {"": value}) for value in given]
    shared = set.intersection(*map(set, found)) - set(TREATMENTS) if found else set()
    return any(one[key] != found[0][key] for one in found for key in shared)


def _value(run: Run, key: str) -> Any:
    """Return what a run's config has at a dotted key: `"null"` for null, None if there is no such key."""
    value: Any = run.config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return "null" if value is None else value
