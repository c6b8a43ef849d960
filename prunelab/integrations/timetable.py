"""When a callback prunes: a list of amounts, one every so many epochs or steps."""

from collections.abc import Iterable

from prunelab.errors import ConfigError
from prunelab.pruning.pruner import Pruner


class Timetable:
    """Amounts and their times.

    Args:
        amounts: what `Pruner.prune` gets each time; see `prunelab.schedules`.
        every: epochs or steps between two prunings, ≥ 1.
        start: epochs or steps of training before the first pruning, ≥ 0.

    Raises:
        ConfigError: if a value is outside its range.
    """

    def __init__(self, amounts: Iterable[float | None], every: int, start: int) -> None:
        for key, value, least in (("every", every, 1), ("start", start, 0)):
            if not isinstance(value, int) or value < least:
                raise ConfigError(f"{key}={value}: must be a whole number ≥ {least}")
        self.amounts, self.every, self.start = tuple(amounts), every, start

    def prune(self, pruner: Pruner, done: int) -> None:
        """Prune if it is time after so many epochs or steps."""
        index, rest = divmod(done - self.start, self.every)
        if rest == 0 and 0 <= index < len(self.amounts):
            pruner.prune(self.amounts[index])

    def check(self, total: int, unit: str) -> None:
        """Raise ConfigError if the last amount is due too late.

        Args:
            total: epochs or steps of the whole training; negative: unlimited.
            unit: `epochs` or `steps`, for the message.
        """
        last = self.start + self.every * (len(self.amounts) - 1)
        if 0 <= total <= last:
            raise ConfigError(
                f"every={self.every}, start={self.start}: the last of {len(self.amounts)} prunings comes after {last} "
                f"{unit}; must be less than {total}, the {unit} of training"
            )
