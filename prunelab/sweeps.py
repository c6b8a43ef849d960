"""A sweep as a whole: which jobs it has, and the table of them at its end. No torch here."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from prunelab import composing, files, messages, report

ATTEMPTS = "PRUNELAB_SWEEP_ATTEMPTS"  # when the sweep was last started again, and starts that stored nothing
_last: list[Path] = []
_stages: list[Path] = []


class SweepCallback(Callback):
    """Notes the jobs of a sweep when it starts, and each job that ends without a summary of its own."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Writes `sweep.json`: the overrides of every job, so that a missing one can be named.

        A choice that does not exist would end the sweep at the job that comes to it: it is refused here, before all.
        """
        parsed = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(
            config.hydra.overrides.task
        )
        (batch,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
        seen: set[str] = set()
        for overrides in batch:
            if not seen.issuperset(overrides):
                _try(overrides)
            seen.update(overrides)
        folder = Path(config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        files.write_file(folder / "sweep.json", json.dumps({"jobs": batch}, indent=1).encode())
        _last.append(folder)
        _stages.append(Path(config.outputs) / "stages")
        if ATTEMPTS not in os.environ:
            print(f"{len(batch)} jobs → {folder}", flush=True)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Leaves a summary where a job failed before it could write one."""
        if job_return.status is JobStatus.FAILED:
            report.note_failure(Path(config.hydra.runtime.output_dir), str(job_return._return_value))


def _try(overrides: list[str]) -> None:
    """Ends the process if these overrides cannot be composed: Hydra would turn an error here into a warning."""
    try:
        composing.compose_raw(*overrides)
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"prunelab: {messages.explain(error, overrides, composing.compose_raw)}")


def broken(error: BaseException) -> bool:
    """Whether a worker was killed: with joblib its end is the end of the whole pool, and of the jobs in it."""
    return running() and type(error).__name__ in ("TerminatedWorkerError", "BrokenProcessPool")


def go_on() -> None:
    """Starts this command again, in the same sweep folder, for the jobs that did not complete.

    Returns only when five starts in a row have not stored a stage or a checkpoint: then a job kills its worker.
    """
    since, stalled = map(float, os.environ.get(ATTEMPTS, "0 0").split())
    progress = any(path.stat().st_mtime > since for path in _stages[-1].rglob("manifest.json"))
    stalled = 0 if progress else stalled + 1
    if stalled >= 5:
        return
    os.environ[ATTEMPTS] = f"{time.time()} {stalled}"
    print("prunelab: a worker was killed; going on with the jobs that are missing", file=sys.stderr, flush=True)
    arguments = [item for item in sys.argv[1:] if not item.startswith("hydra.sweep.dir=")]
    os.execv(sys.executable, [sys.executable, "-m", "prunelab", *arguments, f"hydra.sweep.dir='{_last[-1]}'"])


def is_done(config: DictConfig) -> bool:
    """Whether this job of a sweep that is run again completed before, with the same config."""
    if not composing.in_sweep() or not (config.reuse or ATTEMPTS in os.environ):
        return False
    summary = report.read_summary(composing.run_folder(config)) or {}
    return summary.get("status") == "completed" and summary.get("config") == composing.plain(config)


def running() -> bool:
    """Whether this process has started a sweep."""
    return bool(_last)


def show_last() -> bool:
    """Prints the table of the sweep that this process ran, if it ran one; False if a job failed or is missing."""
    if not _last:
        return True
    sweep = report.read_sweep(_last[-1])
    print(report.sweep_text(sweep))
    return all(job["status"] == "completed" for job in sweep)
