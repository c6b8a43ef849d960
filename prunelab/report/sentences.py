"""The sentences of the report: what was compared, how many runs there are, and the main finding."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from prunelab.report.curves import Baseline, Curve, Point
from prunelab.report.differences import (
    SAME,
    Difference,
    at_level,
    best,
    difference,
    in_points,
    shared_level,
    tested,
)
from prunelab.report.groups import Group, choice, in_order, overrides, unlike
from prunelab.report.jobs import few_seeds
from prunelab.report.run_folders import Run
from prunelab.text import in_epochs, percent

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


def headline(
    curves: Sequence[Curve], dense: Sequence[Baseline], longer: Sequence[Baseline], found: Sequence[Difference]
) -> str:
    """Return the main finding. The best experiment is chosen by validation accuracy and reported by test accuracy.

    Networks in `dense` are not pruned yet, those in `longer` were trained as long as the pruned ones. The verdicts of
    `found` are repeated.
    """
    if not curves:
        return "No run completed, so there is nothing to compare."
    runs = [run for curve in curves for run in curve.last.group.runs]
    if parts := [part for part in ("model", "data") if unlike(runs, part)]:
        return f"These experiments differ in {' and '.join(parts)}; no best one is named."
    curve, point = best(curves)
    level = shared_level(curves)
    at = [(c, p) for c in curves for p in at_level(c, level)] or [(c, c.last) for c in curves]
    reached = _reached(point) + _against_unpruned(curve, point, curves, dense, longer)
    text = f"At {percent(point.mean('sparsity'))} sparsity ({point.mean('compression_ratio') or 1:.1f}× compression) "
    text += f"{curve.label} {'has the best validation accuracy and ' * (len(at) > 1)}reaches {reached}."
    shared = [_seen_from(curve.label, d) for d in found if abs(d.sparsity - level) <= SAME]
    text += _against([d for d in shared if d], tested(found)) + _lengths(at, longer)
    return f"{text} {few_seeds(len(point.rows))}".strip()


def _seen_from(name: str, d: Difference) -> Difference | None:
    """Return a difference with `name` first; None if it is another pair's."""
    if name == d.second:
        d = replace(d, first=d.second, second=d.first, mean=-d.mean)
    return d if name == d.first else None


def _lengths(at: Sequence[tuple[Curve, Point]], longer: Sequence[Baseline]) -> str:
    """Return for how many epochs the networks were trained, if some were trained longer than others."""
    found: dict[float, list[str]] = {}
    for curve, point in at:
        as_long = [line.epochs for line in longer if curve in line.curves and point.round == curve.last.round]
        epochs = as_long[0] if as_long else _epochs(point)
        if epochs is not None:
            found.setdefault(epochs, []).append(curve.label)
    told = "; ".join(f"{_and(names)} for {in_epochs(epochs)}" for epochs, names in found.items())
    return f" They were not trained equally long: {told}." if len(found) > 1 else ""


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
    told = ", which was trained for as many epochs and not pruned"
    if len(level) != 1:
        level = [("the dense network that it started from", line.point) for line in dense if curve in line.curves]
        fewer = (trained or 0) - (_epochs(level[0][1]) or 0) if level else 0
        told = f", trained for {in_epochs(fewer)} fewer" if fewer > 0 else ""
    d = difference((curve.label, best), level[0], same=1.0) if level else None
    return "" if d is None else f", {_apart(d.mean)} {d.second}{told} ({_tested(d)})"


def _tested(d: Difference) -> str:
    """Return the result of the paired t-test of one difference, which is not corrected for the number of others."""
    if d.p is None:
        return "one seed: may be chance" if d.seeds == 1 else d.verdict
    return f"{'' if d.decided else 'not significant, '}p = {d.p:.2g} by a paired t-test"


def _apart(difference: float) -> str:
    return f"{in_points(abs(difference))} points {'below' if difference < 0 else 'above'}"


def _epochs(point: Point) -> float | None:
    """Return for how many epochs a point's weights were trained; None if unknown, or if they were rewound."""
    if point.group.runs[0].config.get("rewind") is not None:
        return None
    rows = [row for number, row in point.group.runs[0].rounds.items() if number <= point.round]
    known = [epochs for row in rows if (epochs := row.get("epochs")) is not None]
    return sum(known) if len(known) == len(rows) else None


def _against(known: Sequence[Difference], tests: int) -> str:
    """Return how the other experiments compare; p-values are corrected for a number of `tests`."""
    better = [d for d in known if d.decided and d.mean > 0]
    worse = [d for d in known if d.decided and d.mean < 0]
    unclear = [d.second for d in known if not d.decided and d.p is not None]
    same = [d.second for d in known if d.p is None and d.seeds > 1]
    said = [f"it is {how} than {_by(those)}" for how, those in (("better", better), ("worse", worse)) if those]
    said += [f"its difference from {_and(unclear)} is not significant"] if unclear else []
    said += [f"its difference from {_and(same)} is the same on all seeds, with no spread to test"] if same else []
    corrected = f" (Holm over all {tests} comparisons)" if tests > 1 else ""
    text = f" In test accuracy on the same seeds{corrected} {'; '.join(said)}." if said else ""
    one = any(d.seeds == 1 for d in known)
    return f"{text} With one seed, no statement on significance is possible." if one else text


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
