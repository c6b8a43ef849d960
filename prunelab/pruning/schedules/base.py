"""What schedules return, and the conversion of target sparsities to amounts."""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

Amounts = list[float | None]


class Round(NamedTuple):
    """How much is pruned in a round: at once before fine-tuning, or, with `every`, in steps during it.

    Attributes:
        amounts: for each step, the fraction in [0, 1) of the units that are not pruned yet.
        every: iterations between the steps; 0: a single step, before fine-tuning.
        macs: target that replaces the amount: multiply-adds of the compact network ÷ those of the dense network.
    """

    amounts: tuple[float | None, ...]
    every: int = 0
    macs: float | None = None

    @property
    def amount(self) -> float | None:
        """The fraction that all steps of the round remove together; None: the allocation sets its own sparsity."""
        if len(self.amounts) == 1 or None in self.amounts:
            return self.amounts[0]
        return 1 - prod(1 - amount for amount in self.amounts if amount is not None)


def towards(sparsities: Sequence[float]) -> Amounts:
    """Return the amounts that lead from each sparsity s_{t−1} to the next one: (s_t − s_{t−1}) / (1 − s_{t−1})."""
    before = [0.0, *sparsities]
    return [(s - p) / (1 - p) for p, s in zip(before, sparsities, strict=False)]
