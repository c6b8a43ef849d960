"""Large steps of sparsity at first, small ones at the end."""

from prunelab.pruning.schedules.base import Amounts, towards


def cubic(rounds: int, sparsity: float) -> Amounts:
    """Return amounts whose sparsities follow s_t = s · (1 − (1 − t/T)³).

    Use it to reach a high sparsity in few rounds: most is removed while the network can still recover.

    Args:
        rounds: T ≥ 1.
        sparsity: s, the final one, fraction in (0, 1).

    Source: Zhu & Gupta 2017, "To prune, or not to prune", eq. 1 with s_i = 0, arXiv 1710.01878.
    """
    return towards([sparsity * (1 - (1 - t / rounds) ** 3) for t in range(1, rounds + 1)])
