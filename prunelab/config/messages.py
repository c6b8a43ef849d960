"""Errors of Hydra and OmegaConf in one line: the key, the value, what is allowed."""

import re
from collections.abc import Callable, Sequence

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from prunelab.config.conf_folder import choices
from prunelab.config.schema import OPTIONAL, REQUIRED, allowed, names
from prunelab.config.unknown_key import hint, nearest, unknown_key
from prunelab.errors import ConfigError


def explain(error: BaseException, overrides: Sequence[str], compose: Callable[..., DictConfig]) -> str:
    """Return one line that explains an error which Hydra or OmegaConf raised while composing these overrides.

    Args:
        compose: composes without the override that failed, to list the keys that exist beside it.
    """
    return " ".join(_explanation(error, overrides, compose).split())


def _explanation(error: BaseException, overrides: Sequence[str], compose: Callable[..., DictConfig]) -> str:
    given = dict(item.lstrip("+~").partition("=")[::2] for item in overrides)
    if isinstance(error, MissingConfigException) and error.options:
        return _no_such_choice(str(error.missing_cfg_file), list(error.options))
    if isinstance(error, ConfigError) and re.match(r"[\w.\[\]]+=", str(error)):
        return _first_line(str(error))  # it names the key already
    if unwritable := _unwritable(error):
        if isinstance(unwritable, FileNotFoundError):
            return f"{unwritable.filename}: no such file"
        why = f"cannot be written ({unwritable.strerror or unwritable}); outputs= chooses another folder"
        return f"{unwritable.filename}: {why}" if unwritable.filename else str(unwritable)
    causes = [error, error.__cause__, error.__context__]
    text = "\n".join(str(cause) for cause in causes if cause is not None)
    if match := re.search(r"Could not override '([^']+)'", text):
        if match[1] == "sweep":
            return f"sweep={given['sweep']}: is a sweep, not a part of an experiment; must be +sweep={given['sweep']}"
        part, _, option = match[1].rpartition(".")
        if option != "_target_" and (target := given.get(f"{part}._target_")):
            value = given.get(match[1], "")
            return f"{match[1]}={value}: not in the config; +{match[1]}={value} passes it to {target}"
        return unknown_key(match[1], given.get(match[1], ""), _siblings(match[1], overrides, compose))
    if match := re.search(r"Could not find '([^']+)'|No match in the defaults list.*'([^']+)'", text):
        return (match[1] or match[2]) + ": there is no such choice"
    for cause in causes:
        key = getattr(cause, "full_key", None)
        if isinstance(cause, ConfigKeyError) and key:
            return unknown_key(key, given.get(key, ""), _siblings(key, overrides, compose))
        if isinstance(cause, OmegaConfBaseException) and key:
            may = allowed(key)
            return f"{key}={given.get(key, '…')}: {f'must be {may}' if may else _first_line(str(cause))}"
    for key in (key for key in (*REQUIRED, *OPTIONAL, "strategy", "experiment") if key in given):
        if "Config group override" in text:
            return f"{key}={given[key]}: must be one of {', '.join(choices(key))}"
        return f"{key}={given[key]}: {_first_line(str(error))}"
    return f"{' '.join(overrides)}: {_first_line(str(error))}"


def _no_such_choice(path: str, options: list[str]) -> str:
    group, _, choice = path.rpartition("/")
    more = '; pip install "prunelab[submitit]" or "prunelab[ray]" adds others' if group == "hydra/launcher" else ""
    there = f"there is no such {group}; there are {', '.join(sorted(options))}"
    return f"{group}={choice}: {there}{more}{hint(nearest(choice, options))}"


def _unwritable(error: BaseException | None) -> OSError | None:
    """Return the first error of the file system in the chain of causes of this one."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _siblings(key: str, overrides: Sequence[str], compose: Callable[..., DictConfig]) -> list[str]:
    """Return the keys of the node that contains `key`."""
    part = key.rpartition(".")[0]
    if beside := [name.rpartition(".")[2] for name in names(part)]:
        return beside
    others = [item for item in overrides if item.lstrip("+~").partition("=")[0] != key]
    try:
        config = compose(*others, return_hydra_config=part.startswith("hydra"))
    except (HydraException, OmegaConfBaseException):
        return []  # the other overrides are wrong too; one message at a time
    node = OmegaConf.select(config, part)
    return [str(name) for name in node if name != "_target_"] if isinstance(node, DictConfig) else []


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), text)
