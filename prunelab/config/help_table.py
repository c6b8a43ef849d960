"""The table of keys for `prunelab --help`, generated from the schema."""

import functools
import textwrap
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prunelab.config.conf_folder import choices, content, folder
from prunelab.config.keys import RANGE
from prunelab.config.schema import keys
from prunelab.records import flat

# The keys that the page shows. `prunelab --cfg job` shows all of them.
SHOWN = (
    *("amount", "schedule.rounds", "schedule.sparsity", "schedule.compression", "schedule.macs", "rewind"),
    *("train.epochs", "finetune.epochs", "finetune.distill.alpha", "optimizer.lr", "train.batch_size"),
    *("prune.include", "latency", "seed", "threads"),
)
VARYING = ("schedule", "strategy")  # the groups whose choices set other values than the defaults


@functools.cache
def table() -> str:
    """Return lines of name, range, meaning and default."""
    there, set_by_choice = {key.name: key for key in keys()}, defaults()
    files = {f"{part}={choice}": flat(content(part, choice)) for part in VARYING for choice in choices(part)}
    lines: list[str] = []
    for name in SHOWN:
        key, numbers = there[name], RANGE.search(there[name].allowed)
        interval = numbers[0].split(", at most")[0] if numbers else ""
        default = set_by_choice.get(name, key.default)
        said = "" if default is None else f"; default {default}{_others(name, default, files)}"
        lines += textwrap.wrap(f"  {name:<22}  {interval:<8}  {key.meaning}{said}", 120, subsequent_indent=" " * 36)
    return "\n".join(lines)


def _others(name: str, default: object, files: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what the files of other choices set a key to: ` (0.5 with schedule=one_shot)`."""
    found: dict[object, list[str]] = {}
    for choice, values in files.items():
        value = values.get(name)
        if value not in (None, default, "???"):
            found.setdefault(value, []).append(choice)
    said = "; ".join(f"{value} with {', '.join(where)}" for value, where in found.items())
    return f" ({said})" if said else ""


def defaults() -> dict[str, Any]:
    """Return the values that the default choices of the config groups set, by dotted keys."""
    found: dict[str, Any] = {}
    for entry in OmegaConf.load(folder() / "config.yaml").defaults:
        for group, choice in entry.items() if isinstance(entry, DictConfig) else ():
            if choice is not None and "override" not in str(group):
                found |= flat(content(str(group), choice))
    return found
