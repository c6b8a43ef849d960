"""Equal steps of sparsity."""

from prunelab.pruning.schedules.base import Amounts, towards


def linear(rounds: int, sparsity: float) -> Amounts:
    """Return amounts whose sparsities grow by equal steps: s_t = s · t/T.

    Use it for equally spaced points of a curve, or with `schedule.rounds=1` for one step to a known sparsity.

    Args:
        rounds: T ≥ 1.
        sparsity: s, the final one, fraction in (0, 1).
    """
    return towards([sparsity * t / rounds for t in range(1, rounds + 1)])
