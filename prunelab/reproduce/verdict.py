"""Measured against published: means over seeds, and the verdict on each value."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from prunelab.report.curves import column_mean, mean_and_error
from prunelab.report.run_folders import Numbers, Run
from prunelab.reproduce.reference import Point, Reference, Value
from prunelab.text import table

SIZE_MARGIN = 1.1  # ratio of the weights kept within which two networks are of one size
MARGIN = 0.15  # percentage points of test error within which a result counts as reproduced
QUICK = "quick run"
HEADER = ("result", "published", "measured", "seeds", "difference", "nonzero", "verdict")
CHOICE = "by the paper's choice"  # the head of the column that follows where it was measured


@dataclass(frozen=True)
class Measured:
    """What the runs gave for one value.

    Attributes:
        mean, error: mean over seeds and its standard error, in percentage points; without a run None and 0.
        seeds: number of seeds.
        nonzero: mean number of nonzero parameters, biases included.
        by_choice: mean and standard error of what the paper's choice of an epoch gives; None if it was not measured.
        verdict: `reproduced`, `better`, `not reproduced`; for a goal `reached`, `missed`;
            `not comparable`; `not measured`; `quick run`.
    """

    value: Value
    mean: float | None
    error: float
    seeds: int
    nonzero: float | None
    verdict: str
    by_choice: tuple[float, float] | None = None

    @property
    def difference(self) -> float | None:
        """Measured minus published, in percentage points; None for a claim, and for a quick run."""
        if self.verdict == QUICK:
            return None
        return None if self.mean is None or self.value.published is None else self.mean - self.value.published

    def cells(self) -> list[str]:
        """Return a row under `header`, without the last cell where no row has it."""
        value, mean = self.value, self.mean
        published = f"> {value.more_than:g}" if value.published is None else f"{value.published:.2f}"
        published = f"≤ {published}" if value.goal else published
        spread = "" if value.spread is None else f" ± {value.spread:g}"
        shown = "–" if mean is None else self._with_error(mean, self.error)
        apart = "" if self.difference is None else f"{self.difference:+.2f}"
        nonzero = "" if self.nonzero is None else f"{self.nonzero:,.0f}"
        chosen = [] if self.by_choice is None else [self._with_error(*self.by_choice)]
        return [value.name, published + spread, shown, str(self.seeds), apart, nonzero, self.verdict, *chosen]

    def _with_error(self, mean: float, error: float) -> str:
        return f"{mean:.2f} ± {error:.2f}" if self.seeds > 1 else f"{mean:.2f}"


def measure(reference: Reference, runs: Sequence[Run], *, quick: bool = False) -> list[Measured]:
    """Return what the completed runs of a sweep gave for each value; `quick` runs get no verdict."""
    done = [run for run in runs if run.status == "completed"]
    measured = [_measured(value, done, reference.choice) for value in reference.values]
    return [replace(row, verdict=QUICK) for row in measured] if quick else measured


def rows(measured: Sequence[Measured]) -> list[list[str]]:
    """Return the rows of the table of published and measured values, the head first."""
    head = [*HEADER, *([CHOICE] if any(row.by_choice for row in measured) else [])]
    return [head, *([*row.cells(), ""][: len(head)] for row in measured)]


def text(measured: Sequence[Measured]) -> str:
    """Return the table that `prunelab reproduce` ends with."""
    head, *body = rows(measured)
    return table(head, body)


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


def _measured(value: Value, runs: Sequence[Run], choice: str | None) -> Measured:
    rows, found = _rows(value.point, runs), _errors(value, runs, "test_accuracy")
    if not found:
        return Measured(value, None, 0.0, 0, None, judge(value, None, 0.0, 0))
    mean, error = mean_and_error(found)
    chosen = _errors(value, runs, choice) if choice else []
    nonzero, _ = column_mean(rows.values(), "nonzero")
    verdict = judge(value, mean, error, len(found))
    if value.kept is not None:
        sparsity, _ = mean_and_error([row.get("sparsity") or 0.0 for row in rows.values()])
        verdict = of_one_size(verdict, 100 * (1 - sparsity), value.kept)
    return Measured(value, mean, error, len(found), nonzero, verdict, mean_and_error(chosen) if chosen else None)


def of_one_size(verdict: str, kept: float, published: float) -> str:
    """Return the verdict, or `not comparable` where the number of weights alone may explain it.

    Both networks are given by the percentage of the weights that they keep.
    """
    good = verdict in ("reproduced", "better")
    excused = kept > SIZE_MARGIN * published if good else published > SIZE_MARGIN * kept
    return "not comparable" if excused else verdict


def _errors(value: Value, runs: Sequence[Run], accuracy: str) -> list[float]:
    """Return the test error of each seed in percent, or the differences of a value that compares; by a column."""

    def of(point: Point) -> dict[int | str, float]:
        found = {run.seed: _accuracy(_round(point.round, run), run, accuracy) for run in _jobs(point, runs)}
        return {seed: 100 * (1 - known) for seed, known in found.items() if known is not None}

    own = of(value.point)
    if value.against is None:
        return list(own.values())
    other = of(value.against)
    return [other[seed] - error for seed, error in own.items() if seed in other]


def _rows(point: Point, runs: Sequence[Run]) -> dict[int | str, Numbers]:
    """Return the round of each job of a point, by seed; a run that diverged has no row."""
    found = {run.seed: _round(point.round, run) for run in _jobs(point, runs)}
    return {seed: row for seed, row in found.items() if row.get("test_accuracy") is not None}


def _jobs(point: Point, runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if set(point.when) <= set(run.overrides)]


def _round(which: str, run: Run) -> Numbers:
    if which == "last":
        return run.result
    if which.isdigit():
        return run.rounds.get(int(which), {})
    pruned = [row for number, row in run.rounds.items() if number]
    choose = max if which == "best" else min
    return choose(pruned, key=lambda row: row.get("val_accuracy") or 0.0) if pruned else {}


def _accuracy(row: Numbers, run: Run, column: str) -> float | None:
    """Return an accuracy of a round; one by an epoch's choice is that of the last round before it that trained."""
    if column == "test_accuracy" or row.get(column) is not None:
        return row.get(column)
    earlier = [run.rounds[number] for number in sorted(run.rounds) if number <= (row.get("round") or 0)]
    return next((known for one in reversed(earlier) if (known := one.get(column)) is not None), None)
