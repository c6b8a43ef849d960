"""A running sweep, in the process that started it: its starts, the jobs that are left, the table at its end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from filelock import FileLock

from prunelab import report
from prunelab.errors import one_line
from prunelab.runtime import fresh_process
from prunelab.runtime.streams import say
from prunelab.stages import files
from prunelab.sweeps import launchers
from prunelab.sweeps.notes import Plan, Tries, locked
from prunelab.sweeps.progress import Progress
from prunelab.tracking.console import where

SUSPECT = 2  # starts without a new epoch after which a job runs alone, when the others ended
GIVEN_UP = 5  # starts without a new epoch after which a job is not started again
USELESS = 5  # starts of the sweep in a row in which workers were killed before any job began


class Sweep:
    """The sweep of this process, if its command line asks for one.

    A killed worker may end the pool of its launcher. The sweep then starts again for the jobs that did not end. A job
    that was running several times when a worker was killed is started last, alone, and at last given up.
    """

    def __init__(self) -> None:
        self.folder = Path()
        self.started = False
        self.error: Exception | None = None  # of the launcher or of a job
        self._turn: list[int] | None = None  # the jobs of the next start; None for all
        self._history: list[dict[int, Tries]] = []  # what was left before each start
        self._folders: Sequence[Path] = ()
        self._progress: Progress | None = None
        self.lock: FileLock | None = None  # of the folder, until the process ends

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let Hydra's callback find this sweep, in this process and in no other."""
        token = RUNNING.set(self)
        try:
            yield
        finally:
            RUNNING.reset(token)

    def begin(self, folder: Path, jobs: Sequence[Sequence[str]], folders: Sequence[str]) -> None:
        """Write `sweep.json`, to name missing jobs. At the first start, forget notes of earlier sweeps.

        The `folders` of the jobs are below the sweep's `folder`.
        """
        Plan(jobs, self._turn, folders).write(folder)
        if self.started:
            return
        self._folders = [folder / name for name in folders]
        for place in self._folders:
            (place / Tries.FILE).unlink(missing_ok=True)
        fresh_process.share()  # one for all jobs
        say(f"{len(jobs)} jobs → {folder}")
        self.started, self.folder = True, folder
        self._history.append(self._left())
        self._progress = Progress(jobs, self._folders)

    def go_on(self, *, killed: bool) -> bool:
        """Return whether to start again for the jobs that did not end, and say so."""
        if not self.started:
            return False
        if killed:
            self._wait()
        left = self._left()
        clear = [number for number, job in left.items() if job.tries < SUSPECT]
        suspects = [number for number, job in left.items() if SUSPECT <= job.tries < GIVEN_UP]
        if not (clear or suspects) or self._history.count(left) >= (USELESS if killed else 1):
            return False
        self._history.append(left)
        self._turn = clear or [min(suspects, key=lambda number: left[number].tries)]
        why = "a worker was killed; " if killed else ""
        alone = f"job {self._turn[0]} alone, which may be what kills its worker"
        what = "the jobs that are missing" if clear else alone
        say(f"prunelab: {why}starting {what} again", error=True)
        self.error = None  # the line above tells of it
        return True

    def arguments(self, given: Sequence[str]) -> list[str]:
        """Return the command line of the next start: the given one, and from the second start on the same folder."""
        if not self.started:
            return list(given)
        others = [item for item in given if not item.startswith("hydra.sweep.dir=")]
        return [*others, f"hydra.sweep.dir='{self.folder}'"]

    def end(self) -> bool:
        """Print the table of the sweep, if there was one. Return False if a job failed or is missing."""
        if self._progress is None:
            return True
        self._progress.stop()
        jobs = report.read_sweep(self.folder)
        say(report.sweep_text(jobs))
        whole = all(job.status == "completed" and not job.problems for job in jobs)
        needless = whole and launchers.killed(self.error)  # a worker that was killed when its job had ended
        told = any(job.error and job.error in str(self.error) for job in jobs)
        if self.error is not None and not needless and not told:
            say(f"prunelab: {type(self.error).__name__}: {one_line(self.error)}", error=True)
        if any(job.status == "completed" for job in jobs):
            from prunelab.report import dashboard  # late, since it takes a second

            try:
                with files.writing(self.folder):
                    dashboard.write(self.folder)
            except Exception as error:  # all jobs are done, and the table is there
                say(f"prunelab: the sweep's dashboard cannot be written: {one_line(error)}", error=True)
                return False
            say(f"\n{where(self.folder, means=True)}\nreport       prunelab report {self.folder}")
        return whole

    def _left(self) -> dict[int, Tries]:
        """The jobs that did not end since the first start, by number."""
        notes = {number: Tries.now(folder) for number, folder in enumerate(self._folders)}
        return {number: note for number, note in notes.items() if not note.ended}

    def _wait(self) -> None:
        """Return when no job runs any more. Submitit leaves the other jobs running where a worker is killed."""
        launchers.shut_down()
        for number in range(len(self._folders)):
            with locked(self.folder, number):
                pass


# Hydra makes the callback itself and hands it nothing of ours, so that the callback can reach the sweep of its process
# in no other way. This is the only such handle; it is set while Hydra runs, and empty in workers.
RUNNING: ContextVar[Sweep] = ContextVar("sweep")
