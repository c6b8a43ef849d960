"""The jobs of a sweep in threads of one process, which take turns; those that train alike are trained as one."""

import contextlib
import functools
import itertools
import logging
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from prunelab import report
from prunelab.errors import one_line
from prunelab.pruning.mask_hooks import step_hooks, step_hooks_removed
from prunelab.runtime.interrupt import InterruptedRun, graceful
from prunelab.runtime.process_state import settings_now, unchanged
from prunelab.runtime.streams import say
from prunelab.runtime.turns import Turn
from prunelab.sweeps.job import start
from prunelab.sweeps.order import Job
from prunelab.training import batched_fit

WIDEST = 256  # networks that are trained as one, unless the user asks for more
PAUSE = 0.05  # seconds between two looks at a lock that another process holds


def run(
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    width: int | None,
    overrides: Sequence[Sequence[str]],
    first: int,
) -> None:
    """Run jobs, the first of which has the number `first`, to their ends; for the others see `Pool`.

    Args:
        width: number of networks that are trained as one; None: as many as there are jobs, at most `WIDEST`.

    Raises:
        InterruptedRun: after Ctrl-C or SIGTERM, when all jobs have written their checkpoints.
    """
    setup_globals()
    width, names = width or min(len(overrides), WIDEST), report.names(overrides)
    shared: dict[str, Any] = {}
    with _many_files(), unchanged(), step_hooks_removed(), graceful() as interrupt:
        step_hooks()  # of all jobs; the first that ends must not remove them

        def turn(job: Job, name: str) -> Turn:
            def told(reason: str) -> None:
                say(f"prunelab: job {job.number} ({name}) trains alone: {reason}", one_line=True)

            def work() -> None:
                try:
                    start(job, context, task, config)
                except Exception as error:
                    say(f"prunelab: job {job.number}: {one_line(error)}", error=True)

            return Turn(work, interrupt, width, told, shared)

        jobs = (Job(number, given) for number, given in enumerate(overrides, first))
        take_turns(itertools.starmap(turn, zip(jobs, names, strict=True)), width, interrupt)


def take_turns(turns: Iterable[Turn], width: int, interrupt: Callable[[], None]) -> None:
    """Resume jobs in turns until all have ended; where all of them wait, train those that wait for steps of one kind.

    Args:
        turns: the jobs; at most `width` have begun and not ended.
        interrupt: raises InterruptedRun after a signal, in this function and in each job.
    """
    coming, running, resume = iter(turns), list[Turn](), _Switch()
    try:
        while running := [*running, *itertools.islice(coming, width - len(running))]:
            interrupt()
            free = [turn for turn in running if turn.request is None]
            for turn in free:
                resume(turn)
            running = [turn for turn in running if not turn.ended]
            if any(turn.ended or turn.request is not None for turn in free):
                continue  # which may have released what others wait for
            alike: dict[Hashable, list[Turn]] = {}
            for turn in running:
                if turn.request is not None:
                    alike.setdefault(turn.request.kind, []).append(turn)
            if not alike:
                time.sleep(PAUSE)
            for group in alike.values():
                group[0].task = functools.partial(_train, group, width, interrupt)
                resume(group[0])
            running = [turn for turn in running if not turn.ended]
    except InterruptedRun:
        for turn in running:
            while not turn.ended:  # each raises InterruptedRun where it waits, and writes its checkpoint
                resume(turn)
        raise


def _train(group: Sequence[Turn], width: int, interrupt: Callable[[], None]) -> None:
    """Take the steps that a group of jobs waits for. Runs in the thread, and with the settings, of its first job."""
    try:
        batched_fit.train([turn.request for turn in group], width, interrupt)
    except Exception as error:
        for turn in group:
            turn.error = error
    for turn in group:
        turn.request = None


class _Switch:
    """Resumes jobs, each with its own settings of the process, and puts back those of the sweep."""

    def __init__(self) -> None:
        self.settings: dict[Turn, Callable[[], None]] = {}

    def __call__(self, turn: Turn) -> None:
        """Resume a job until it pauses or ends."""
        ours, handlers = _settings_now(), list(logging.root.handlers)
        self.settings.pop(turn, ours)()
        turn.resume()
        if not turn.ended:
            self.settings[turn] = _settings_now()
        else:
            for handler in set(logging.root.handlers).difference(handlers):
                handler.close()  # the job's own log
        ours()


def _settings_now() -> Callable[[], None]:
    process, hydra, config = settings_now(), HydraConfig.instance(), HydraConfig.instance().cfg

    def restore() -> None:
        process()
        hydra.cfg = config

    return restore


@contextlib.contextmanager
def _many_files() -> Iterator[None]:
    """Let the process open as many files as it may: each job has several."""
    try:
        import resource
    except ImportError:  # on Windows, which has no such limit
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
