"""Paired differences in test accuracy of two experiments at the same seeds and sparsity, with Holm's correction."""

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from prunelab.report.curves import Curve, Point, mean_and_error
from prunelab.report.groups import unlike

SAME = 0.005  # sparsities that differ by at most half a percentage point count as equal
NO_SPREAD = 1e-12  # differences between seeds that differ by at most so much count as equal
LEVEL = 0.95  # of the confidence intervals
EVERY_PAIR = 64  # up to so many curves, every two are compared; beyond that, each with the best one


@dataclass(frozen=True)
class Difference:
    """The mean of test accuracy of `first` − `second`, with its confidence interval and p-value.

    Accuracies and sparsity are fractions. `p` is that of the two-sided paired t-test, which `holm` corrects for the
    number of comparisons. `low`, `high` and `p` are None with one seed, and where the difference is the same on all
    seeds: accuracies are multiples of 1 / n, so that a few differences are equal by chance.
    """

    first: str
    second: str
    sparsity: float
    seeds: int
    mean: float
    low: float | None
    high: float | None
    p: float | None

    @property
    def decided(self) -> bool:
        """Whether the difference is significant at the 5% level."""
        return self.p is not None and self.p < 1 - LEVEL

    @property
    def verdict(self) -> str:
        """The result of the comparison as a phrase."""
        if self.seeds == 1:
            return "one seed: significance unknown"
        if self.p is None:
            same = "equal" if abs(self.mean) <= NO_SPREAD else "the same difference"
            return f"{same} on all {self.seeds} seeds: no spread to test"
        if not self.decided:
            return f"no significant difference ({self.seeds} seeds)"
        better = self.first if self.mean > 0 else self.second
        return f"{better} is better by {in_points(abs(self.mean))} points ({self.seeds} seeds)"


def in_points(fraction: float) -> str:
    """Return a fraction in percentage points: 0.0041 gives 0.41; with more digits where it would read 0.00."""
    digits = 2
    while round(100 * fraction, digits) == 0 and fraction != 0 and digits < 4:
        digits += 1
    return f"{100 * fraction:.{digits}f}"


@functools.cache
def t_quantile(freedom: int, level: float = LEVEL) -> float:
    """Return the t that |T| does not exceed with probability `level`; 4.303 for 2 degrees of `freedom` and 0.95."""
    return float(stats.t.ppf((1 + level) / 2, freedom))


def difference(first: tuple[str, Point], second: tuple[str, Point], same: float = SAME) -> Difference | None:
    """Compare two named points seed by seed; return None unless sparsities agree, up to `same`, at all shared seeds."""
    (a, one), (b, two) = first, second
    accuracies, sparsities = [], []
    for seed in one.rows.keys() & two.rows.keys():
        x, y = one.rows[seed], two.rows[seed]
        u, v, s, t = x.get("test_accuracy"), y.get("test_accuracy"), x.get("sparsity"), y.get("sparsity")
        if u is None or v is None:
            continue
        if s is None or t is None or abs(s - t) > same + 1e-9:
            return None
        accuracies.append(u - v)
        sparsities += [s, t]
    if not accuracies:
        return None
    sparsity, _ = mean_and_error(sparsities)
    mean, error = mean_and_error(accuracies)
    freedom = len(accuracies) - 1
    if max(accuracies) - min(accuracies) <= NO_SPREAD:
        return Difference(a, b, sparsity, freedom + 1, mean, None, None, None)
    half = t_quantile(freedom) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom))
    return Difference(a, b, sparsity, freedom + 1, mean, mean - half, mean + half, p)


def holm(found: Iterable[Difference]) -> list[Difference]:
    """Return the differences with p-values corrected for their number; the intervals stay those of each one alone.

    With the corrected p-values, the probability that any of the differences is called significant by chance is at most
    5%. Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    found = list(found)
    known = np.array([d.p for d in found if d.p is not None])
    order, corrected = known.argsort(), np.empty_like(known)
    corrected[order] = np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1)).clip(max=1)
    remaining = iter(corrected.tolist())
    return [d if d.p is None else replace(d, p=next(remaining)) for d in found]


def tested(found: Iterable[Difference]) -> int:
    """Return the number of differences that have a p-value, which is what the p-values are corrected for."""
    return sum(d.p is not None for d in found)


def compare(first: Curve, second: Curve) -> Iterator[Difference]:
    """Yield the differences of two curves at each sparsity that both have, the highest first; a point counts once."""
    pairs = [(a, b, difference((first.label, a), (second.label, b))) for a in first.pruned for b in second.pruned]
    found = [(a, b, d) for a, b, d in pairs if d is not None]
    used: set[int] = set()
    for a, b, d in sorted(found, key=lambda item: (-item[2].sparsity, abs(_sparsity(item[0]) - _sparsity(item[1])))):
        if not used & {id(a), id(b)}:
            used |= {id(a), id(b)}
            yield d


def _sparsity(point: Point) -> float:
    return point.mean("sparsity") or 0.0


def best(curves: Sequence[Curve]) -> tuple[Curve, Point]:
    """Return the curve with the best validation accuracy at the shared sparsity, and its point there."""
    level = shared_level(curves)
    at = [(curve, point) for curve in curves for point in at_level(curve, level)]
    at = at or [(curve, curve.last) for curve in curves]
    return max(at, key=lambda item: item[1].mean("val_accuracy") or 0.0)


def shared_level(curves: Sequence[Curve]) -> float:
    """Return the sparsity that most curves have; if several, the highest."""
    levels = {round(_sparsity(point), 4) for curve in curves for point in curve.pruned}
    return max(levels, key=lambda level: (sum(bool(at_level(c, level)) for c in curves), level), default=0.0)


def at_level(curve: Curve, level: float) -> list[Point]:
    """Return the curve's point nearest to a sparsity, in a list; an empty list if none is within `SAME` of it."""
    near = [point for point in curve.pruned if abs(_sparsity(point) - level) <= SAME]
    return sorted(near, key=lambda point: abs(_sparsity(point) - level))[:1]


def all_pairs(curves: Sequence[Curve]) -> list[list[Difference]]:
    """Return the differences of each two curves on the same data that share a sparsity, the highest sparsity first.

    With more than `EVERY_PAIR` curves, the pairs are the best curve and each other one.
    """
    pairs: Iterable[tuple[Curve, Curve]] = itertools.combinations(curves, 2)
    if len(curves) > EVERY_PAIR:
        first, _ = best(curves)
        pairs = ((first, curve) for curve in curves if curve is not first)
    alike = ((a, b) for a, b in pairs if not unlike([curve.last.group.runs[0] for curve in (a, b)], "data"))
    return [found for a, b in alike if (found := list(compare(a, b)))]


def one_each(pairs: Iterable[Sequence[Difference]], level: float) -> list[Difference]:
    """Return of each pair the difference at a sparsity, or else at the highest one; p-values corrected for all."""
    chosen = (next((d for d in pair if abs(d.sparsity - level) <= SAME), pair[0]) for pair in pairs)
    return holm(chosen)
