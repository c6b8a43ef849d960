"""Read run folders and summarize them: the tables at the end of a sweep, and the HTML report."""

from prunelab.report.jobs import jobs_table, mean_and_error, names, over_seeds, seeds_table, sweep_text
from prunelab.report.run_folders import Run, find_runs, note_failure, read_summary, read_sweep

__all__ = [
    "Run",
    "find_runs",
    "jobs_table",
    "mean_and_error",
    "names",
    "note_failure",
    "over_seeds",
    "read_summary",
    "read_sweep",
    "seeds_table",
    "sweep_text",
]
