"""Settings of launchers that run several jobs at once: prunelab's pool, submitit, Ray. Imports none of the last two."""

from __future__ import annotations

import os
import sys
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
KILLED = ("UncompletedJobError", "FailedJobError", "WorkerCrashedError")


def prepare(config: DictConfig) -> None:
    """Set the environment that workers inherit, and better defaults of the launcher, in place in `config`.

    Ends the process if the launcher is not installed, or is given a number of jobs that is none.
    """
    launcher, name = config.hydra.launcher, str(config.hydra.runtime.choices["hydra/launcher"])
    if name in POOLS:
        config.hydra.launcher = {"_target_": POOL, "n_jobs": _n_jobs(launcher.n_jobs)}
        launcher = config.hydra.launcher
    if launcher._target_ not in Plugins.instance().class_name_to_class:
        sys.exit(f"prunelab: hydra/launcher={name}: is not installed")
    if name == "basic":
        return
    # Jobs that run at once with several threads each are ten times slower. A number that the user set is kept.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    overrides: Any = OmegaConf.to_container(config.hydra.overrides.hydra)  # may hold `${hydra.job.num}`, unresolved
    given = {item.lstrip("+").partition("=")[0] for item in overrides}
    if "hydra.launcher.ray.init.address" in given:  # the user's cluster has its own settings
        return
    for variable, setting in RAY.items():
        os.environ.setdefault(variable, setting)
    for key, value in DEFAULTS.get(name, {}).items():
        if f"hydra.launcher.{key}" not in given:
            OmegaConf.update(launcher, key, value, force_add=True)
    if name == "submitit_local" and config.hydra.sweeper.max_batch_size is None:
        config.hydra.sweeper.max_batch_size = device.cores()  # otherwise it starts all jobs at once


def _n_jobs(given: object) -> int | None:
    """Return the key `hydra.launcher.n_jobs`; None for -1, which is joblib's word for all cores."""
    if given is None or given == -1:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        sys.exit(f"prunelab: hydra.launcher.n_jobs={given}: must be null (all cores) or a whole number ≥ 1")
    return given


def killed(error: BaseException) -> bool:
    """Return whether a launcher raised this error because a worker was killed."""
    return isinstance(error, WorkerKilledError) or type(error).__name__ in KILLED


def shut_down() -> None:
    """End the workers that a launcher leaves behind. Only Ray does."""
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()
