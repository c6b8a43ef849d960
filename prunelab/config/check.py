"""The check of a composed config against the schema: all that can be known without torch, the model or the data."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prunelab.config import build as building
from prunelab.config.schema import (
    CONTROLS,
    DEVICES,
    EXPORTS,
    OPTIONAL_PARTS,
    PART_KEYS,
    PARTS,
    QUANTIZED,
    WHOLE,
    Config,
    ConfigError,
    allowed,
    described,
    distillation,
    rewind_point,
    unknown_key,
)
from prunelab.pruning import schedules


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
    for part in OPTIONAL_PARTS:
        if config[part] and "_target_" not in config[part]:
            raise ConfigError(f"{part}._target_=null: must be a dotted name; {part}= chooses a ready one")
    for key in building.TRUSTED:
        if _present(config, key):
            building.check_trust(str(OmegaConf.select(config, key)), key, config.trusted)
    if config.device not in DEVICES:
        raise ConfigError(f"device={config.device}: must be {' or '.join(DEVICES)}")
    if config.finetune.lr not in (None, "last", "rewind"):
        raise ConfigError(f"finetune.lr={config.finetune.lr}: must be {allowed('finetune.lr')}")
    if config.control not in (None, *CONTROLS):
        raise ConfigError(f"control={config.control}: must be {allowed('control')}")
    for kind in config.export:
        if kind not in EXPORTS:
            raise ConfigError(f"export=[{kind}]: must be {allowed('export')}")
    if config.quantize not in (None, *QUANTIZED):
        raise ConfigError(f"quantize={config.quantize}: must be {allowed('quantize')}")
    if config.control is not None and rewind_point(config) is None:
        raise ConfigError(f"control={config.control}: is for tickets, whose weights go back: rewind=0, 2ep or 500it")
    rewind_point(config)
    _check_rounds(config)
    _check_distillation(config)


def _check_rounds(config: DictConfig) -> None:
    macs = config.schedule.get("macs")
    if macs is not None and not config.compact:
        raise ConfigError(
            f"schedule.macs={macs}: is of the compact network; needs compact=true, as in strategy=channel"
        )
    for key in ("count", "threshold"):
        if macs is not None and config.strategy.get(key) is not None:
            raise ConfigError(f"schedule.macs={macs}, strategy.{key}={config.strategy[key]}: use one of the two")
    if any(round.every for round in schedules.rounds(config)) and rewind_point(config) is not None:
        raise ConfigError(f"rewind={config.rewind}: schedule=gradual prunes while it trains, and nothing goes back")


def _check_distillation(config: DictConfig) -> None:
    if distillation(config) is None:
        return
    key = f"finetune.distill.alpha={config.finetune.distill.alpha:g}"
    if not config.finetune.epochs:
        raise ConfigError(f"{key}: the dense network teaches during fine-tuning, and there is none (finetune.epochs=0)")
    if not config.train.epochs and config.model.get("checkpoint") is None:
        raise ConfigError(f"{key}: the dense network teaches, and it is not trained itself (train.epochs=0)")


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
    return leaf in ((OmegaConf.select(config, part) if part else config) or ())


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
