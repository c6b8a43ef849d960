"""The trials of a search, which are experiments in folders of their own like jobs of a sweep; and their Pareto set."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import run_job
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from optuna.trial import FrozenTrial

from prunelab import report
from prunelab.config import compose as composing
from prunelab.runtime import device
from prunelab.stages import files
from prunelab.sweeps.grid import drop_links
from prunelab.text import percent, table

# By objective, the column of a run's final row that is to be small.
COST = {"nonzero": "nonzero", "macs": "macs_nonzero"}


def run(overrides: Sequence[str], folder: Path, objective: str) -> tuple[float, float]:
    """Run one experiment into `folder`, whose name is the trial's number.

    Returns validation accuracy, a fraction, and cost in the objective's unit. Raises ConfigError for overrides that do
    not go together.
    """
    from prunelab.experiment import api

    config = composing.compose_checked(*overrides)
    hydra = ["hydra.mode=MULTIRUN", f"hydra.sweep.dir='{folder.parent}'", f"hydra.sweep.subdir='{folder.name}'"]
    hydra += [f"hydra.job.num={folder.name}", f"hydra.job.id={folder.name}"]
    device.limit_threads(config.threads)
    config = composing.compose_raw(*overrides, *hydra, return_hydra_config=True)
    files.drop_link(folder)
    drop_links(config, folder)
    unused: Any = None  # a job composes nothing
    nothing: Any = Callback()  # has the methods that `run_job` calls, and they do nothing
    job = run_job(api.run, config, "hydra.sweep.dir", "hydra.sweep.subdir", HydraContext(unused, nothing))
    with contextlib.redirect_stderr(io.StringIO()):  # Hydra would announce the error that it raises here
        _ = job.return_value
    final = report.read_run(folder).result
    accuracy, cost = final["val_accuracy"], final[COST[objective]]
    if accuracy is None or cost is None:
        raise ValueError(f"--objective {objective}: {COST[objective]} of this model could not be measured")
    return accuracy, cost


def pareto_table(best: Sequence[FrozenTrial], folder: Path, objective: str) -> str:
    """Return a table with one line per trial, the largest network first.

    This is the only place of a search that reads test accuracy: nothing is chosen by it.
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
