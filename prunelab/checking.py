"""The check of a composed config against the schema: all that can be known without torch, the model or the data."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prunelab import building, schedules
from prunelab.config import (
    DEVICES,
    PART_KEYS,
    PARTS,
    WHOLE,
    Config,
    ConfigError,
    allowed,
    described,
    rewind_point,
    unknown_key,
)


def check(config: DictConfig) -> None:
    """Checks every key that can be checked without torch, the model or the data.

    Raises:
        ConfigError: names the key, its value and what is allowed.
    """
    _check_keys(config, Config)
    for key in OmegaConf.missing_keys(config):
        raise ConfigError(f"{key!s}=???: must be {allowed(str(key)) or 'given'}")
    for key, spec in described():
        if not _present(config, key) and key not in PART_KEYS:
            raise ConfigError(f"{key}: is missing; must be {spec.metadata['allowed']}")
        _check_value(key, OmegaConf.select(config, key), spec)
    for part in PARTS:
        if "_target_" not in (config[part] or {}):
            raise ConfigError(f"{part}._target_=null: must be a dotted name; {part}= chooses a ready one")
    for key in building.TRUSTED:
        if _present(config, key):
            building.check_trust(str(OmegaConf.select(config, key)), key, config.trusted)
    if config.device not in DEVICES:
        raise ConfigError(f"device={config.device}: must be {' or '.join(DEVICES)}")
    rewind_point(config)
    schedules.amounts(config)


def _check_keys(node: DictConfig, schema: Any, prefix: str = "") -> None:
    """Refuses what `+key=value` adds: the schema alone would let it in. Keys of the chosen parts are checked later."""
    known = {item.name: item.default_factory for item in fields(schema)}
    for name, value in node.items():
        key = str(name)
        if key not in known:
            raise ConfigError(unknown_key(f"{prefix}{key}", value, known))
        if is_dataclass(known[key]):
            _check_keys(value, known[key], f"{prefix}{key}.")


def _present(config: DictConfig, key: str) -> bool:
    part, _, leaf = key.rpartition(".")
    return leaf in (OmegaConf.select(config, part) if part else config)


def _check_value(key: str, value: object, spec: Any) -> None:
    bounds = spec.metadata["bounds"]
    if value is None or not bounds:
        return
    wrong = isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value)
    wrong = wrong or (key in WHOLE and not isinstance(value, int))
    if (
        wrong
        or ("ge" in bounds and value < bounds["ge"])
        or ("gt" in bounds and value <= bounds["gt"])
        or ("le" in bounds and value > bounds["le"])
        or ("lt" in bounds and value >= bounds["lt"])
    ):
        raise ConfigError(f"{key}={value}: must be {spec.metadata['allowed']}")
