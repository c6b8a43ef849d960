"""Layer-wise budgets: an exact number of units in all tensors together, spread over them by a rule."""

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from math import floor, prod

import torch

from prunelab.pruning.units import Allocation, Count, number


class Uniform(Allocation):
    """Prune so that every tensor ends at the same density; in each the units with the smallest scores go.

    In all tensors together round(amount · n) of n units go. A tensor keeps at most the units that it still has and at
    least one. The shares are solved for exactly and rounded by largest remainder, of equal ones the first tensor's.

    Use it as the baseline of `erk`, or if some tensors are sparser than others already and all must end alike.

    Source: the uniform baseline of Evci et al. 2020, "Rigging the lottery", section 3(1), arXiv 1911.11134.
    """

    def share(self, shape: torch.Size, units: int) -> Fraction:
        """Return a tensor's share of the units that are kept, in proportion to the other tensors' shares."""
        return Fraction(units)

    def left(self, counts: Sequence[Count], amount: float | None) -> list[int]:
        """Return the number of units that each tensor keeps: its budget."""
        shares, alive = [self.share(c.shape, prod(c.units)) for c in counts], [c.alive for c in counts]
        return apportioned(shares, alive, sum(alive) - number(amount, sum(alive)))


def apportioned(shares: Sequence[Fraction | int], most: Sequence[int], total: int) -> list[int]:
    """Return whole numbers in proportion to `shares`, each at least 1 and at most `most`, that sum to `total`.

    In exact fractions: each is ε · share, cut off at its bounds, with the ε for which they sum to `total`; then those
    with the largest parts cut off by rounding down get one more, of equal ones the first.

    Args:
        shares: ≥ 0; 0 only where `most` is at most 1.
        most: the upper bounds, ≥ 0; one that is 0 gets 0.
        total: at most the sum of the upper bounds; where it is less than the number of bounds, each gets its 1.
    """

    def at(scale: Fraction) -> list[Fraction]:
        return [min(max(scale * share, Fraction(1)), Fraction(top)) for share, top in zip(shares, most, strict=True)]

    def summed(scale: Fraction) -> Fraction:
        return sum(at(scale), Fraction(0))

    bends = {Fraction(bound) / share for share, top in zip(shares, most, strict=True) if share for bound in (1, top)}
    scales = sorted({Fraction(0)} | bends)  # between two of them the sum is a straight line, and it never falls
    upper = min(bisect_left(scales, Fraction(total), key=summed), len(scales) - 1)
    low, high = scales[max(upper - 1, 0)], scales[upper]
    rise = summed(high) - summed(low)
    exact = at(low + (total - summed(low)) / rise * (high - low) if rise else low)
    whole = [floor(part) for part in exact]
    by_remainder = sorted(range(len(whole)), key=lambda i: whole[i] - exact[i])  # stable: of equal ones the first
    for i in by_remainder[: max(total - sum(whole), 0)]:
        whole[i] += 1
    return whole
