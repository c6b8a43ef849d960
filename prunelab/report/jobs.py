"""The tables that are printed at the end of a sweep. Needs no package beyond the core install."""

from __future__ import annotations

import math
import re
import statistics
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence

from prunelab.report.form_rows import Numbers
from prunelab.report.run_folders import Run
from prunelab.text import percent, table, visible

LONGER = "dense, trained as long"
DENSE = ("data", "model", "optimizer", "lr_schedule", "regularizer", "train")  # what dense training depends on
MEANING = (
    "Sparsity: zeros ÷ weights that may be pruned. Compression: all parameters ÷ nonzero ones. Theoretical speed-up: "
    "multiply-adds ÷ those on nonzero weights, not time. Test accuracy: after the last epoch"
)
SIZES = ("sparsity", "compression", "theoretical speed-up", "test accuracy")


def sweep_text(jobs: Sequence[Run]) -> str:
    """Return the table of a sweep's jobs, the means over seeds if there are several, and what failed."""
    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    means = _seeds_table(jobs, common)
    text = "\n\n".join(filter(None, [_jobs_table(jobs, common), means]))
    spread = "; ± standard error of the mean over seeds" if "±" in text else ""
    if any(job.result for job in jobs):
        text += "\n" + textwrap.fill(f"{MEANING}{spread}.", 120)
    failed = [job for job in jobs if job.status != "completed"]
    for job in failed:
        said = f"job {job.number} {job.status}: {' '.join(job.overrides)}{job.error and f': {job.error}'}"
        text += "\n" + visible(said, keep="")
    for job in jobs:
        for problem in job.problems if job.status == "completed" else ():
            text += "\n" + visible(f"job {job.number}: {problem}", keep="")
    return text + (f"\n{len(failed)} of {len(jobs)} jobs did not complete" if failed else "")


def _jobs_table(jobs: Sequence[Run], common: Collection[str]) -> str:
    """Return a table with one line per job, without the overrides that all jobs have in `common`; dense ones first."""
    rows = [["", name, *sizes(found), "", ""] for name, found in _dense(jobs, common).items()]
    for job in jobs:
        cells = [*sizes([job.result]), f"{job.seconds or 0:.1f}"] if job.result else [""] * (len(SIZES) + 1)
        status = "" if job.status == "completed" else job.status
        rows.append([str(job.number), _name(job.overrides, common), *cells, status])
    for name, row in _baselines(jobs, common):
        rows.append(["", f"{LONGER} {name}".strip(), *sizes([row]), f"{row.get('seconds') or 0:.1f}", ""])
    return table(["job", "overrides", *SIZES, "seconds", ""], rows, left=2)


def _dense(jobs: Sequence[Run], common: Collection[str]) -> dict[str, list[Numbers]]:
    """Return the dense networks by what they are trained from, one for each seed."""
    found: dict[str, dict[object, Numbers]] = {}
    for job in jobs:
        if job.status == "completed" and (row := job.rounds.get(0)):
            told = [o for o in job.overrides if o not in common and re.split(r"[.=]", o.lstrip("+"))[0] in DENSE]
            found.setdefault(" ".join(["dense", *told]), {})[job.seed] = row
    return {name: list(rows.values()) for name, rows in found.items()}


def _seeds_table(jobs: Sequence[Run], common: Collection[str]) -> str:
    """Return a table of means over seeds, test accuracy ± its standard error; an empty text if each has one seed."""
    groups = dict(_dense(jobs, common))
    for job in jobs:
        if job.status == "completed":
            groups.setdefault(_name(job.overrides, common, seed=False), []).append(job.result)
    for name, row in _baselines(jobs, common, seed=False):
        groups.setdefault(f"{LONGER} {name}".strip(), []).append(row)
    rows = [[name, str(len(finals)), *sizes(finals)] for name, finals in groups.items()]
    several = any(len(finals) > 1 for finals in groups.values())
    return table(["overrides", "seeds", *SIZES], rows) if several else ""


def sizes(rows: Sequence[Numbers]) -> list[str]:
    """Return the cells of `SIZES`: means over seeds."""
    accuracy, error = _mean(rows, "test_accuracy")
    ratios = [_times(_mean(rows, key)[0]) for key in ("compression_ratio", "theoretical_speedup")]
    spread = f" ± {percent(error, 2)}" if len(rows) > 1 else ""
    return [percent(_mean(rows, "sparsity")[0]), *ratios, percent(accuracy, 2) + spread]


def _baselines(jobs: Sequence[Run], common: Collection[str], *, seed: bool = True) -> Iterator[tuple[str, Numbers]]:
    """Yield each dense network that was trained as long as pruned ones, named by what the jobs that share it share."""
    sharing: dict[object, list[Run]] = {}
    for job in jobs:
        if job.baseline and job.status == "completed":
            sharing.setdefault(str(job.summary["baseline"].get("stage")), []).append(job)
    for those in sharing.values():
        shared = [item for item in those[0].overrides if all(item in job.overrides for job in those)]
        told = [item for item in shared if item not in common and (seed or not item.startswith("seed="))]
        yield " ".join(told if len(sharing) > 1 else []), those[0].baseline


def _mean(rows: Sequence[Numbers], key: str) -> tuple[float | None, float]:
    values = [value for row in rows if (value := row.get(key)) is not None]
    return mean_and_error(values) if values else (None, 0.0)


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
