"""The launcher `hydra/launcher=pool`. Hydra finds launchers only in the namespace package `hydra_plugins`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from prunelab.sweeps.pool import Pool


class PoolLauncher(Launcher):
    """Run the jobs of a sweep in prunelab's pool of processes.

    Args:
        n_jobs: number of jobs at once; None: as many as cores and memory allow, one on a GPU.
    """

    def __init__(self, n_jobs: int | None = None) -> None:
        self.n_jobs = n_jobs
        self.pool: Pool | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Start the pool."""
        from prunelab.sweeps.pool import Pool  # late, since every Hydra application here imports this file

        self.pool = Pool(hydra_context, task_function, config, self.n_jobs)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs. Nothing is returned: each job's folder says how it ended."""
        assert self.pool is not None
        self.pool.run(job_overrides, initial_job_idx)
        return []
