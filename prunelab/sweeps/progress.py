"""The progress of a sweep: one line for each job that ended, with the time left. Reads the folders of the jobs."""

import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from prunelab import report
from prunelab.runtime.streams import say
from prunelab.sweeps.notes import Tries
from prunelab.text import percent

PAUSE = 0.5  # seconds between two looks


class Progress:
    """Watch the folders of a sweep's jobs, in a thread; works with any launcher that shares the file system."""

    def __init__(self, jobs: Sequence[Sequence[str]], folders: Sequence[Path]) -> None:
        self.folders = folders
        self.names = report.names(jobs)
        runs = map(report.read_run, folders)
        self.before = {number for number, run in enumerate(runs) if run.status == "completed"}
        self.pending = set(range(len(jobs)))
        self.running: dict[int, tuple[int, float]] = {}  # by number: which try, and when it was first seen
        self.took: list[float] = []  # seconds of each job that ended
        self.workers = 1  # largest number of jobs that were seen running at once
        self.since = time.time()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look a last time; return when nothing more will be printed."""
        if not self._over.is_set():
            self._over.set()
            self._thread.join()
            self.look()

    def look(self) -> None:
        """Print a line for each job that ended since the last look."""
        for number in sorted(self.pending):
            note = Tries.read(self.folders[number])
            if note is None:
                continue
            if note.ended:
                self._end(number)
            elif self.running.get(number, (None,))[0] != note.tries:
                self.running[number] = (note.tries, time.monotonic())
        self.workers = max(self.workers, len(self.running))

    def _watch(self) -> None:
        while not self._over.wait(PAUSE):
            self.look()

    def _end(self, number: int) -> None:
        self.pending.discard(number)
        _, began = self.running.pop(number, (0, None))
        job = report.read_run(self.folders[number])
        done = job.status == "completed"
        if done and number in self.before:
            written = (self.folders[number] / "summary.json").stat().st_mtime
            if written < self.since:
                return  # completed before this sweep began: neither printed nor timed
        if began is not None:
            self.took.append(time.monotonic() - began)
        elif done:
            self.took.append(job.seconds or 0.0)
        accuracy, sparsity = (job.result.get(key) for key in ("test_accuracy", "sparsity"))
        how = f"{percent(accuracy, 2)} at {percent(sparsity)} sparsity" if done else job.error or "no result"
        ended = f"{len(self.names) - len(self.pending)} of {len(self.names)} {'done' if done else 'failed'}"
        say(f"{ended}: {self.names[number]}: {how}{self._left()}", one_line=True)

    def _left(self) -> str:
        """The time left; empty until a job has ended, and at the end."""
        todo = self.pending - self.before
        if not (todo and self.took):
            return ""
        mean, now = statistics.fmean(self.took), time.monotonic()
        left = [max(mean - (now - self.running[n][1]), 0.0) if n in self.running else mean for n in todo]
        longest = max(left) if len(todo) <= self.workers else 0.0
        return in_words(max(sum(left) / self.workers, longest))


def in_words(seconds: float) -> str:
    """Return a time left, rounded because it is an estimate: ` · about 12 min left`."""
    if seconds < 55:
        return f" · about {max(10 * round(seconds / 10), 5)} s left"
    if seconds < 5400:
        return f" · about {round(seconds / 60)} min left"
    return f" · about {seconds / 3600:.1f} h left"
