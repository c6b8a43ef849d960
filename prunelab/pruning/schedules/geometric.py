"""The same amount in every round, chosen to end at a given sparsity."""

from prunelab.pruning.schedules.base import Amounts, towards


def geometric(rounds: int, sparsity: float) -> Amounts:
    """Return equal amounts that end at `sparsity`: s_t = 1 − (1 − s)^(t/T).

    Use it as `iterative`, if you know the final sparsity instead of the amount.

    Args:
        rounds: T ≥ 1.
        sparsity: s, the final one, fraction in (0, 1).
    """
    return towards([1 - (1 - sparsity) ** (t / rounds) for t in range(1, rounds + 1)])
