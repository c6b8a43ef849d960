"""When a callback prunes: a list of amounts, one every so many epochs or steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prunelab.errors import ConfigError


@dataclass(frozen=True)
class Timetable:
    """Amounts and their times.

    Attributes:
        amounts: what `Pruner.prune` gets each time; see `prunelab.schedules`.
        every: epochs or steps between two prunings, ≥ 1.
        start: epochs or steps of training before the first pruning, ≥ 0.
    """

    amounts: tuple[float | None, ...]
    every: int
    start: int

    @classmethod
    def of(cls, amounts: Iterable[float | None], every: int, start: int) -> Timetable:
        """Return a timetable.

        Raises:
            ConfigError: if a value is outside its range.
        """
        for key, value, least in (("every", every, 1), ("start", start, 0)):
            if not isinstance(value, int) or value < least:
                raise ConfigError(f"{key}={value}: must be a whole number ≥ {least}")
        return cls(tuple(amounts), every, start)

    def due(self, done: int) -> int | None:
        """Return the index of the amount that is due after so many epochs or steps, or None."""
        index, rest = divmod(done - self.start, self.every)
        return index if rest == 0 and 0 <= index < len(self.amounts) else None

    def check(self, total: int, unit: str) -> None:
        """Check that all amounts are due before training ends.

        Args:
            total: epochs or steps of the whole training; negative: unlimited.
            unit: `epochs` or `steps`, for the message.

        Raises:
            ConfigError: if the last amount is due too late.
        """
        last = self.start + self.every * (len(self.amounts) - 1)
        if 0 <= total <= last:
            raise ConfigError(
                f"every={self.every}, start={self.start}: the last of {len(self.amounts)} prunings comes after {last} "
                f"{unit}; must be less than {total}, the {unit} of training"
            )
