"""SIGTERM and Ctrl-C: obeyed at the next batch, after a checkpoint is written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

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
    job. Outside the main thread, where Python allows no signal handlers, the function does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
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
