"""The same amount in every round, until validation accuracy drops too far."""

from prunelab.errors import ConfigError
from prunelab.pruning.schedules.base import Amounts


def until(amount: float | None, rounds: int, tolerance: float | None = None) -> Amounts:
    """Return the same amount for every round.

    The experiment stops at the first round whose validation accuracy is more than `tolerance` below that of the dense
    network. The round before is the result.

    Use it if you know how much accuracy may be lost, and want the smallest network within that.

    Args:
        amount: fraction in [0, 1) of the units that are not pruned yet.
        rounds: maximum number of rounds, ≥ 1.
        tolerance: in [0, 1], such as 0.005 for half a percentage point.

    Raises:
        ConfigError: without a tolerance.
    """
    if tolerance is None:
        raise ConfigError("tolerance=null: schedule=until needs a fraction in [0, 1] of validation accuracy")
    return [amount] * rounds
