"""The tables that are printed at the end of a sweep. Needs no package beyond the core install."""

import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence

from prunelab.report.curves import baselines, column_mean, curves
from prunelab.report.groups import group
from prunelab.report.run_folders import Numbers, Run
from prunelab.text import percent, table, visible

MEANING = (
    "Sparsity: zeros ÷ weights that may be pruned. Compression: all parameters ÷ nonzero ones. Theoretical speed-up: "
    "multiply-adds ÷ those on nonzero weights, not time. Test accuracy: after the last epoch"
)
ERROR = "over seeds, on this one test set; the sampling of test images is not in it"
SIZES = ("sparsity", "compression", "theoretical speed-up", "test accuracy")


def sweep_text(jobs: Sequence[Run]) -> str:
    """Return the table of a sweep's jobs, the means over seeds if there are several, and what failed."""
    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    found = group(jobs)
    lines = [line for longer in (False, True) for line in baselines(curves(found), longer)]
    dense = {line.name: list(line.rows.values()) for line in lines}
    seeds = max((len(one.runs) for one in found), default=0)
    means = _seeds_table(jobs, common, dense) if seeds > 1 else ""
    text = "\n\n".join(filter(None, [_jobs_table(jobs, common, dense), means]))
    spread = f". ±: standard error of the mean {ERROR}" if means else ""
    if any(job.result for job in jobs):
        text += "\n" + textwrap.fill(f"{MEANING}{spread}. {few_seeds(seeds)}", 120)
    failed = [job for job in jobs if job.status != "completed"]
    for job in failed:
        said = f"job {job.number} {job.status}: {' '.join(job.overrides)}{job.error and f': {job.error}'}"
        text += "\n" + visible(said, keep="")
    for job in jobs:
        for problem in job.problems if job.status == "completed" else ():
            text += "\n" + visible(f"job {job.number}: {problem}", keep="")
    return text + (f"\n{len(failed)} of {len(jobs)} jobs did not complete" if failed else "")


def few_seeds(seeds: int) -> str:
    """Return what two seeds are worth; an empty text for any other number."""
    return "2 seeds: an interval means little; take 5." if seeds == 2 else ""


def _jobs_table(jobs: Sequence[Run], common: Collection[str], dense: Mapping[str, Sequence[Numbers]]) -> str:
    """Return a table with one line per job, without the overrides that all jobs have in `common`; dense ones first."""
    rows = []
    for name, found in dense.items():
        seconds, _ = column_mean(found, "seconds")
        rows.append(["", name, *sizes(found), "" if seconds is None else f"{seconds:.1f}", ""])
    for job in jobs:
        cells = [*sizes([job.result]), f"{job.seconds or 0:.1f}"] if job.result else [""] * (len(SIZES) + 1)
        status = "" if job.status == "completed" else job.status
        rows.append([str(job.number), _name(job.overrides, common), *cells, status])
    return table(["job", "overrides", *SIZES, "seconds", ""], rows, left=2)


def _seeds_table(jobs: Sequence[Run], common: Collection[str], dense: Mapping[str, Sequence[Numbers]]) -> str:
    """Return a table of means over seeds, test accuracy ± its standard error; dense networks first."""
    groups = {name: list(rows) for name, rows in dense.items()}
    for job in jobs:
        if job.status == "completed":
            groups.setdefault(_name(job.overrides, common, seed=False), []).append(job.result)
    rows = [[name, str(len(finals)), *sizes(finals)] for name, finals in groups.items()]
    return table(["overrides", "seeds", *SIZES], rows)


def sizes(rows: Sequence[Numbers]) -> list[str]:
    """Return the cells of `SIZES`: means over seeds."""
    accuracy, error = column_mean(rows, "test_accuracy")
    means = [column_mean(rows, key)[0] for key in ("compression_ratio", "theoretical_speedup")]
    ratios = ["–" if mean is None else f"{mean:.2f}×" for mean in means]
    spread = f" ± {percent(error, 2)}" if len(rows) > 1 else ""
    return [percent(column_mean(rows, "sparsity")[0]), *ratios, percent(accuracy, 2) + spread]


def names(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Return a name for each job: its overrides without those that all jobs have."""
    common = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    return [_name(job, common) for job in jobs]


def _name(overrides: Iterable[str], common: Collection[str], *, seed: bool = True) -> str:
    items = [item for item in overrides if item not in common and (seed or not item.startswith("seed="))]
    return " ".join(items) or "(defaults)"
