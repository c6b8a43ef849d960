"""The tables of results, differences, layers, masks and failed runs, and the facts on how the runs were made."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

import pandas as pd

from prunelab.report.curves import SHOWN, Baseline, Point
from prunelab.report.differences import Difference, in_points, tested
from prunelab.report.groups import Group
from prunelab.report.mask_pictures import Picture
from prunelab.report.run_folders import Run
from prunelab.report.tables import AT_MOST, Column, Table, count, share, times, words

MEASURED = ("sparsity", "nonzero", "compression_ratio", "theoretical_speedup", "val_accuracy", "test_accuracy")
REASONS = {
    "missing": "no summary.json: the run never started, or was killed at once",
    "unfinished": "neither ended nor failed: the run is still running, or was killed",
    "completed": "completed, but neither summary.json nor rounds.csv has a final round",
}


def _measured(points: Iterable[tuple[str, Point]]) -> pd.DataFrame:
    """Return the means of points, with standard errors where there are several seeds; one row per point."""
    rows = []
    for name, point in points:
        row: dict[str, str | float | None] = {"group": name, "round": point.round, "seeds": len(point.rows)}
        for key in MEASURED:
            row[key], row[f"{key}_error"] = point.mean(key), point.error(key) if len(point.values(key)) > 1 else None
        rows.append(row)
    fields = [name for key in MEASURED for name in (key, f"{key}_error")]
    return pd.DataFrame(rows, columns=["group", "round", "seeds", *fields])


def results(ends: Sequence[tuple[Group, Point]], dense: Sequence[Baseline], longer: Sequence[Baseline] = ()) -> Table:
    """Return the final result of each group after the dense networks, which come last if they are more than eight.

    If there are more groups than the page shows, those with the best validation accuracy come first.
    """
    if len(ends) > AT_MOST:
        ends = sorted(ends, key=lambda end: end[1].mean("val_accuracy") or 0.0, reverse=True)
    start = [(line.name, line.point) for line in (*dense, *longer)]
    pruned = [(group.label, point) for group, point in ends]
    points = start + pruned if len(dense) <= SHOWN else pruned + start
    columns = [
        words("group", "experiment"),
        share("test_accuracy", "test accuracy", 2),
        count("seeds", "seeds"),
        share("sparsity", "sparsity"),
        times("compression_ratio", "compression ratio"),
        times("theoretical_speedup", "theoretical speed-up"),
    ]
    title = "Results after the last epoch, mean ± standard error over seeds"
    return Table("results", title, columns, _measured(points))


def pareto(front: Sequence[tuple[str, Point]]) -> Table:
    """Return the points of the Pareto front, from the smallest network to the largest."""
    columns = [
        words("group", "experiment"),
        count("round", "round"),
        count("seeds", "seeds"),
        count("nonzero", "nonzero parameters"),
        share("sparsity", "sparsity"),
        share("val_accuracy", "validation accuracy", 2),
        share("test_accuracy", "test accuracy", 2),
    ]
    title = "Pareto front by nonzero parameters and validation accuracy, mean ± standard error over seeds"
    return Table("pareto", title, columns, _measured(front))


def differences(found: Sequence[Difference], name: str, title: str) -> Table:
    """Return paired differences with their confidence intervals, verdicts, and p-values corrected for their number."""
    fields = ["first", "second", "sparsity", "seeds", "mean", "low", "high", "p", "verdict"]
    rows = [{**asdict(difference), "verdict": difference.verdict} for difference in found]
    tests = tested(found)
    title += f"; p-values corrected over all {tests}" * (tests > 1)
    columns = [
        Column("A − B", lambda row: f"{row['first']} − {row['second']}", words=True),
        words("verdict", "verdict"),
        share("sparsity", "at sparsity"),
        count("seeds", "seeds"),
        Column("mean difference (points)", lambda row: _signed(row["mean"])),
        Column("95% interval (points)", lambda row: _interval(row["low"], row["high"])),
        Column("p (Holm)", lambda row: "–" if row["p"] is None else f"{float(str(row['p'])):.3g}"),
    ]
    return Table(name, title, columns, pd.DataFrame(rows, columns=fields))


def _interval(low: object, high: object) -> str:
    return "–" if low is None else f"{_signed(low)} to {_signed(high)}"


def _signed(fraction: object) -> str:
    value = float(str(fraction))
    text = in_points(abs(value))
    return text if value == 0 else f"{'+' if value > 0 else '−'}{text}"


def layers(groups: Sequence[Group]) -> Table:
    """Return the sparsity of each tensor at the final round, mean over seeds; one row per group."""
    cells = [
        (group.label, f"sparsity of {tensor}", sparsity)
        for group in groups
        for run in group.runs
        for tensor, sparsity in run.layers.items()
        if sparsity is not None
    ]
    long = pd.DataFrame(cells, columns=["group", "tensor", "sparsity"])
    frame = long.groupby(["group", "tensor"], sort=False)["sparsity"].mean().unstack(sort=False)
    columns = [
        words("group", "experiment"),
        *(share(name, name.removeprefix("sparsity of "), heat=name) for name in frame.columns),
    ]
    title = "Sparsity of each tensor at the final round, mean over seeds"
    return Table("layers", title, columns, frame.reset_index().rename_axis(columns=None))


def masks(pictures: Sequence[Picture]) -> Table:
    """Return the numbers of the pictures of masks."""
    columns = [
        words("group", "experiment"),
        words("tensor", "tensor"),
        words("shape", "shape"),
        count("kept", "kept weights"),
        count("size", "all weights"),
        count("dead", "fully pruned filters or rows"),
    ]
    rows = [(p.group, p.tensor, p.shape, p.kept, p.size, p.dead) for p in pictures]
    frame = pd.DataFrame(rows, columns=["group", "tensor", "shape", "kept", "size", "dead"])
    return Table("masks", "Mask of the first layer, one run of each experiment", columns, frame)


def failed(runs: Iterable[Run]) -> Table:
    """Return the runs without a result, each with the reason."""
    fields = ["folder", "status", "overrides", "sentence"]
    columns = [*(words(field, field) for field in fields[:3]), words("sentence", "reason")]
    rows = [
        (str(run.folder), run.status, " ".join(run.overrides), run.error or REASONS.get(run.status, "no error message"))
        for run in runs
        if run.status != "completed" or not run.final
    ]
    return Table("failed", "Runs without a result", columns, pd.DataFrame(rows, columns=fields))


def provenance(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the versions, devices, threads and dates in the runs' summaries; several values where they differ."""
    facts: dict[str, list[str]] = {"versions": [], "device": [], "threads": []}
    for run in runs:
        text = ", ".join(f"{k} {v}" for k, v in run.summary.get("versions", {}).items())
        for key, value in (("versions", text), *((key, run.summary.get(key)) for key in ("device", "threads"))):
            facts[key] += [str(value)] if value not in ("", None) and str(value) not in facts[key] else []
    dates = sorted(str(run.summary["started"]) for run in runs if run.summary.get("started"))
    facts["started"] = dates[:1] if dates[:1] == dates[-1:] else [f"{dates[0]} to {dates[-1]}"]
    seconds = [run.seconds for run in runs if run.seconds is not None]
    facts["computing time"] = [f"{sum(seconds):,.0f} s over {len(seconds)} runs"] if seconds else []
    return {key: values for key, values in facts.items() if values}
