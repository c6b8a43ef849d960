"""Reads run folders, and nothing else: the table at the end of a sweep; `python -m prunelab.report` makes a page.

Light: the command line imports this before anything ran. What draws is imported by `prunelab.cli.report` only.
"""

from prunelab.report.jobs import (
    Job,
    jobs_table,
    mean_and_error,
    names,
    note_failure,
    over_seeds,
    read_summary,
    read_sweep,
    seeds_table,
    sweep_text,
)

__all__ = [
    "Job",
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
