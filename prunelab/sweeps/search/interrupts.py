"""Signals in a search: those that come between trials, and those that come too late to stop a trial."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from prunelab.runtime.interrupt import CAUGHT, InterruptedRun


@contextmanager
def noted() -> Iterator[Callable[[], None]]:
    """Yield a function that raises `InterruptedRun` if SIGINT or SIGTERM has come, whichever handler took it.

    An experiment obeys a signal at its next batch. After its last batch it completes, and its handler forgets the
    signal. Python also writes the number of every signal into a pipe (`set_wakeup_fd`), which is read here.
    """
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise InterruptedRun(number)

    def check() -> None:
        with contextlib.suppress(BlockingIOError):  # there is nothing to read
            for number in filter(CAUGHT.__contains__, os.read(reading, 4096)):
                raise InterruptedRun(number)

    before = {number: signal.signal(number, stop) for number in CAUGHT}
    fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield check
    finally:
        signal.set_wakeup_fd(fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)
