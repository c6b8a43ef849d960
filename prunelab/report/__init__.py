"""Read run folders and summarize them: the tables at the end of a sweep, and the HTML report."""

from prunelab.report.jobs import names, sweep_text
from prunelab.report.run_folders import Run, find_runs, note_failure, read_run, read_summary, read_sweep

__all__ = ["Run", "find_runs", "names", "note_failure", "read_run", "read_summary", "read_sweep", "sweep_text"]
