"""Hydra's `compose` in less time: what the chosen files say is composed once, and values are set in copies of it."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra._internal import defaults_list
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.default_element import InputDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from prunelab.config.conf_folder import folder

IN_FULL = hydra.compose
LOAD = FileConfigSource.load_config
INTERPOLATION = defaults_list._create_interpolation_map
GROUPS = {path.name for path in folder().iterdir()}
VALUE = re.compile(r"(?!hydra\.)(\w+)(\.\w+)*=")


def compose(name: str, overrides: Sequence[str], **more: bool) -> DictConfig:
    """Return what `hydra.compose` returns. It is asked for whatever is more than values of keys that there are."""
    if more:
        return IN_FULL(name, list(overrides), **more)
    values = [item for item in overrides if (key := VALUE.match(item)) and key[0][:-1] not in GROUPS]
    try:
        config = copy.deepcopy(_chosen(name, *(item for item in overrides if item not in values)))
        for override in OverridesParser.create().parse_overrides(values):
            assert not override.is_sweep_override()
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
    except Exception:
        return IN_FULL(name, list(overrides))
    return config


def choices_for_interpolation(overrides: object, defaults: Sequence[InputDefault], self_added: bool) -> DictConfig:
    """Return the choices that `${...}` in a defaults list may name; none where there is no such name."""
    named = any("${" in str(item.__dict__) for item in defaults)
    return INTERPOLATION(overrides, defaults, self_added) if named else OmegaConf.create()


def load_config(source: FileConfigSource, config_path: str) -> ConfigResult:
    """Return what `source.load_config` returns; the files of conf/ are read once."""
    own = Path(source.path) == folder()
    return copy.deepcopy(_loaded(source.provider, config_path)) if own else LOAD(source, config_path)


@functools.cache
def _loaded(provider: str, config_path: str) -> ConfigResult:
    return LOAD(FileConfigSource(provider, str(folder())), config_path)


@functools.cache
def _chosen(*given: str) -> DictConfig:
    return IN_FULL(given[0], list(given[1:]))
