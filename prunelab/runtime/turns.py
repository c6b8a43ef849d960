"""Jobs that take turns, each in a thread of one process: only one runs at a time, until it would wait for something."""

import time
from collections.abc import Callable
from contextvars import ContextVar
from threading import Semaphore, Thread
from typing import Any, TypeVar

T = TypeVar("T")


class Turn:
    """A job in a thread of its own. It runs only between a `resume` and its next `pause`, so it needs no locks.

    Args:
        job: what the thread runs.
        interrupt: raises `InterruptedRun` if a signal asked the process to stop.
        width: number of jobs that are trained as one, at most.
        told: called with the reason if the job cannot be trained with others.
        shared: what all jobs of the process have in common, by name.

    Attributes:
        request: what the job waits for; None if it can go on.
        task: a function that the job is to call in its thread when it is resumed.
        error: what ended the request of this job, or the job itself.
        ended: whether the job has ended.
    """

    def __init__(
        self,
        job: Callable[[], object],
        interrupt: Callable[[], None] = lambda: None,
        width: int = 1,
        told: Callable[[str], None] = lambda reason: None,
        shared: dict[str, Any] | None = None,
    ) -> None:
        self.job, self.interrupt, self.width, self.told = job, interrupt, width, told
        self.shared = {} if shared is None else shared
        self.request: Any = None
        self.task: Callable[[], None] | None = None
        self.error: BaseException | None = None
        self.ended = False
        self._go, self._back = Semaphore(0), Semaphore(0)
        self._thread = Thread(target=self._run, daemon=True)

    def resume(self) -> None:
        """Let the job go on; return when it pauses or has ended."""
        if not self._thread.is_alive():
            self._thread.start()
        self._go.release()
        self._back.acquire()

    def pause(self) -> None:
        """Let others go on, until this job is resumed. To be called by the job."""
        self._back.release()
        self._go.acquire()
        if self.task is not None:
            task, self.task = self.task, None
            task()
        self.interrupt()

    def ask(self, request: object) -> None:
        """Wait until a request is done. To be called by the job. Raises what has ended the request."""
        self.request, self.error = request, None
        try:
            while self.request is not None:
                self.pause()
        finally:
            self.request = None
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        self._go.acquire()
        TURN.set(self)
        try:
            self.job()
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True
            self._back.release()


# The job of this thread. What waits for a lock, or trains, is called by way of Hydra, which hands nothing on.
TURN: ContextVar[Turn | None] = ContextVar("turn", default=None)


def wait(seconds: float) -> None:
    """Wait; where jobs take turns, let the others go on instead."""
    turn = TURN.get()
    if turn is None:
        time.sleep(seconds)
    else:
        turn.pause()


def shared(name: str, make: Callable[[], T]) -> T:
    """Return what `make` returns; where jobs take turns, what it returned for the first that asked under this name."""
    turn = TURN.get()
    if turn is None:
        return make()
    if name not in turn.shared:
        turn.shared[name] = make()
    found: T = turn.shared[name]
    return found
