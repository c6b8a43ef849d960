"""The tables that are printed at the end of a sweep. Needs no package beyond the core install."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence

from prunelab.report.run_folders import Numbers, Run
from prunelab.tracking.console import percent, table


def sweep_text(jobs: Sequence[Run]) -> str:
    """Return the table of a sweep's jobs, the means over seeds if there are several, and what failed."""
    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    text = jobs_table(jobs, common)
    groups = over_seeds(jobs, common)
    if any(len(members) > 1 for members in groups.values()):
        text += f"\n\n{seeds_table(groups)}"
    failed = [job for job in jobs if job.status != "completed"]
    for job in failed:
        text += f"\njob {job.number} {job.status}: {' '.join(job.overrides)}{job.error and f': {job.error}'}"
    return text + (f"\n{len(failed)} of {len(jobs)} jobs did not complete" if failed else "")


def jobs_table(jobs: Iterable[Run], common: Collection[str] = ()) -> str:
    """Return a table with one line per job.

    Args:
        jobs: of one sweep.
        common: overrides that are not shown, since all jobs have them.
    """
    header = ["job", "overrides", "sparsity", "compression", "test accuracy", "seconds", ""]
    rows = []
    for job in jobs:
        cells = ["", "", "", ""]
        if final := job.result:
            accuracy, compression = percent(final.get("test_accuracy"), 2), _times(final.get("compression_ratio"))
            cells = [percent(final.get("sparsity")), compression, accuracy, f"{job.seconds or 0:.1f}"]
        status = "" if job.status == "completed" else job.status
        rows.append([str(job.number), _name(job.overrides, common), *cells, status])
    return table(header, rows, left=2)


def over_seeds(jobs: Iterable[Run], common: Collection[str] = ()) -> dict[str, list[Numbers]]:
    """Return the final rounds of the completed jobs, grouped by their overrides without the seed."""
    groups: dict[str, list[Numbers]] = {}
    for job in jobs:
        if job.status == "completed":
            groups.setdefault(_name(job.overrides, common, seed=False), []).append(job.result)
    return groups


def seeds_table(groups: Mapping[str, Sequence[Numbers]]) -> str:
    """Return a table of means over seeds; test accuracy with its standard error."""
    header = ["overrides", "seeds", "sparsity", "compression", "test accuracy"]
    rows = []
    for name, finals in groups.items():
        means = {}
        for key in ("sparsity", "compression_ratio", "test_accuracy"):
            known = [value for final in finals if (value := final.get(key)) is not None]
            means[key] = mean_and_error(known) if known else (None, 0.0)
        accuracy, error = means["test_accuracy"]
        shown = percent(accuracy, 2) + (f" ± {percent(error, 2)}" if len(finals) > 1 else "")
        sparsity, compression = percent(means["sparsity"][0]), _times(means["compression_ratio"][0])
        rows.append([name, str(len(finals)), sparsity, compression, shown])
    return table(header, rows)


def names(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Return a name for each job: its overrides without those that all jobs have.

    Args:
        jobs: the overrides of each job.
    """
    common = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    return [_name(job, common) for job in jobs]


def _name(overrides: Iterable[str], common: Collection[str], *, seed: bool = True) -> str:
    items = [item for item in overrides if item not in common and (seed or not item.startswith("seed="))]
    return " ".join(items) or "(defaults)"


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}×"


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and its standard error (sample standard deviation ÷ √n); the error of one value is 0."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return statistics.fmean(values), error
