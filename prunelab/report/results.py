"""The report's tables, row by row: what was reached, what it costs, what differs, what failed."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence

from prunelab.report import tables
from prunelab.report.curves import Baseline, Point
from prunelab.report.differences import Difference, in_points
from prunelab.report.groups import Group
from prunelab.report.jobs import mean_and_error
from prunelab.report.reading import Row, Run
from prunelab.report.tables import Column, Table

MEASURED = ("sparsity", "nonzero", "compression_ratio", "theoretical_speedup", "val_accuracy", "test_accuracy")
AT_MOST = 60  # rows of a table on the page; the CSV has all


def measured(name: str, point: Point) -> Row:
    """Means and standard errors of a point; an error only where there are several seeds."""
    row: Row = {"group": name, "round": point.round, "seeds": len(point.rows)}
    for key in MEASURED:
        row |= {key: point.mean(key), f"{key}_error": point.error(key) if len(point.values(key)) > 1 else None}
    return row


def _fields(*names: str) -> list[str]:
    return [*names, *(field for key in MEASURED for field in (key, f"{key}_error"))]


def results(ends: Sequence[tuple[Group, Point]], dense: Sequence[Baseline]) -> Table:
    """What every group reached; the dense networks first, and of too many groups those best in validation."""
    rows = [measured(_dense_name(line, len(dense)), line.point) for line in dense]
    if len(ends) > AT_MOST:
        ends = sorted(ends, key=lambda end: end[1].mean("val_accuracy") or 0.0, reverse=True)
    rows += [measured(group.label, point) for group, point in ends]
    columns = [
        tables.words("group", "experiment"),
        tables.share("test_accuracy", "test accuracy", 2),
        tables.count("seeds", "seeds n"),
        tables.share("sparsity", "sparsity"),
        tables.times("compression_ratio", "compression"),
        tables.times("theoretical_speedup", "theoretical speed-up"),
    ]
    title = "Results of the last epoch, mean ± standard error over seeds"
    return Table("results", title, columns, rows, _fields("group", "round", "seeds"))


def _dense_name(line: Baseline, lines: int) -> str:
    return "dense network" if lines == 1 else f"dense network of {', '.join(curve.label for curve in line.curves)}"


def pareto(front: Sequence[tuple[str, Point]]) -> Table:
    """The front, from the smallest network to the largest."""
    columns = [
        tables.words("group", "experiment"),
        tables.count("round", "round"),
        tables.count("seeds", "seeds n"),
        tables.count("nonzero", "nonzero parameters"),
        tables.share("sparsity", "sparsity"),
        tables.share("val_accuracy", "validation accuracy", 2),
        tables.share("test_accuracy", "test accuracy", 2),
    ]
    rows = [measured(name, point) for name, point in front]
    title = "Pareto front: chosen by validation accuracy, mean ± standard error over seeds"
    return Table("pareto", title, columns, rows, _fields("group", "round", "seeds"))


def differences(found: Iterable[Difference], name: str, title: str) -> Table:
    """Paired differences with their verdicts."""
    columns = [
        Column("A − B", lambda row: f"{row['first']} − {row['second']}", words=True),
        tables.words("verdict", "verdict"),
        tables.share("sparsity", "at sparsity"),
        tables.count("seeds", "seeds n"),
        Column("mean difference (points)", lambda row: _signed(row["mean"])),
        Column(
            "95% interval (points)",
            lambda row: "–" if row["low"] is None else f"{_signed(row['low'])} to {_signed(row['high'])}",
        ),
    ]
    rows = [{**vars(d), "verdict": d.verdict} for d in found]
    fields = ["first", "second", "sparsity", "seeds", "mean", "low", "high", "verdict"]
    return Table(name, title, columns, rows, fields)


def _signed(fraction: float) -> str:
    text = in_points(abs(fraction))
    return text if fraction == 0 else f"{'+' if fraction > 0 else '−'}{text}"


def layers(groups: Sequence[Group]) -> tuple[Table, list[str]]:
    """Sparsity by tensor at the final round, mean over seeds: a row a group. Also the tensors' names."""
    rows: list[Row] = []
    for group in groups:
        found: dict[str, list[float]] = {}
        for layer in (layer for run in group.runs for layer in run.layers):
            if layer.get("sparsity") is not None:
                found.setdefault(layer["tensor"], []).append(layer["sparsity"])
        if found:
            rows.append({"group": group.label, **{f"@{name}": mean_and_error(v)[0] for name, v in found.items()}})
    names = list(dict.fromkeys(key for row in rows for key in row if key != "group"))
    columns = [tables.words("group", "experiment"), *(tables.share(name, name[1:]) for name in names)]
    title = "Sparsity of each tensor at the final round, mean over seeds"
    return Table("layers", title, columns, rows, ["group", *names]), names


def shades(names: Iterable[str]) -> list[functools.partial[float | None]]:
    """How dark each tensor's cell is."""
    return [functools.partial(_of, name) for name in names]


def _of(name: str, row: Row) -> float | None:
    return row.get(name)


def masks(drawn: Iterable[Mapping[str, object]]) -> Table:
    """What the pictures of masks show, in numbers."""
    columns = [
        tables.words("group", "experiment"),
        tables.words("tensor", "tensor"),
        tables.words("shape", "shape"),
        tables.count("kept", "kept"),
        tables.count("size", "of"),
        tables.count("dead", "empty filters or rows"),
    ]
    title = "The first layer's mask, one run of each"
    return Table(
        "masks", title, columns, [dict(d) for d in drawn], ["group", "tensor", "shape", "kept", "size", "dead"]
    )


def failed(runs: Iterable[Run]) -> Table:
    """The runs that did not complete, each with its sentence."""
    columns = [
        tables.words("folder", "folder"),
        tables.words("status", "status"),
        tables.words("overrides", "overrides"),
        tables.words("sentence", "what happened"),
    ]
    rows = [
        {
            "folder": str(run.folder),
            "status": run.status,
            "overrides": " ".join(run.overrides),
            "sentence": _sentence(run),
        }
        for run in runs
        if run.status != "completed" or not run.final
    ]
    return Table("failed", "Runs without a result", columns, rows, ["folder", "status", "overrides", "sentence"])


def _sentence(run: Run) -> str:
    """The first line of its error; for one that left none, what is known."""
    lines = str(run.summary.get("error") or "").strip().splitlines()
    known = {
        "missing": "it has no summary: it never started, or was killed at once",
        "unfinished": "it neither ended nor failed: it is still running, or was killed",
        "completed": "it has no final row, and no rounds.csv",
    }
    return lines[0] if lines else known.get(run.status, "no reason was written")


def all_runs(runs: Iterable[Run]) -> Table:
    """Every run, for programs."""
    rows = [
        {
            **{key: run.final.get(key) for key in ("round", *MEASURED)},
            **{key: run.summary.get(key) for key in ("started", "seconds", "device", "threads", "command")},
            "folder": str(run.folder),
            "status": run.status,
            "seed": run.seed,
            "overrides": " ".join(run.overrides),
        }
        for run in runs
    ]
    fields = ["folder", "status", "overrides", "seed", "round", *MEASURED]
    return Table("runs", "All runs", [], rows, [*fields, "seconds", "started", "device", "threads", "command"])


def provenance(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Versions, device, threads and dates that the runs' summaries name; several where they differ."""
    facts: dict[str, list[str]] = {"versions": [], "device": [], "threads": []}
    for run in runs:
        versions = run.summary.get("versions")
        text = ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, dict) else ""
        for key, value in (("versions", text), *((key, run.summary.get(key)) for key in ("device", "threads"))):
            facts[key] += [str(value)] if value not in ("", None) and str(value) not in facts[key] else []
    dates = sorted(str(run.summary["started"]) for run in runs if run.summary.get("started"))
    facts["started"] = dates[:1] if dates[:1] == dates[-1:] else [f"{dates[0]} to {dates[-1]}"]
    seconds = [run.summary["seconds"] for run in runs if isinstance(run.summary.get("seconds"), (int, float))]
    facts["computing time"] = [f"{sum(seconds):,.0f} s over {len(seconds)} runs"] if seconds else []
    return {key: values for key, values in facts.items() if values}
