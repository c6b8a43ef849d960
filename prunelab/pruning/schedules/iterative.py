"""The same amount in every round."""

from prunelab.pruning.schedules.base import Amounts


def iterative(amount: float | None, rounds: int) -> Amounts:
    """Return the same amount for every round: amount 0.2 leaves 0.8^t of the weights after round t.

    Use it by default, and for lottery tickets: the sparsities of all rounds lie on the curve that papers show.

    Args:
        amount: fraction in [0, 1) of the units that are not pruned yet; None where the allocation decides.
        rounds: ≥ 1.

    Source: Frankle & Carbin 2019, "The lottery ticket hypothesis", arXiv 1803.03635.
    """
    return [amount] * rounds
