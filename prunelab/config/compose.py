"""Composing a config from `conf/` with Hydra; run folders; and the command line that this process was given."""

import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from prunelab.config import help_table, messages, python_values
from prunelab.config.check import check
from prunelab.config.check import plain as plain
from prunelab.config.conf_folder import folder as folder
from prunelab.config.digest import NEVER_COMPARED
from prunelab.config.schema import Config
from prunelab.config.typed_names import NAMING, trusting
from prunelab.errors import ConfigError
from prunelab.runtime.json_data import read_json

POOL = "hydra_plugins.prunelab_pool.PoolLauncher"
BATCHED = "hydra_plugins.prunelab_batched.BatchedLauncher"
# Its names; joblib is that of 0.1.0, and where Hydra's plugin of that name is installed, its keys are valid too.
POOLS = ("pool", "joblib")
_made: list[str] = []  # the folders that this process made


def new_folder(path: str) -> str:
    """Make the folder `path`, or `path_2`, `path_3` … if another run took it in the same second; return its path."""
    for number in range(1, 1_000_000):
        chosen = Path(path if number == 1 else f"{path}_{number}")
        chosen.parent.mkdir(parents=True, exist_ok=True)
        try:
            chosen.mkdir()
        except FileExistsError:
            continue
        _made.append(str(chosen))
        return str(chosen)
    raise FileExistsError(path)


def compose(*overrides: str, **keys: object) -> DictConfig:
    """Compose a config as the command line does, and check it.

    Args:
        overrides: as on the command line, such as `"train.epochs=2"`.
        keys: overrides as Python values; see `prunelab.config.python_values.overrides`.

    Raises:
        ConfigError: for an override that is not valid.
    """
    return compose_checked(*typed([*overrides, *python_values.overrides(keys)]))


def typed(arguments: Sequence[str]) -> list[str]:
    """Return what the user typed, with trust in the classes and functions that it names. See `trusting`."""
    if not any(NAMING.match(argument) for argument in arguments):
        return list(arguments)
    with own_hydra() as loader:
        return trusting(arguments, loader)


def compose_checked(*overrides: str) -> DictConfig:
    """Compose a config of overrides that a file may have said: they name only what is trusted."""
    if any("hydra.searchpath" in item for item in overrides):
        raise ConfigError("hydra.searchpath: only `prunelab run` and `prunelab sweep` take config files from elsewhere")
    with explained(overrides):
        config = compose_raw(*overrides)
        check(config)  # which resolves interpolations
        return config


@contextmanager
def explained(overrides: Sequence[str]) -> Iterator[None]:
    """Turn what Hydra raises about these overrides into a `ConfigError`."""
    try:
        yield
    except ConfigError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # Hydra raises ValueError for strategy=3
        raise ConfigError(messages.explain(error, overrides, compose_raw)) from error


def spelled(overrides: Sequence[str]) -> list[str]:
    """Return overrides as Hydra can read them.

    It has no keys below one that is true or false, such as `compact.round_to`, and no group at null, such as `data`.
    """
    renamed = [re.sub(r"^(\+{0,2})compact\.round_to=", r"\1round_to=", override) for override in overrides]
    return [re.sub(r"^(data|model)=null$", r"~\1", override) for override in renamed]


def compose_raw(*overrides: str, **more: Any) -> DictConfig:
    """Compose a config without checking it; `more` are keyword arguments of `hydra.compose`.

    Raises:
        ConfigError: if a choice is a path.
        HydraException, OmegaConfBaseException: if it cannot be composed.
    """
    from hydra import compose as hydra_compose

    check_choices(overrides)
    with own_hydra():
        return hydra_compose("config", spelled(overrides), **more)


def check_choices(overrides: Sequence[str]) -> None:
    """Raise ConfigError if an override leads out of `conf/`, as `model=../../x` does: Hydra would trust that file."""
    for item in overrides:
        key, _, value = item.lstrip("+~").partition("=")
        group = key.partition("@")[0].strip()
        if ".." in key or (".." in value and ("/" in group or (folder() / group).is_dir())):
            raise ConfigError(f"{item}: must be the name of a choice, not a path")


@contextmanager
def own_hydra() -> Iterator[ConfigLoader]:
    """Set Hydra up for `conf/`; a Hydra application that is running, prunelab or the caller's, is left as it was."""
    from hydra import initialize_config_dir

    hydra = GlobalHydra.instance()
    outer, hydra.hydra = hydra.hydra, None
    try:
        with initialize_config_dir(str(folder()), version_base="1.3"):
            yield hydra.config_loader()
    finally:
        GlobalHydra.instance().hydra = outer  # another object now: Hydra puts back a copy that it made


def settings(config: DictConfig) -> DictConfig:
    """Return what Hydra composed without the settings of Hydra itself."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def in_sweep() -> bool:
    """Return whether this process runs a job of a sweep (`--multirun`)."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def telling() -> list[str] | None:
    """Return the overrides that distinguish this job of a sweep; all of them for a single run; None from Python."""
    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    if not in_sweep():
        return list(hydra.overrides.task)
    try:
        jobs = read_json(Path(hydra.runtime.cwd) / hydra.sweep.dir / "sweep.json")["jobs"]
        given = jobs[hydra.job.num]
    except (OSError, ValueError, LookupError, TypeError):  # written by a sweeper that is not Hydra's own
        jobs, given = [], list(hydra.overrides.task)
    common = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    return [item for item in given if item not in common]


def label(overrides: Sequence[str] | None) -> str:
    """Return overrides as the name of a folder, without those that change no experiment: `strategy=l1_seed=0`."""
    told = [item for item in overrides or () if item.lstrip("+").partition("=")[0] not in NEVER_COMPARED]
    return re.sub(r"[^\w=.+-]+", "-", "_".join(told))[:100] or "defaults"


def run_folder(outputs: str) -> Path:
    """Return the folder that Hydra made for this job; from Python, a new one of the same form."""
    if HydraConfig.initialized():
        return Path(HydraConfig.get().runtime.output_dir)
    return Path(new_folder(time.strftime(f"{outputs}/%Y-%m-%d/%H-%M-%S")))


def discard_run_folder() -> None:
    """Remove the folder that Hydra made for a job that was refused; the jobs of a sweep keep theirs.

    A folder that holds the record of an epoch or a round stays.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    trained = any(len(table.read_bytes().splitlines()) > 1 for table in folder.glob("*.csv") if table.is_file())
    if not trained and not in_sweep() and str(folder) in map(os.path.abspath, _made):
        shutil.rmtree(folder, ignore_errors=True)
        for parent in list(folder.relative_to(Path.cwd()).parents)[:-1] if folder.is_relative_to(Path.cwd()) else ():
            if any(parent.iterdir()):
                break
            parent.rmdir()  # the day's folder, if this was its first run


def is_refusal(error: Exception) -> bool:
    """Return whether Hydra refused the command line with a bare ValueError, before any job began (`strategy=3`)."""
    return isinstance(error, ValueError) and not _made


def asked_folder(overrides: Sequence[str]) -> Path:
    """Return the folder that a command line writes to, as far as the overrides say."""
    given = dict(item.partition("=")[::2] for item in overrides)
    chosen = given.get("hydra.run.dir") or given.get("hydra.sweep.dir") or (_made and _made[-1])
    return Path(chosen or given.get("outputs") or "outputs")


def command(overrides: Sequence[str] | None = None) -> str:
    """Return the command line of these overrides; None: of this process's job, and an empty text without one."""
    if overrides is None and HydraConfig.initialized():
        overrides = HydraConfig.get().overrides.task
    return "" if overrides is None else " ".join(["python -m prunelab", *map(shlex.quote, overrides)])


# On import, since every process that composes needs them, a launcher's workers too. Cached, as Hydra's own `now` is.
ConfigStore.instance().store(name="schema", node=Config)
for launcher in POOLS:
    ConfigStore.instance().store(group="hydra/launcher", name=launcher, node={"_target_": POOL, "n_jobs": None})
ConfigStore.instance().store(group="hydra/launcher", name="batched", node={"_target_": BATCHED, "width": None})
OmegaConf.register_new_resolver("new_folder", new_folder, replace=True, use_cache=True)
OmegaConf.register_new_resolver("help_keys", help_table.table, replace=True)
