"""Settings for Hydra's launchers that run several jobs at once: joblib, submitit, Ray. Imports none of them."""

from __future__ import annotations

import os
import sys
from typing import Any

from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

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
# Names of the errors that joblib, submitit and Ray raise when a worker was killed.
KILLED = ("TerminatedWorkerError", "BrokenProcessPool", "UncompletedJobError", "FailedJobError", "WorkerCrashedError")


def prepare(config: DictConfig) -> None:
    """Set the environment that workers inherit, and better defaults of the launcher, in place in `config`.

    Ends the process if the launcher is not installed.
    """
    launcher, name = config.hydra.launcher, str(config.hydra.runtime.choices["hydra/launcher"])
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
        config.hydra.sweeper.max_batch_size = os.cpu_count()  # otherwise it starts all jobs at once


def killed(error: BaseException) -> bool:
    """Return whether a launcher raised this error because a worker was killed."""
    return type(error).__name__ in KILLED


def shut_down() -> None:
    """End the workers that a launcher leaves behind. Only Ray does; joblib ends its pool, submitit's jobs end alone."""
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()
