"""One job of a sweep, in the process that runs it: whether to run it now, and the note of its start and end."""

import dataclasses
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from prunelab import report
from prunelab.config import compose as composing
from prunelab.runtime.interrupt import InterruptedRun
from prunelab.sweeps.notes import Plan, Tries, locked
from prunelab.sweeps.order import Job


@contextmanager
def attempt() -> Iterator[bool]:
    """Yield whether the job of this process is to run now; note that it started, and that it completed or failed.

    A job that neither completes nor fails was killed or interrupted; its note then counts one more start. An experiment
    outside a sweep always runs, and nothing is noted.
    """
    if not composing.in_sweep():
        yield True
        return
    hydra = HydraConfig.get()
    sweep, folder = Path(hydra.runtime.cwd) / hydra.sweep.dir, Path(hydra.runtime.output_dir)
    with locked(sweep, hydra.job.num):  # an earlier start of the same job may still be running
        plan, noted = Plan.read(sweep), Tries.now(folder)
        if noted.ended or (plan and plan.turn is not None and hydra.job.num not in plan.turn):
            yield False
            return
        dataclasses.replace(noted, tries=noted.tries + 1).write(folder)
        try:
            yield True
        except BaseException as error:
            leaves = not isinstance(error, Exception)  # by the user's code, which must not end the other jobs
            ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as in the pool: it is not Ctrl-C then
            if isinstance(error, InterruptedRun) or (isinstance(error, KeyboardInterrupt) and not ignored):
                raise
            report.note_failure(folder, repr(error) if leaves else str(error))
            dataclasses.replace(Tries.now(folder), ended=True).write(folder)
            if leaves:
                raise RuntimeError(repr(error)) from error
            raise
        dataclasses.replace(Tries.now(folder), ended=True).write(folder)


def start(job: Job, context: HydraContext, task: TaskFunction, config: DictConfig) -> None:
    """Compose a job's config and run the task, as Hydra's own launcher does.

    What the experiment raises is not raised here, but noted in the job's folder.
    """
    settings = context.config_loader.load_sweep_config(config, list(job.overrides))
    with open_dict(settings):
        settings.hydra.job.id = settings.hydra.job.num = job.number
    run_job(task, settings, "hydra.sweep.dir", "hydra.sweep.subdir", context)


def is_complete(config: DictConfig) -> bool:
    """Return whether this job of a sweep completed before, with the same config, and may be reused."""
    if not (composing.in_sweep() and config.reuse):
        return False
    earlier = report.read_run(composing.run_folder(config.outputs))
    return earlier.status == "completed" and not earlier.problems and earlier.config == composing.plain(config)
