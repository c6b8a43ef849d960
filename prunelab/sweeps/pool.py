"""The pool of a sweep: a process for each job, forked from one that has imported torch, as many at once as cores."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from multiprocessing import connection, forkserver, get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path

from hydra.core.utils import setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from prunelab.errors import one_line
from prunelab.runtime import device
from prunelab.runtime.interrupt import InterruptedRun, graceful
from prunelab.runtime.streams import say
from prunelab.sweeps.job import start
from prunelab.sweeps.order import Job, next_job

PRELOADED = ("numpy.random", "prunelab.experiment.api", "prunelab.experiment.run", "prunelab.tracking.tensorboard")
MEMORY_PER_JOB = 2**29  # bytes beside what all processes share; LeNet on MNIST takes a third of it
PAUSE = 0.5  # seconds between two looks for Ctrl-C
GRACE = 30.0  # seconds in which a job that is to stop may write its checkpoint


class WorkerKilledError(Exception):
    """Processes of jobs were killed; the other jobs ran to their ends."""


class Pool:
    """Runs the jobs of a sweep. A process that is killed ends its own job only.

    On Linux the processes share the memory that torch takes; elsewhere each imports torch itself.

    Args:
        context, task, config: what Hydra gives to a launcher.
        n_jobs: number of jobs at once; None: as many as cores and memory allow, one on a GPU.
    """

    def __init__(self, context: HydraContext, task: TaskFunction, config: DictConfig, n_jobs: int | None) -> None:
        self.context, self.task, self.config, self.n_jobs = context, task, config, n_jobs
        self.processes = get_context("forkserver") if sys.platform == "linux" else get_context("spawn")
        # Inherited by the server and all jobs: on Ctrl-C this process stops them.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            if sys.platform == "linux":
                self.processes.set_forkserver_preload(list(PRELOADED))
                forkserver.ensure_running()  # it imports torch while Hydra composes the jobs
        finally:
            signal.signal(signal.SIGINT, before)

    def size(self) -> int:
        """Return how many jobs run at once."""
        if self.n_jobs is not None:
            return self.n_jobs
        if self.config.device != "cpu" and self._has_gpu():
            return 1
        cores = device.cores() // device.threads(self.config.threads)
        return max(1, min(cores, available_memory() // MEMORY_PER_JOB))

    def run(self, overrides: Sequence[Sequence[str]], first: int) -> None:
        """Run jobs, the first of which has the number `first`, to their ends.

        Raises:
            WorkerKilledError: if the process of a job was killed, when the others have ended.
            InterruptedRun: after Ctrl-C or SIGTERM, when all processes have ended.
        """
        waiting = [Job(number, given) for number, given in enumerate(overrides, first)]
        running: dict[int, tuple[BaseProcess, Job]] = {}
        ended, killed, size = list[Job](), False, self.size()
        with graceful() as interrupt:
            try:
                while waiting or running:
                    while waiting and len(running) < size:
                        job = next_job(waiting, [job for _, job in running.values()], ended)
                        waiting.remove(job)
                        process = self._start(job)
                        running[process.sentinel] = process, job
                    over = connection.wait(running, PAUSE)
                    for sentinel in [key for key in running if key in over]:
                        process, job = running.pop(sentinel)
                        process.join()
                        ended.append(job)
                        killed |= process.exitcode not in (0, 1)
                    interrupt()
            finally:
                _stop([process for process, _ in running.values()])
        if killed:
            raise WorkerKilledError("the process of a job was killed")

    def _start(self, job: Job) -> BaseProcess:
        process = self.processes.Process(target=_run, args=(job, self.context, self.task, self.config))
        process.start()
        return process

    def _has_gpu(self) -> bool:
        """Ask in a process of its own: this one does not import torch."""
        process = self.processes.Process(target=_exit_if_gpu, daemon=True)
        process.start()
        process.join()
        return process.exitcode == 1


def available_memory() -> int:
    """Return the bytes that processes may still take, by the kernel and the container; sys.maxsize if unknown."""
    found = [sys.maxsize]
    with contextlib.suppress(OSError, KeyError, ValueError):  # ValueError: `max`, no limit
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(1024 * int(lines["MemAvailable"].split()[0]))
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found)


def _run(job: Job, context: HydraContext, task: TaskFunction, config: DictConfig) -> None:
    """Run one job in this process."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    setup_globals()
    try:
        start(job, context, task, config)
    except InterruptedRun as error:
        sys.exit(error.exit_status)
    except Exception as error:
        say(f"prunelab: job {job.number}: {one_line(error)}", error=True)
        sys.exit(1)


def _stop_with_parent() -> None:
    """Stop this process, as by SIGTERM, when the sweep's process is gone."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def _exit_if_gpu() -> None:
    import torch

    sys.exit(int(torch.cuda.is_available() or torch.backends.mps.is_available()))


def _stop(processes: Iterable[BaseProcess]) -> None:
    """Stop jobs: each writes a checkpoint; kill those that take too long, and all after a second Ctrl-C."""
    for process in processes:
        process.terminate()
    try:
        for process in processes:
            process.join(GRACE)
    finally:
        for process in processes:
            process.kill()
            process.join()
