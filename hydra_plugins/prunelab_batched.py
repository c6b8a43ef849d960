"""The launcher `hydra/launcher=batched`. Hydra finds launchers only in the namespace package `hydra_plugins`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class BatchedLauncher(Launcher):
    """Run the jobs of a sweep in this process, and train those that train alike as one. Made for a GPU.

    Args:
        width: number of networks that are trained as one; None: as many as there are jobs, at most 256.
    """

    def __init__(self, width: int | None = None) -> None:
        self.width = width
        self.given: dict[str, Any] = {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives."""
        self.given = {"context": hydra_context, "task": task_function, "config": config}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs. Nothing is returned: each job's folder says how it ended."""
        from prunelab.runtime import device

        device.limit_threads(self.given["config"].threads)  # before torch is imported, by what follows
        from prunelab.sweeps import batched

        batched.run(**self.given, width=self.width, overrides=job_overrides, first=initial_job_idx)
        return []
