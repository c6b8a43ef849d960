"""SIGTERM and Ctrl-C: obeyed at the next batch, after a checkpoint is written; in a search, between trials too."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from prunelab.runtime.turns import TURN

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class InterruptedRun(BaseException):
    """A signal asked the run to stop. Not an `Exception`, so that no handler of errors catches it.

    Args:
        number: of the signal.
        late: whether the run was complete before the signal was obeyed.

    Attributes:
        exit_status: 130 after Ctrl-C, 143 after SIGTERM.
    """

    def __init__(self, number: int, late: bool = False) -> None:
        self.late = late
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_status = 128 + number


@contextmanager
def graceful() -> Iterator[Callable[[], None]]:
    """Yield a function that raises `InterruptedRun` if a signal has come since. A second signal acts as before.

    A signal that the function did not see is obeyed at the end of the context, so that a sweep does not start its next
    job. Outside the main thread, where Python allows no signal handlers, the function does nothing, or, for a job that
    takes turns, what that of the main thread does.
    """
    if threading.current_thread() is not threading.main_thread():
        turn = TURN.get()
        yield (lambda: None) if turn is None else turn.interrupt
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in CAUGHT}

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        signal.signal(number, before[signal.Signals(number)])

    def check(late: bool = False) -> None:
        if came:
            raise InterruptedRun(came[0], late)

    for number in CAUGHT:
        signal.signal(number, note)
    try:
        yield check
    finally:
        for number in CAUGHT:
            signal.signal(number, before[number])
    check(late=True)


@contextmanager
def noted() -> Iterator[Callable[[], None]]:
    """Let SIGINT and SIGTERM raise `InterruptedRun` anywhere; the next one, while a command stops, ends the process.

    Yields:
        A function that raises `InterruptedRun` if a signal has come, whichever handler took it: an experiment obeys
        one at its next batch, but after its last batch it completes, and its handler forgets the signal. Python also
        writes the number of every signal into a pipe (`set_wakeup_fd`), which this function reads.
    """
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)

    def stop(number: int, frame: FrameType | None = None) -> NoReturn:
        for one in CAUGHT:
            signal.signal(one, _leave)
        raise InterruptedRun(number)

    def check() -> None:
        with contextlib.suppress(BlockingIOError):  # there is nothing to read
            for number in filter(CAUGHT.__contains__, os.read(reading, 4096)):
                stop(number)

    before = {number: signal.signal(number, stop) for number in CAUGHT}
    fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield check
    finally:
        signal.set_wakeup_fd(fd)
        for number, handler in before.items():
            if signal.getsignal(number) in (stop, _leave):  # else `ignore` was called
                signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def ignore() -> None:
    """Ignore SIGINT and SIGTERM from now on: the command is over, and the interpreter's end takes a moment."""
    for number in CAUGHT:
        signal.signal(number, signal.SIG_IGN)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    os.write(2, b"prunelab: stopped\n")
    os._exit(128 + number)
