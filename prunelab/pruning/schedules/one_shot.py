"""All pruning in one round."""

from prunelab.errors import ConfigError
from prunelab.pruning.schedules.base import Amounts


def one_shot(amount: float | None, rounds: int = 1) -> Amounts:
    """Return the amount of a single round.

    Use it to compare criteria quickly, for pruning at initialisation, and before `reconstruct=obs`.

    Args:
        amount: fraction in [0, 1); None where the allocation decides.
        rounds: 1.

    Raises:
        ConfigError: for more rounds.
    """
    if rounds != 1:
        raise ConfigError(f"schedule.rounds={rounds}: schedule=one_shot has 1 round; schedule=iterative has several")
    return [amount]
