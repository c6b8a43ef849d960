"""The jobs of a sweep, and the tables at its end."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prunelab.stages import files
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
    common = set.intersection(*(set(job["overrides"]) for job in jobs)) if len(jobs) > 1 else set()
    text = jobs_table(jobs, common)
    groups = over_seeds(jobs, common)
    if any(len(members) > 1 for members in groups.values()):
        text += f"\n\n{seeds_table(groups)}"
    failed = [job for job in jobs if job["status"] != "completed"]
    for job in failed:
        error = str(job["summary"].get("error", "")).splitlines()
        text += f"\njob {job['number']} {job['status']}: {' '.join(job['overrides'])}{': ' + error[0] if error else ''}"
    return text + (f"\n{len(failed)} of {len(jobs)} jobs did not complete" if failed else "")


def jobs_table(jobs: Iterable[Job], common: Collection[str] = ()) -> str:
    """One line a job; overrides that all jobs have in `common` are left out."""
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
        rows.append([str(job["number"]), _name(job, common), *cells, status])
    return table(header, rows, left=2)


def over_seeds(jobs: Iterable[Job], common: Collection[str] = ()) -> dict[str, list[Mapping[str, Any]]]:
    """The final rows of the completed jobs, grouped by their overrides without the seed."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for job in jobs:
        if job["status"] == "completed":
            groups.setdefault(_name(job, common, seed=False), []).append(job["summary"]["final"])
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
        rows.append([name, str(len(finals)), percent(sparsity), f"{compression:.2f}×", shown])
    return table(header, rows)


def names(jobs: Sequence[Sequence[str]]) -> list[str]:
    """What tells each of these jobs, given by its overrides, from the others."""
    common = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    return [_name({"overrides": job}, common) for job in jobs]


def _name(job: Job, common: Collection[str], *, seed: bool = True) -> str:
    """The overrides that tell this job from others."""
    items = [item for item in job["overrides"] if item not in common and (seed or not item.startswith("seed="))]
    return " ".join(items) or "(defaults)"


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and standard error of the mean (sample deviation ÷ √n); 0 for a single value."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return statistics.fmean(values), error
