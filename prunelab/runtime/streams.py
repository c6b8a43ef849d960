"""Standard streams that survive errors of writing, and `say`, which prints control characters as escapes."""

import contextlib
import io
import logging
import os
import sys
import threading
from typing import TextIO

from prunelab.text import visible


class Lasting(io.TextIOWrapper):
    """Text on a file descriptor; what its encoding lacks becomes `?`. After an error, what is written is dropped.

    Args:
        fd: stays open.
        like: the stream whose encoding and buffering are taken over.
    """

    def __init__(self, fd: int, like: TextIO | None) -> None:
        encoding, lines = getattr(like, "encoding", None), getattr(like, "line_buffering", True)
        direct = bool(getattr(like, "write_through", False))  # as with python -u
        file = open(fd, "wb", 0 if direct else -1, closefd=False)  # noqa: SIM115
        super().__init__(file, encoding, "replace", line_buffering=lines, write_through=direct)

    def write(self, text: str) -> int:
        """Write text, or drop it if nobody can read it any more."""
        try:
            return super().write(text)
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        """Write what is buffered, or drop it."""
        try:
            super().flush()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)


def make_lasting() -> None:
    """Put `Lasting` streams in the place of this process's stdout and stderr; call it first in a command."""
    for fd in range(3):  # else the next file that is opened would become the stdout of libraries and processes
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    threading.excepthook = _exception_in_thread
    if logging.lastResort is not None:  # which prints warnings where Hydra has not set up logging
        logging.lastResort.setFormatter(VisibleFormatter())
    for fd, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and not isinstance(stream, Lasting):  # a test's or a notebook's stays
            with contextlib.suppress(OSError, AttributeError):
                stream.flush()
            setattr(sys, name, Lasting(fd, stream))


def _exception_in_thread(caught: threading.ExceptHookArgs) -> None:
    """Print the exception of a thread, but not of TensorBoard's writers, which raise it in the main thread, too."""
    if not type(caught.thread).__module__.startswith("tensorboard."):
        threading.__excepthook__(caught)


def say(text: object, *, error: bool = False, one_line: bool = False) -> None:
    """Print a text with its control characters visible. All commands print by this; a run's console is beside its bar.

    Args:
        error: print on stderr, not on stdout.
        one_line: write line breaks as escapes, too.
    """
    print(visible(str(text), "" if one_line else "\n\t"), file=sys.stderr if error else sys.stdout, flush=True)


class VisibleFormatter(logging.Formatter):
    """Formats log lines with their control characters visible."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return visible(super().format(record))
