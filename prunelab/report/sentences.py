"""The sentences of the report: what was compared, how many runs there are, and the main finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from prunelab.report.curves import Baseline, Curve, Point
from prunelab.report.differences import SAME, Difference, difference, holm, in_points
from prunelab.report.groups import Group, choice, in_order, overrides
from prunelab.report.run_folders import Run
from prunelab.text import percent

MANY = 8  # names that a sentence lists at most; more are counted
PARTS = ("model", "data", "schedule")


def compared(runs: Sequence[Run], groups: Sequence[Group]) -> str:
    """Return what was compared, in one or two sentences."""
    values: dict[str, list[str]] = {}
    for group in groups:
        for key, value in group.items.items():
            values.setdefault(key, []).extend([] if value in values.get(key, []) else [value])
    several = len(groups) > 1
    for key in values:
        values[key] += ["default"] * any(key not in group.items for group in groups)
    ordered = [(key, values[key]) for key in in_order(values)]
    what = "; ".join(f"{key} ({_some(found)})" for key, found in ordered if several) or "one experiment"
    seeds = sorted({run.seed for group in groups for run in group.runs if isinstance(run.seed, int)})
    text = f"Compared: {what}" if several else f"Shown: {what}"
    text += f", over seed{'s' * (len(seeds) > 1)} {_some(list(map(str, seeds)))}" if seeds else ""
    same = _parts(runs) + _common(runs)
    return f"{text}. The same in all runs: {', '.join(same)}." if same else f"{text}."


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= MANY else f"{len(names)} values, {names[0]} to {names[-1]}"


def _parts(runs: Sequence[Run]) -> list[str]:
    """Return the names of model, data and schedule that all runs share."""
    found = []
    for key in PARTS:
        names = {choice(run, key) for run in runs if run.config}
        found += [f"{key} {name}" for name in names if len(names) == 1 and name]
    return found


def _common(runs: Sequence[Run]) -> list[str]:
    given = [set(overrides(run).items()) for run in runs]
    shared = set.intersection(*given) if given else set()
    return [f"{key}={value}" for key, value in sorted(shared) if key not in PARTS and len(given) > 1]


def counts(runs: Sequence[Run]) -> Counter[str]:
    """Return the number of runs of each status; `completed`, `failed` and `missing` always."""
    return Counter({"completed": 0, "failed": 0, "missing": 0} | Counter(run.status for run in runs))


def headline(curves: Sequence[Curve], dense: Sequence[Baseline], longer: Sequence[Baseline] = ()) -> str:
    """Return the main finding. The best experiment is chosen by validation accuracy and reported by test accuracy.

    Args:
        longer: the dense networks that were trained as long as the pruned ones.
    """
    if not curves:
        return "No run completed, so there is nothing to compare."
    level = _shared_level(curves)
    at = [(curve, point) for curve in curves for point in _at(curve, level)]
    at = at or [(curve, curve.last) for curve in curves]
    curve, best = max(at, key=lambda item: item[1].mean("val_accuracy") or 0.0)
    reached = _reached(best) + _against_unpruned(curve, best, curves, dense, longer)
    start = f"At {percent(best.mean('sparsity'))} sparsity ({best.mean('compression_ratio') or 1:.1f}× compression) "
    if len(at) == 1:
        return f"{start}{curve.label} reaches {reached}."
    text = f"{start}{curve.label} has the best validation accuracy and reaches {reached}."
    return text + _against([difference((curve.label, best), (c.label, p)) for c, p in at if c is not curve])


def _shared_level(curves: Sequence[Curve]) -> float:
    """Return the sparsity that most curves have; if several, the highest."""
    levels = {round(point.mean("sparsity") or 0.0, 4) for curve in curves for point in curve.pruned}
    return max(levels, key=lambda level: (sum(bool(_at(c, level)) for c in curves), level), default=0.0)


def _at(curve: Curve, level: float) -> list[Point]:
    """Return the curve's point nearest to a sparsity, in a list; an empty list if none is within `SAME` of it."""
    near = [point for point in curve.pruned if abs((point.mean("sparsity") or 0.0) - level) <= SAME]
    return sorted(near, key=lambda point: abs((point.mean("sparsity") or 0.0) - level))[:1]


def _reached(point: Point) -> str:
    n, accuracy = len(point.values("test_accuracy")), percent(point.mean("test_accuracy"), 2)
    if n < 2:
        return f"{accuracy} test accuracy (one seed)"
    error = percent(point.error("test_accuracy"), 2)
    return f"{accuracy} ± {error} test accuracy (mean ± standard error of {n} seeds)"


def _against_unpruned(
    curve: Curve, best: Point, curves: Sequence[Curve], dense: Sequence[Baseline], longer: Sequence[Baseline]
) -> str:
    """Return the difference from the unpruned network trained for as many epochs, or else from the dense network."""
    trained = _epochs(best)
    flat = [c for c in curves if c.flat and c is not curve and _epochs(c.last) == trained is not None]
    level = [(c.label, c.last) for c in flat]
    if best.round == curve.last.round:
        level = [("the dense network", line.point) for line in longer if curve in line.curves] or level
    if len(level) == 1:
        d = difference((curve.label, best), level[0], same=1.0)
        if d is not None:
            verdict = "" if d.low is None or d.decided else ", a difference that is not significant"
            return f", {_apart(d.mean)} {d.second}, which was trained for as many epochs and not pruned{verdict}"
    there, own = best.mean("test_accuracy"), dense[0].point.mean("test_accuracy") if len(dense) == 1 else None
    if there is None or own is None:
        return ""
    first, all_ = _epochs(dense[0].point), trained
    fewer = f" (trained for {all_ - first:.0f} epochs fewer)" if first and all_ and first < all_ else ""
    return f", {_apart(there - own)} the dense network that it started from{fewer}"


def _apart(difference: float) -> str:
    return f"{in_points(abs(difference))} points {'below' if difference < 0 else 'above'}"


def _epochs(point: Point) -> float | None:
    """Return for how many epochs a point's weights were trained; None if unknown, or if they were rewound."""
    if point.group.runs[0].config.get("rewind") is not None:
        return None
    rows = [row for number, row in point.group.runs[0].rounds.items() if number <= point.round]
    known = [epochs for row in rows if (epochs := row.get("epochs")) is not None]
    return sum(known) if len(known) == len(rows) else None


def _against(found: Sequence[Difference | None]) -> str:
    """Return how the other experiments compare, one sentence for each kind of verdict."""
    known = holm(d for d in found if d is not None)
    better = [d for d in known if d.decided and d.mean > 0]
    worse = [d for d in known if d.decided and d.mean < 0]
    unclear = [d.second for d in known if not d.decided and d.low is not None]
    text = f" In test accuracy on the same seeds it is better than {_by(better)}." if better else ""
    text += f" In test accuracy it is worse than {_by(worse)}." if worse else ""
    text += f" The difference from {_and(unclear)} is not significant." if unclear else ""
    return text + (
        " With one seed, no statement on significance is possible." if any(d.low is None for d in known) else ""
    )


def _by(found: Sequence[Difference]) -> str:
    """Return names and differences, `random by 8.8 and l1 by 0.7 points`; of many, their number and range."""
    sizes = sorted(abs(d.mean) for d in found)
    if len(found) > MANY:
        return f"{len(found)} others, by {in_points(sizes[0])} to {in_points(sizes[-1])} points"
    return f"{_and([f'{d.second} by {in_points(abs(d.mean))}' for d in found])} points"


def _and(names: Sequence[str]) -> str:
    if len(names) > MANY:
        return f"{len(names)} others, among them {names[0]}"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
