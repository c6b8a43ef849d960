"""What could not be made at the end of a run: the run goes on, and tells of it in one line each."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prunelab.errors import ConfigError, one_line

log = logging.getLogger(__name__)


class Problems:
    """The problems of a run.

    Attributes:
        lines: one for each.
        decisive: the line of the one after which the numbers of the run cannot be trusted; empty if there is none.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.decisive = ""

    @contextmanager
    def part(self, name: str, *, decisive: bool = False) -> Iterator[None]:
        """Record an error in this part of the run's end, `compact=true` for example, as a problem, and go on.

        After a `decisive` one the numbers of the run cannot be trusted.
        """
        try:
            yield
        except Exception as error:
            self.add(error, name)
            if decisive:
                self.decisive = self.lines[-1]

    def add(self, error: Exception, name: str = "") -> None:
        """Note an error in one line, with the name of the part unless the message tells it."""
        log.info("%s", error, exc_info=error)
        known = isinstance(error, (ConfigError, OSError))
        said = one_line(error) if known else f"{type(error).__name__}: {one_line(error)[:300]}"
        told = not name or said.startswith(name.partition("=")[0]) or isinstance(error, OSError)
        self.lines.append(said if told else f"{name}: {said}")
