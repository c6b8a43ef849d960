"""SIGTERM and Ctrl-C: noted at once, obeyed at the next batch, so that a checkpoint can be written first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class InterruptedRun(BaseException):
    """A signal asked the run to stop. Not an `Exception`: nothing but the run itself may catch it.

    Attributes:
        late: whether the run had come to its end before it was obeyed.
    """

    def __init__(self, number: int, late: bool = False) -> None:
        self.late = late
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_status = 128 + number  # 130 for Ctrl-C, 143 for SIGTERM


@contextmanager
def graceful() -> Iterator[Callable[[], None]]:
    """Yields a function that raises `InterruptedRun` if a signal has come since. A second signal acts as it always did.

    One that came too late to stop this run is obeyed at its end: a sweep must not go on to its next job.

    Outside the main thread, where Python allows no handlers, the function does nothing.
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
