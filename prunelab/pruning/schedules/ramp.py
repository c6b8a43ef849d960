"""A larger amount in every round."""

from prunelab.errors import ConfigError
from prunelab.pruning.schedules.base import Amounts


def ramp(amount: float | None, rounds: int, step: float = 0.1) -> Amounts:
    """Return amounts that grow by `step`: amount, amount + step, amount + 2·step …

    Use it to find quickly where accuracy breaks down: each round removes a larger share.

    Args:
        amount: of the first round, fraction in [0, 1).
        rounds: ≥ 1.
        step: added in each round, in (−1, 1).

    Raises:
        ConfigError: if an amount leaves [0, 1).
    """
    if amount is None:
        raise ConfigError("amount=null: schedule=ramp needs a fraction in [0, 1)")
    amounts: Amounts = []
    for t in range(rounds):
        this = round(amount + step * t, 12)  # 0.1 + 2 · 0.1 is meant to be 0.3
        if not 0 <= this < 1:
            raise ConfigError(f"schedule.step={step}: round {t + 1} would remove {this:g}; must stay in [0, 1)")
        amounts.append(this)
    return amounts
