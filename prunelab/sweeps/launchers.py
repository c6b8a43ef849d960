"""What Hydra's launchers need beside their own defaults: joblib, submitit, Ray. None of them is imported here."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

# Not in conf/hydra/launcher/: Hydra warns of a file that has the name of a plugin's config.
DEFAULTS: dict[str, dict[str, Any]] = {
    "submitit_local": {"timeout_min": 100_000},  # its own would end every job after an hour
    "ray": {
        "ray.init.address": "local",  # not a Ray that happens to run
        "ray.init.include_dashboard": False,
        "ray.init.log_to_driver": False,
        "ray.init.logging_level": "warning",
        "ray.remote.max_retries": 0,  # a sweep starts again what was killed, and sees which job does it every time
    },
}
RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback alone, whatever the system; an address of 127.0.0.1 is ignored
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what Ray will do anyway, and warns of until then
}
# What launchers raise when a worker was killed: joblib, submitit, Ray.
KILLED = ("TerminatedWorkerError", "BrokenProcessPool", "UncompletedJobError", "FailedJobError", "WorkerCrashedError")


def prepare(config: DictConfig) -> None:
    """Sets what workers inherit, and defaults that fit, in place; ends the process if the launcher is not there.

    Args:
        config: of a sweep, before its launcher is made.
    """
    launcher, name = config.hydra.launcher, str(config.hydra.runtime.choices["hydra/launcher"])
    if launcher._target_ not in Plugins.instance().class_name_to_class:
        sys.exit(f"prunelab: hydra/launcher={name}: is not installed")
    if name == "basic":
        return
    # Jobs side by side with several threads each are ten times slower. A number that the user gave stays.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    given = {item.lstrip("+").partition("=")[0] for item in config.hydra.overrides.hydra}
    if "hydra.launcher.ray.init.address" in given:  # a cluster has an address, a dashboard … of its own
        return
    for key, value in RAY.items():
        os.environ.setdefault(key, value)
    for key, value in DEFAULTS.get(name, {}).items():
        if f"hydra.launcher.{key}" not in given:
            OmegaConf.update(launcher, key, value, force_add=True)
    if name == "submitit_local" and config.hydra.sweeper.max_batch_size is None:
        config.hydra.sweeper.max_batch_size = os.cpu_count()  # it starts a batch at once, or else all jobs


def killed(error: BaseException) -> bool:
    """Whether a worker was killed. Returns when no job of the launcher runs any more.

    With joblib it is the end of the whole pool, and of the jobs in it. Submitit and Ray leave the others to run, beside
    those that are started again: they are waited for, and ended.
    """
    if type(error).__name__ not in KILLED:
        return False
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if "submitit" in frame.f_code.co_filename:
            for job in frame.f_locals.get("jobs", ()):
                job.wait()
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()
    return True
