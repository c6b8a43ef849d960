"""A budget for each layer: an exact number of weights over all tensors, spread by a rule."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from math import floor

from prunelab.pruning.criteria import base as criteria
from prunelab.pruning.criteria.base import Scores
from prunelab.pruning.masks import Parameters
from prunelab.pruning.strategies.base import check_choice, count, unpruned
from prunelab.pruning.strategies.l1 import prune_smallest


def layerwise(parameters: Parameters, amount: float, *, scores: Scores | None = None, budget: str) -> None:
    """Prunes the `amount` of all unpruned weights, spread over the tensors by a budget; in each the smallest scores go.

    Every tensor keeps a number of weights in proportion to its share, but no more than it still has and at least one:
    a density never exceeds 1, and masks only shrink. The proportion is solved for exactly; parts of weights are
    apportioned by largest remainder, of equals to the first tensor.

    Args:
        amount: fraction in [0, 1) of the unpruned weights of all tensors together; round(amount · n) go.
        scores: one tensor ≥ 0 a parameter, of its shape; default: magnitude.
        budget: `uniform` (every tensor ends at the same density) or `erk` (Erdős–Rényi-Kernel: density ∝ Σ ÷ Π of the
            tensor's dimensions, so that small layers stay denser).

    Raises:
        ConfigError: for another budget.

    Source: Evci et al. 2020, "Rigging the lottery", §3(1), arXiv 1911.11134; for Linear layers Mocanu et al. 2018,
        eq. 3, arXiv 1707.04780.
    """
    check_choice("strategy.budget", budget, ("uniform", "erk"))
    scores = criteria.magnitudes(parameters) if scores is None else scores
    shapes = [criteria.original(module, name).shape for module, name in parameters]
    shares = [shape.numel() if budget == "uniform" else sum(shape) for shape in shapes]  # Σ ÷ Π, times Π
    alive = [unpruned(module, name) for module, name in parameters]
    keeps = apportioned(shares, alive, sum(alive) - count(amount, sum(alive)))
    for (module, name), score, left, keep in zip(parameters, scores, alive, keeps, strict=True):
        prune_smallest(module, name, score, left - keep)


def apportioned(shares: Sequence[int], most: Sequence[int], total: int) -> list[int]:
    """Whole numbers in proportion to `shares`, each at least 1 and at most `most`, that sum to `total`.

    In exact fractions: each is ε · share, cut off at its bounds, with the ε for which they sum to `total`; then those
    with the largest parts cut off by rounding down get one more, of equals the first.

    Args:
        shares: ≥ 0; 0 only where `most` is at most 1.
        most: the upper bounds, ≥ 0; one that is 0 gets 0.
        total: at most the sum of the upper bounds; where it is less than the number of bounds, each gets its 1.
    """

    def at(scale: Fraction) -> list[Fraction]:
        return [min(max(scale * share, Fraction(1)), Fraction(top)) for share, top in zip(shares, most, strict=True)]

    def summed(scale: Fraction) -> Fraction:
        return sum(at(scale), Fraction(0))

    bends = {Fraction(bound, share) for share, top in zip(shares, most, strict=True) if share for bound in (1, top)}
    scales = sorted({Fraction(0)} | bends)  # between two of them the sum is a straight line, and it never falls
    upper = min(bisect_left(scales, Fraction(total), key=summed), len(scales) - 1)
    low, high = scales[max(upper - 1, 0)], scales[upper]
    rise = summed(high) - summed(low)
    exact = at(low + (total - summed(low)) / rise * (high - low) if rise else low)
    whole = [floor(part) for part in exact]
    by_remainder = sorted(range(len(whole)), key=lambda i: whole[i] - exact[i])  # stable: of equals the first
    for i in by_remainder[: max(total - sum(whole), 0)]:
        whole[i] += 1
    return whole
