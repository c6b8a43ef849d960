"""Measured against published: means over seeds, and the verdict on each value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from prunelab.report.curves import mean_and_error
from prunelab.report.form_rows import Numbers
from prunelab.report.run_folders import Run
from prunelab.reproduce.reference import Point, Reference, Value
from prunelab.text import table

SIZE_MARGIN = 1.1  # ratio of the weights kept within which two networks are of one size
MARGIN = 0.15  # percentage points of test error within which a result counts as reproduced
QUICK = "quick run"
HEADER = ("result", "published", "measured", "seeds", "difference", "nonzero", "verdict")


@dataclass(frozen=True)
class Measured:
    """What the runs gave for one value.

    Attributes:
        mean, error: mean over seeds and its standard error, in percentage points; without a run None and 0.
        seeds: number of seeds.
        nonzero: mean number of nonzero parameters, biases included.
        verdict: `reproduced`, `better`, `not reproduced`; for a goal `reached`, `missed`;
            `not comparable`; `not measured`; `quick run`.
    """

    value: Value
    mean: float | None
    error: float
    seeds: int
    nonzero: float | None
    verdict: str

    @property
    def difference(self) -> float | None:
        """Measured minus published, in percentage points; None for a claim, and for a quick run."""
        if self.verdict == QUICK:
            return None
        return None if self.mean is None or self.value.published is None else self.mean - self.value.published

    def cells(self) -> list[str]:
        """Return a row under `HEADER`."""
        value, mean = self.value, self.mean
        published = f"> {value.more_than:g}" if value.published is None else f"{value.published:.2f}"
        published = f"≤ {published}" if value.goal else published
        spread = "" if value.spread is None else f" ± {value.spread:g}"
        shown = "–" if mean is None else f"{mean:.2f}" + (f" ± {self.error:.2f}" if self.seeds > 1 else "")
        apart = "" if self.difference is None else f"{self.difference:+.2f}"
        nonzero = "" if self.nonzero is None else f"{self.nonzero:,.0f}"
        return [value.name, published + spread, shown, str(self.seeds), apart, nonzero, self.verdict]


def measure(reference: Reference, runs: Sequence[Run], *, quick: bool = False) -> list[Measured]:
    """Return what the completed runs of a sweep gave for each value; `quick` runs get no verdict."""
    done = [run for run in runs if run.status == "completed"]
    measured = [_measured(value, done) for value in reference.values]
    return [replace(row, verdict=QUICK) for row in measured] if quick else measured


def text(measured: Sequence[Measured]) -> str:
    """Return the table that `prunelab reproduce` ends with."""
    return table(HEADER, [row.cells() for row in measured])


def judge(value: Value, mean: float | None, error: float, seeds: int) -> str:
    """Return the verdict on a value.

    Within two standard errors or `MARGIN`, the larger of the two, a result is reproduced. A claim is reproduced if the
    difference exceeds its bound by two standard errors, which takes at least two seeds.
    """
    if mean is None:
        return "not measured"
    if value.more_than is not None:
        return "reproduced" if seeds > 1 and mean - 2 * error > value.more_than else "not reproduced"
    assert value.published is not None
    if value.goal:
        return "reached" if mean <= value.published else "missed"
    gain = (mean - value.published) * (1 if value.against else -1)  # of a difference more is better, of an error less
    if abs(gain) <= max(2 * error, MARGIN) + 1e-9:
        return "reproduced"
    return "better" if gain > 0 else "not reproduced"


def _measured(value: Value, runs: Sequence[Run]) -> Measured:
    rows = _rows(value.point, runs)
    found = {seed: _error(row) for seed, row in rows.items()}
    if value.against is not None:
        other = {seed: _error(row) for seed, row in _rows(value.against, runs).items()}
        found = {seed: other[seed] - error for seed, error in found.items() if seed in other}
    if not found:
        return Measured(value, None, 0.0, 0, None, judge(value, None, 0.0, 0))
    mean, error = mean_and_error(list(found.values()))
    nonzero = [size for row in rows.values() if (size := row.get("nonzero")) is not None]
    size = mean_and_error(nonzero)[0] if nonzero else None
    verdict = judge(value, mean, error, len(found))
    if value.kept is not None:
        sparsity, _ = mean_and_error([row.get("sparsity") or 0.0 for row in rows.values()])
        verdict = of_one_size(verdict, 100 * (1 - sparsity), value.kept)
    return Measured(value, mean, error, len(found), size, verdict)


def of_one_size(verdict: str, kept: float, published: float) -> str:
    """Return the verdict, or `not comparable` where the number of weights alone may explain it.

    Args:
        kept, published: percentage of the weights that the measured and the published network keep.
    """
    good = verdict in ("reproduced", "better")
    excused = kept > SIZE_MARGIN * published if good else published > SIZE_MARGIN * kept
    return "not comparable" if excused else verdict


def _error(row: Numbers) -> float:
    """Return the test error in percent."""
    return 100 * (1 - (row.get("test_accuracy") or 0.0))


def _rows(point: Point, runs: Sequence[Run]) -> dict[int | str, Numbers]:
    """Return the round of each job of a point, by seed; a run that diverged has no row."""
    found = {run.seed: _round(point.round, run) for run in runs if set(point.when) <= set(run.overrides)}
    return {seed: row for seed, row in found.items() if row.get("test_accuracy") is not None}


def _round(which: str, run: Run) -> Numbers:
    if which == "last":
        return run.result
    if which.isdigit():
        return run.rounds.get(int(which), {})
    pruned = [row for number, row in run.rounds.items() if number]
    choose = max if which == "best" else min
    return choose(pruned, key=lambda row: row.get("val_accuracy") or 0.0) if pruned else {}
