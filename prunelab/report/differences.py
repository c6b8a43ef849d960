"""Paired differences: two strategies, the same seeds, the same sparsity, and what may be said of them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prunelab.report.curves import Curve, Point
from prunelab.report.jobs import mean_and_error

SAME = 0.005  # sparsities that differ by no more are the same: half a point
LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """Test accuracy of `first` − `second`, fractions; `low` and `high` are None with fewer than two seeds."""

    first: str
    second: str
    sparsity: float
    seeds: int
    mean: float
    low: float | None
    high: float | None

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def verdict(self) -> str:
        """In plain words."""
        if self.low is None or self.high is None:
            return "one seed: no verdict possible"
        if self.low == self.high == 0:
            return f"the same on {self.seeds} seeds"
        if not self.decided:
            return f"not distinguishable on {self.seeds} seeds"
        better = self.first if self.mean > 0 else self.second
        return f"{better} is better by {in_points(abs(self.mean))} points ({self.seeds} seeds)"


def in_points(fraction: float) -> str:
    """Percentage points: 0.0041 → 0.4; more digits where 0.0 would hide a difference."""
    digits = 1
    while round(100 * fraction, digits) == 0 and fraction != 0 and digits < 4:
        digits += 1
    return f"{100 * fraction:.{digits}f}"


def t_probability(t: float, freedom: int) -> float:
    """P(|T| ≤ t) of Student's t, exactly, as a finite sum.

    Source: Abramowitz & Stegun (1964), 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


@functools.cache
def t_quantile(freedom: int, level: float = LEVEL) -> float:
    """The t that |T| does not exceed with probability `level`, by bisection: 4.303 for 2 degrees of freedom."""
    low, high = 0.0, 1.0
    while t_probability(high, freedom) < level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_probability(middle, freedom) < level else (low, middle)
    return high


def difference(first: tuple[str, Point], second: tuple[str, Point], same: float = SAME) -> Difference | None:
    """Compares two points seed by seed; None unless they have the same sparsity at every seed that both have.

    Args:
        first, second: their names, and what they reached.
        same: how far apart sparsities may be.
    """
    (a, one), (b, two) = first, second
    shared = [
        (one.rows[seed], two.rows[seed])
        for seed in one.rows.keys() & two.rows.keys()
        if None not in (one.rows[seed].get("test_accuracy"), two.rows[seed].get("test_accuracy"))
    ]
    sparsities = [(x.get("sparsity"), y.get("sparsity")) for x, y in shared]
    if not shared or any(x is None or y is None or abs(x - y) > same + 1e-9 for x, y in sparsities):
        return None
    sparsity, _ = mean_and_error([value for pair in sparsities for value in pair if value is not None])
    mean, error = mean_and_error([x["test_accuracy"] - y["test_accuracy"] for x, y in shared])
    half = t_quantile(len(shared) - 1) * error if len(shared) > 1 else None
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return Difference(a, b, sparsity, len(shared), mean, low, high)


def compare(first: Curve, second: Curve) -> Iterator[Difference]:
    """The differences at every sparsity that two curves share, the highest first; each point is used once."""
    pairs = [(a, b, difference((first.label, a), (second.label, b))) for a in first.pruned for b in second.pruned]
    found = [(a, b, d) for a, b, d in pairs if d is not None]
    used: set[int] = set()
    for a, b, d in sorted(found, key=lambda item: (-item[2].sparsity, _apart(item[0], item[1]))):
        if not used & {id(a), id(b)}:
            used |= {id(a), id(b)}
            yield d


def _apart(a: Point, b: Point) -> float:
    return abs((a.mean("sparsity") or 0.0) - (b.mean("sparsity") or 0.0))


def all_pairs(curves: Sequence[Curve]) -> list[list[Difference]]:
    """For every two curves that share a sparsity, their differences, the highest sparsity first."""
    found = [list(compare(a, b)) for a, b in itertools.combinations(curves, 2)]
    return [differences for differences in found if differences]
