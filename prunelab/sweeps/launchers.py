"""Settings of prunelab's pool, submitit and Ray, which run several jobs at once. Imports neither submitit nor Ray."""

import os
import sys
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from prunelab.config.compose import POOL, POOLS
from prunelab.runtime import device
from prunelab.sweeps.pool import WorkerKilledError

# Not in conf/hydra/launcher/: Hydra warns about a file that has the name of a plugin's config.
DEFAULTS: dict[str, dict[str, str | int | bool]] = {
    "submitit_local": {"timeout_min": 100_000},  # submitit's own default ends every job after an hour
    "ray": {
        "ray.init.address": "local",  # starts a Ray of its own, instead of joining one that happens to run
        "ray.init.include_dashboard": False,
        "ray.init.log_to_driver": False,
        "ray.init.logging_level": "warning",
        "ray.remote.max_retries": 0,  # the sweep itself starts killed jobs again, and counts their tries
    },
}
RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listens on loopback only; Ray ignores an address of 127.0.0.1
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's future default; without it Ray warns
}
# Names of the errors that submitit and Ray raise when a worker was killed.
KILLED = ("UncompletedJobError", "FailedJobError", "WorkerCrashedError", "NodeDiedError")


def prepare(config: DictConfig) -> None:
    """Set the environment that workers inherit, and better defaults of the launcher, in place in `config`.

    Ends the process if the launcher is not installed, or if `n_jobs` or `width` is not a whole number ≥ 1.
    """
    launcher, name = config.hydra.launcher, str(config.hydra.runtime.choices["hydra/launcher"])
    if name in POOLS:
        n_jobs = None if launcher.n_jobs == -1 else launcher.n_jobs  # joblib's word for all cores
        config.hydra.launcher = {"_target_": POOL, "n_jobs": _at_least_1("n_jobs", n_jobs, "all cores")}
        launcher = config.hydra.launcher
    if name == "batched":
        _at_least_1("width", launcher.width, "all jobs, at most 256")
    if launcher._target_ not in Plugins.instance().class_name_to_class:
        sys.exit(f"prunelab: hydra/launcher={name}: is not installed")
    if name == "basic":
        return
    # Jobs that run at once with several threads each are ten times slower. A number that the user set is kept.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    overrides: Any = OmegaConf.to_container(config.hydra.overrides.hydra)  # may hold `${hydra.job.num}`, unresolved
    given = {item.lstrip("+").partition("=")[0] for item in overrides}
    if "hydra.launcher.ray.init.address" in given:  # a cluster that is there has its own settings
        if not Path(config.outputs).is_absolute():
            sys.exit(f"prunelab: outputs={config.outputs}: must be the absolute path of a folder that all nodes share")
        OmegaConf.update(launcher, "ray.init.object_store_memory", None, force_add=True)  # Hydra's default is refused
        OmegaConf.update(launcher, "ray.remote.max_retries", DEFAULTS["ray"]["ray.remote.max_retries"], force_add=True)
        return
    for variable, setting in RAY.items():
        os.environ.setdefault(variable, setting)
    for key, value in DEFAULTS.get(name, {}).items():
        if f"hydra.launcher.{key}" not in given:
            OmegaConf.update(launcher, key, value, force_add=True)
    if name == "submitit_local" and config.hydra.sweeper.max_batch_size is None:
        config.hydra.sweeper.max_batch_size = device.cores()  # otherwise it starts all jobs at once


def _at_least_1(key: str, given: object, null: str) -> int | None:
    """Return the value of a launcher's key; end the process unless it is null or a whole number ≥ 1."""
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given >= 1):
        return given
    sys.exit(f"prunelab: hydra.launcher.{key}={given}: must be null ({null}) or a whole number ≥ 1")


def killed(error: BaseException | None) -> bool:
    """Return whether a launcher raised this error because a worker was killed."""
    return isinstance(error, WorkerKilledError) or type(error).__name__ in KILLED


def shut_down() -> None:
    """End the workers that a launcher leaves behind. Only Ray does."""
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()
