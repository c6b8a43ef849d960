"""Points and curves of accuracy over sparsity, the dense networks they start from, and the Pareto front."""

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from prunelab.report.groups import DOSES, Group, label
from prunelab.report.run_folders import Numbers
from prunelab.text import dense_name

SHOWN = 8  # number of curves that a panel of a figure shows in a colour; more colours cannot be told apart
PANELS = 4  # number of panels at most, to limit the size of the page; tables and comparisons have every curve
Seed = int | str


@dataclass(frozen=True)
class Point:
    """The results of one group at the end of one round: a row of `rounds.csv` per seed."""

    group: Group
    round: int
    rows: Mapping[Seed, Numbers]
    _known: dict[str, tuple[float | None, float]] = field(default_factory=dict, compare=False, repr=False)

    def values(self, key: str) -> list[float]:
        """Return the values of a column, one for each seed that has it."""
        return column(self.rows.values(), key)

    def mean(self, key: str) -> float | None:
        """Return the mean over seeds; None if no seed has the column."""
        return self._mean_and_error(key)[0]

    def error(self, key: str) -> float:
        """Return the standard error of the mean; 0 for one seed."""
        return self._mean_and_error(key)[1]

    def _mean_and_error(self, key: str) -> tuple[float | None, float]:
        if key not in self._known:  # `statistics` is slow, and each mean is used several times
            self._known[key] = column_mean(self.rows.values(), key)
        return self._known[key]


@dataclass(frozen=True)
class Curve:
    """The points of one experiment over sparsity.

    `colour` is 1 to `SHOWN` in the panel of figures that names the curve, and 0 for a grey curve without a name.
    """

    label: str
    points: Sequence[Point]
    last: Point
    colour: int = 0
    panel: int = 0

    @property
    def seeds(self) -> int:
        """The number of seeds of its last point."""
        return len(self.last.rows)

    @property
    def flat(self) -> bool:
        """Whether nothing was pruned: a baseline that is trained for as many epochs as the others."""
        return not any(point.mean("sparsity") for point in self.points)

    @property
    def pruned(self) -> list[Point]:
        """The points after a round of pruning."""
        return [point for point in self.points if point.round > 0]


def final(group: Group) -> Point:
    """Return the final point of a group: its result."""
    rows = {run.seed: run.final for run in group.runs}
    return Point(group, max(int(row.get("round") or 0) for row in rows.values()), rows)


def points(group: Group) -> list[Point]:
    """Return the points of a group, one per round, over the seeds that reached the round."""
    rounds = sorted(set().union(*(run.rounds for run in group.runs)))
    return [Point(group, n, {run.seed: run.rounds[n] for run in group.runs if n in run.rounds}) for n in rounds]


def curves(groups: Sequence[Group]) -> list[Curve]:
    """Return a curve for each group that is pruned in several rounds, and one for each family of one-shot groups.

    The groups of a family differ only in how much is pruned. Its points are their results, after the dense network.
    """
    found: dict[object, list[Group]] = {}
    for group in groups:
        once = max(max(run.rounds, default=0) for run in group.runs) <= 1
        items = tuple(sorted(item for item in group.items.items() if item[0] not in DOSES))
        found.setdefault(items if once else group.label, []).append(group)
    keys = {key for group in groups for key in group.items}
    return _coloured([_curve(members, keys) for members in found.values()])


def _curve(members: Sequence[Group], keys: set[str]) -> Curve:
    if len(members) == 1:
        return Curve(members[0].label, points(members[0]), final(members[0]))
    ends = sorted((final(group) for group in members), key=lambda point: point.mean("sparsity") or 0.0)
    start = [point for point in points(members[0])[:1] if point.round == 0 and not point.mean("sparsity")]
    rest = {key: value for key, value in members[0].items.items() if key not in DOSES}
    doses = sorted({key for group in members for key in group.items if key in DOSES})
    name = label(rest, keys) if rest else f"{', '.join(doses)} varied"
    return Curve(name, [*(start if ends[0].mean("sparsity") else []), *ends], ends[-1])


def _coloured(found: list[Curve]) -> list[Curve]:
    """Give each curve its panel and colour; of more than fit, only those with the best validation accuracy."""
    order = sorted(found, key=lambda curve: curve.last.mean("val_accuracy") or 0.0, reverse=True)  # never by test data
    shown = {id(curve) for curve in order[: SHOWN * PANELS]}
    numbers = itertools.count()
    places = [divmod(next(numbers), SHOWN) if id(curve) in shown else None for curve in found]
    return [
        replace(curve, panel=place[0], colour=place[1] + 1) if place else curve
        for curve, place in zip(found, places, strict=True)
    ]


@dataclass(frozen=True)
class Baseline:
    """Dense networks, one per seed, that curves start from or are compared with; `told` tells them from others."""

    rows: Mapping[Seed, Numbers]
    curves: Sequence[Curve]
    told: str = ""

    @property
    def epochs(self) -> float | None:
        """For how many epochs they were trained; None if unknown."""
        return next(iter(self.rows.values())).get("epochs")

    @property
    def name(self) -> str:
        """Their name in tables and figures: `dense, 8 epochs (as l1, global)`."""
        return dense_name(self.epochs, self.told)

    @property
    def point(self) -> Point:
        """Its means over seeds."""
        return Point(self.curves[0].points[0].group, 0, self.rows)


def baselines(found: Iterable[Curve], longer: bool = False) -> list[Baseline]:
    """Return the trained dense networks, or (`longer`) those that were trained as long as the pruned networks.

    Curves with equal test accuracies at all shared seeds share one baseline.
    """
    merged: list[tuple[dict[Seed, Numbers], list[Curve]]] = []
    for curve in found:
        runs = curve.last.group.runs
        rows = {run.seed: row for run in runs if (row := run.baseline if longer else run.rounds.get(0))}
        rows = {s: row for s, row in rows.items() if row.get("epochs") != 0 and row.get("test_accuracy") is not None}
        if not rows:  # pruned at initialization: there is no trained dense network
            continue
        for known, members in merged:
            shared = known.keys() & rows.keys()
            if shared and all(known[s]["test_accuracy"] == rows[s]["test_accuracy"] for s in shared):
                known.update(rows)
                members.append(curve)
                break
        else:
            merged.append((rows, [curve]))
    return [Baseline(rows, members, _told(members, len(merged), longer)) for rows, members in merged]


def _told(members: Sequence[Curve], lines: int, longer: bool) -> str:
    """Return which experiments a dense network belongs to, one of several `lines`."""
    names = ", ".join(c.label for c in members) if len(members) <= SHOWN else f"{len(members)} experiments"
    if longer:
        return "as the pruned one" if lines == len(members) == 1 else f"as {names}"
    return "before pruning" + f": {names}" * (lines > 1)


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and its standard error (sample standard deviation ÷ √n); the error of one value is 0."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return statistics.fmean(values), error


def column(rows: Iterable[Numbers], key: str) -> list[float]:
    """Return the values of a column in the rows that have it."""
    return [value for row in rows if (value := row.get(key)) is not None]


def column_mean(rows: Iterable[Numbers], key: str) -> tuple[float | None, float]:
    """Return the mean and the standard error of a column; None and 0 if no row has it."""
    values = column(rows, key)
    return mean_and_error(values) if values else (None, 0.0)


def pareto(candidates: Iterable[Point]) -> list[Point]:
    """Return the Pareto front of nonzero parameters and validation accuracy (means over seeds), smallest first.

    No other point has at most as many parameters and at least the accuracy of a point of the front. Test accuracy is
    not used.
    """
    known = [(point.mean("nonzero"), point.mean("val_accuracy"), point) for point in candidates]
    usable = [(size, accuracy, point) for size, accuracy, point in known if size is not None and accuracy is not None]
    front: list[Point] = []
    best = float("-inf")
    for _, accuracy, point in sorted(usable, key=lambda item: (item[0], -item[1])):
        if accuracy > best:
            front.append(point)
            best = accuracy
    return front
