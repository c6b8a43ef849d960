"""The table at the end of a search: the trials that no other trial beats in both objectives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optuna.trial import FrozenTrial

from prunelab import report
from prunelab.text import percent, table


def pareto_table(best: Sequence[FrozenTrial], folder: Path, objective: str) -> str:
    """Return a table with one line per trial, the largest network first.

    This is the only place of a search that reads test accuracy: nothing is chosen by it.

    Args:
        best: trials of the Pareto set.
        folder: of the study; a trial's folder is in it, under its number.
        objective: `nonzero` or `macs`.
    """
    macs = "nonzero MACs" if objective == "macs" else ""  # a table leaves out an empty column
    header = ["trial", "overrides", "val accuracy", "nonzero", macs, "compression", "test accuracy", "folder"]
    rows = []
    for trial in sorted(best, key=lambda trial: (-trial.values[1], trial.number)):
        accuracy, cost = trial.values
        final = report.read_run(folder / str(trial.number)).result
        counted = f"{cost:,.0f}" if macs else ""
        cells = ["–", counted, "–", "–"]  # the folder was removed
        if final:
            reached = [f"{final['compression_ratio']:.2f}×", percent(final["test_accuracy"], 2)]
            cells = [f"{final['nonzero']:,.0f}", counted, *reached]
        name = " ".join(trial.user_attrs["chosen"])
        rows.append([str(trial.number), name, percent(accuracy, 2), *cells, str(folder / str(trial.number))])
    return table(header, rows, left=2)
