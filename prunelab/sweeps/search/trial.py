"""One trial of a search: an experiment in a folder of its own, like a job of a sweep."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import run_job
from hydra.experimental.callback import Callback
from hydra.types import HydraContext

from prunelab import report
from prunelab.config import compose as composing

# By objective, the column of a run's final row that is to be small.
COST = {"nonzero": "nonzero", "macs": "macs_nonzero"}


def run(overrides: Sequence[str], folder: Path, objective: str) -> tuple[float, float]:
    """Run one experiment into `folder`, whose name is the trial's number.

    Returns:
        Validation accuracy, a fraction, and cost in the objective's unit.

    Raises:
        ConfigError: for overrides that do not go together.
    """
    from prunelab.experiment import api

    composing.compose(*overrides)
    hydra = ["hydra.mode=MULTIRUN", f"hydra.sweep.dir='{folder.parent}'", f"hydra.sweep.subdir='{folder.name}'"]
    hydra += [f"hydra.job.num={folder.name}", f"hydra.job.id={folder.name}"]
    config = composing.compose_raw(*overrides, *hydra, return_hydra_config=True)
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
