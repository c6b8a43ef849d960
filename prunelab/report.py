"""Reads run folders, and nothing else: tables of what was run."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prunelab import files
from prunelab.tracking.console import percent, table

Job = dict[str, Any]


def read_summary(folder: Path) -> dict[str, Any] | None:
    """A run's summary; None if there is none, or if it is not one."""
    try:
        summary = json.loads((folder / "summary.json").read_bytes())
    except (OSError, ValueError):
        return None
    return summary if isinstance(summary, dict) else None


def note_failure(folder: Path, message: str) -> None:
    """Leaves a summary for a job that failed before it could write one."""
    if read_summary(folder) is None and folder.is_dir():
        summary = {"status": "failed", "error": message}
        files.write_file(folder / "summary.json", json.dumps(summary, indent=2).encode())


def read_sweep(folder: Path) -> list[Job]:
    """The jobs of a sweep, in order: `number`, `overrides`, `status`, and the `summary` if there is one.

    A job without a summary is `missing`; one that neither ended nor is known to have failed is `unfinished`.
    """
    jobs = []
    for number, overrides in enumerate(json.loads((folder / "sweep.json").read_bytes())["jobs"]):
        summary = read_summary(folder / str(number))
        status = "missing" if summary is None else summary["status"]
        status = "unfinished" if status == "running" else status
        jobs.append({"number": number, "overrides": overrides, "status": status, "summary": summary or {}})
    return jobs


def sweep_text(jobs: Sequence[Job]) -> str:
    """The table at the end of a sweep; with several seeds a second one, over them; at the end what failed."""
    lines = [jobs_table(jobs)]
    groups = over_seeds(jobs)
    if any(len(members) > 1 for members in groups.values()):
        lines.append(seeds_table(groups))
    for job in jobs:
        if job["status"] != "completed":
            error = str(job["summary"].get("error", "")).splitlines()
            name = " ".join(job["overrides"])
            lines.append(f"job {job['number']} {job['status']}: {name}" + (f": {error[0]}" if error else ""))
    return "\n\n".join(lines)


def jobs_table(jobs: Iterable[Job]) -> str:
    """One line a job."""
    header = ["job", "overrides", "sparsity", "compression", "test accuracy", "seconds", ""]
    rows = []
    for job in jobs:
        final = job["summary"].get("final")
        cells = ["", "", "", ""]
        if final:
            seconds = f"{job['summary']['seconds']:.1f}"
            compression = f"{final['compression_ratio']:.2f}×"
            cells = [percent(final["sparsity"]), compression, percent(final["test_accuracy"], 2), seconds]
        status = "" if job["status"] == "completed" else job["status"]
        rows.append([str(job["number"]), " ".join(job["overrides"]), *cells, status])
    return table(header, rows, left=2)


def over_seeds(jobs: Iterable[Job]) -> dict[str, list[Mapping[str, Any]]]:
    """The final rows of the completed jobs, grouped by their overrides without the seed."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for job in jobs:
        if job["status"] == "completed":
            name = " ".join(item for item in job["overrides"] if not item.startswith("seed="))
            groups.setdefault(name, []).append(job["summary"]["final"])
    return groups


def seeds_table(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Mean ± standard error over seeds."""
    header = ["overrides", "seeds", "sparsity", "compression", "test accuracy"]
    rows = []
    for name, finals in groups.items():
        compression, _ = mean_and_error([final["compression_ratio"] for final in finals])
        sparsity, _ = mean_and_error([final["sparsity"] for final in finals])
        accuracy, error = mean_and_error([final["test_accuracy"] for final in finals])
        shown = percent(accuracy, 2) + (f" ± {percent(error, 2)}" if len(finals) > 1 else "")
        rows.append([name or "(defaults)", str(len(finals)), percent(sparsity), f"{compression:.2f}×", shown])
    return table(header, rows)


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and standard error of the mean (sample deviation ÷ √n); 0 for a single value."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return statistics.fmean(values), error
