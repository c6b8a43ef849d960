"""The check of a composed config against the schema: all that can be known without torch, the model or the data."""

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prunelab.config import rounds
from prunelab.config.allow_list import KEYS, LIVE, check_name, locate
from prunelab.config.component import bind
from prunelab.config.keys import PART_KEYS
from prunelab.config.schema import OPTIONAL, REQUIRED, Config, allowed, keys
from prunelab.config.spec import Rewind
from prunelab.config.unknown_key import moved, unknown_key
from prunelab.errors import ConfigError

Plain = Mapping[str, Any]


def check(config: DictConfig) -> None:
    """Check every key that can be checked without torch, the model or the data.

    Raises:
        ConfigError: names the key, its value and what is allowed.
    """
    for key in OmegaConf.missing_keys(config):
        raise ConfigError(f"{key!s}=???: must be {allowed(str(key)) or 'given'}")
    check_plain(plain(config))


def plain(config: DictConfig) -> dict[str, Any]:
    """Return the config as plain, resolved data; `data=null` and `model=null` as what stands for a live object."""
    container = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    assert isinstance(container, dict)
    for part, stand_in in LIVE.items():
        if (container.get(part) or {}).get("_target_") is None:
            container[part] = {**(container.get(part) or {}), "_target_": stand_in}
    return {str(key): value for key, value in container.items()}


def check_plain(config: Plain) -> None:
    """Check a config that is plain data; `check` says what for and what is raised."""
    _check_names(config, Config)
    for key in keys():
        part, _, leaf = key.name.rpartition(".")
        beside, value = (select(config, part) or {}) if part else config, select(config, key.name)
        if leaf not in beside and key not in PART_KEYS:
            raise ConfigError(f"{key.name}: is missing; must be {key.allowed}")
        if not key.fits(value):
            shown = f"[{','.join(map(str, value))}]" if isinstance(value, list) else "null" if value is None else value
            raise ConfigError(f"{key.name}={shown}: must be {key.allowed}")
    for part in (*REQUIRED, *OPTIONAL):
        if (config[part] or part in REQUIRED) and (config[part] or {}).get("_target_") is None:
            raise ConfigError(f"{part}._target_=null: must be a dotted name; {part}= chooses a ready one")
    for name in KEYS:
        if select(config, name) is not None:
            check_name(select(config, name), name, config["trusted"])
    _check_strategy(config)
    rewind = Rewind.parse(config["rewind"], config["train"]["epochs"])
    if config["control"] is not None and rewind is None:
        why = "compares tickets, whose weights are rewound; needs rewind=0, 2ep or 500it"
        raise ConfigError(f"control={config['control']}: {why}")
    _check_rounds(config)
    _check_distillation(config)


def select(config: Plain, key: str) -> Any:
    """Return the value of a dotted key; None where there is none."""
    value: Any = config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _check_strategy(config: Plain) -> None:
    strategy = config["strategy"]
    amounts = {f"strategy.{key}": strategy[key] for key in ("count", "threshold") if strategy[key] is not None}
    for key, value in () if strategy["layers"] else amounts.items():
        raise ConfigError(moved(key, value) or f"{key}={value}: only strategy=layer removes layers")
    chosen = [f"strategy.{key}={strategy[key]}" for key in ("method", "rules", "layers") if strategy[key]]
    if len(chosen) > 1:
        raise ConfigError(f"{', '.join(chosen)}: use one of them")
    given = [f"{key}={value}" for key, value in {"amount": config["amount"], **amounts}.items() if value is not None]
    if strategy["layers"] and len(given) > 1:
        raise ConfigError(f"{', '.join(given)}: must be one of them")


def _check_rounds(config: Plain) -> None:
    schedule, amount, tolerance = config["schedule"], config["amount"], config["tolerance"]
    target = locate(schedule["_target_"], "schedule._target_", config["trusted"])
    takes, name = inspect.signature(target).parameters, target.__name__
    if tolerance is not None and "tolerance" not in takes:
        raise ConfigError(f"tolerance={tolerance}: only schedule=until takes one")
    rounds.check_goal(schedule, name, amount, "amount" in takes)
    macs = schedule.get("macs")
    if macs is not None and not config["compact"]:
        why = "counts the compact network; needs compact=true, as in strategy=channel"
        raise ConfigError(f"schedule.macs={macs}: {why}")
    if config["round_to"] is not None and not config["compact"]:
        raise ConfigError(f"round_to={config['round_to']}: rounds what compaction leaves; needs compact=true")
    for key in ("count", "threshold"):
        if macs is not None and config["strategy"][key] is not None:
            raise ConfigError(f"schedule.macs={macs}, strategy.{key}={config['strategy'][key]}: use one of the two")
    planned = rounds.planned(bind("schedule", schedule, config["trusted"]), amount, tolerance, macs, None)
    if any(round.every for round in planned) and config["rewind"] is not None:
        why = "schedule=gradual prunes during training and cannot rewind; must be null"
        raise ConfigError(f"rewind={config['rewind']}: {why}")


def _check_distillation(config: Plain) -> None:
    distill, epochs = config["finetune"]["distill"], config["finetune"]["epochs"]
    if not distill["alpha"]:
        return
    key = f"finetune.distill.alpha={distill['alpha']:g}"
    if not epochs:
        raise ConfigError(f"{key}: the dense network teaches during fine-tuning; finetune.epochs=0 leaves none")
    if not config["train"]["epochs"] and config["model"].get("checkpoint") is None:
        raise ConfigError(f"{key}: the dense network teaches, but train.epochs=0 leaves it untrained")


def _check_names(node: Plain, schema: Any, prefix: str = "") -> None:
    """Refuse keys that `+key=value` adds beside those of the schema. Keys of the chosen parts are checked later."""
    known = {item.name: item.default_factory for item in fields(schema)}
    for key, value in node.items():
        if key not in known:
            raise ConfigError(unknown_key(f"{prefix}{key}", value, known))
        if is_dataclass(known[key]) and isinstance(value, Mapping):
            _check_names(value, known[key], f"{prefix}{key}.")
