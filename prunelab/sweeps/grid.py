"""A sweep as a whole: which jobs it has, and the table of them at its end. No torch here."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from prunelab import report
from prunelab.config import compose as composing
from prunelab.config import messages
from prunelab.stages import files
from prunelab.sweeps import launchers
from prunelab.sweeps.progress import TRIES, Progress
from prunelab.tracking.console import where

# In a job's folder, TRIES: its tries without an epoch more than before, the epochs, whether it ended.
SUSPECT, GIVEN_UP = 2, 5  # after so many such tries a job runs alone, or no more
USELESS = 5  # so many starts in a row in which workers were killed before a job began
_last: list[Path] = []
_progress: list[Progress] = []
_turn: list[int] = []  # the jobs that the next start is for, if it is not the first
_seen: list[dict[int, dict[str, Any]]] = []  # what was left before and after each start


class SweepCallback(Callback):
    """Notes the jobs of a sweep when it starts, when each job begins and ends, and a failure without a summary."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Writes `sweep.json`: the overrides of every job, so that a missing one can be named, and whose turn it is.

        A choice that does not exist would end the sweep at the job that comes to it: it is refused here, before all.
        """
        jobs, folder, first = _jobs(config), Path(config.hydra.sweep.dir), not running()
        if first:
            _try(config, jobs)
        launchers.prepare(config)
        folder.mkdir(parents=True, exist_ok=True)
        sweep = {"turn": None if first else _turn, "jobs": jobs}
        files.write_file(folder / "sweep.json", json.dumps(sweep, indent=1).encode())
        if first:
            for number in range(len(jobs)):
                (folder / str(number) / TRIES).unlink(missing_ok=True)
            print(f"{len(jobs)} jobs → {folder}", flush=True)
            _last.append(folder)
            _seen.append(_left())
            _progress.append(Progress(folder, jobs))

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Counts a try of a job: what is left of it where its worker is killed."""
        if _has_turn():
            folder = Path(config.hydra.runtime.output_dir)
            tries = _tries(folder)
            _note(folder, tries | {"tries": tries["tries"] + 1})

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Notes that a job ended, well or not; leaves a summary where it failed before it could write one."""
        folder = Path(config.hydra.runtime.output_dir)
        if job_return.status is JobStatus.FAILED:
            report.note_failure(folder, str(job_return._return_value))
        if _has_turn():
            _note(folder, _tries(folder) | {"ended": True})


def _jobs(config: DictConfig) -> list[list[str]]:
    """The overrides of every job, as Hydra's sweeper makes them: of `hydra.sweeper.params` and the command line."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    parsed = parser.parse_overrides([*params, *config.hydra.overrides.task])
    (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return jobs


def _try(config: DictConfig, jobs: list[list[str]]) -> None:
    """Ends the process if a job cannot be composed: Hydra would turn an error here into a warning."""
    seen: set[str] = set()
    for overrides in jobs:
        if seen.issuperset(overrides):
            continue
        try:
            GlobalHydra.instance().config_loader().load_sweep_config(config, overrides)
        except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError for strategy=l1,3
            sys.exit(f"prunelab: {messages.explain(error, overrides, composing.compose_raw)}")
        seen.update(overrides)


def broken(error: BaseException) -> bool:
    """Whether a worker of a sweep was killed; no job of it runs any more then."""
    return running() and launchers.killed(error)


def go_on(*, broke: bool) -> bool:
    """Whether to start again, in the same folder, for the jobs of the sweep that did not end; says so.

    A killed worker takes with it all jobs that were running, and any of them may be what killed it. One that was
    running again and again waits until the others ended; then it runs alone, and in the end it is given up.

    Args:
        broke: whether a worker was killed since the last start.
    """
    left = _left() if running() else {}
    clear = [number for number, job in left.items() if job["tries"] < SUSPECT]
    suspects = [number for number, job in left.items() if SUSPECT <= job["tries"] < GIVEN_UP]
    if not (clear or suspects) or _seen.count(left) >= (USELESS if broke else 1):
        return False
    _seen.append(left)
    _turn[:] = clear or [min(suspects, key=lambda number: left[number]["tries"])]
    why = "a worker was killed; " if broke else ""
    what = "the jobs that are missing" if clear else f"job {_turn[0]} alone, since it may be what kills its worker"
    print(f"prunelab: {why}going on with {what}", file=sys.stderr, flush=True)
    arguments = [item for item in sys.argv if not item.startswith("hydra.sweep.dir=")]
    sys.argv[:] = [*arguments, f"hydra.sweep.dir='{_last[-1]}'"]
    return True


def _left() -> dict[int, dict[str, Any]]:
    """The notes on the jobs that did not end since the sweep was started by hand."""
    notes = {job["number"]: _tries(_last[-1] / str(job["number"])) for job in report.read_sweep(_last[-1])}
    return {number: note for number, note in notes.items() if not note["ended"]}


def _tries(folder: Path) -> dict[str, Any]:
    """The note on a job. Epochs stored since its last try clear it of suspicion."""
    note = {"tries": 0, "epochs": 0, "ended": False}
    if (folder / TRIES).exists():
        note = json.loads((folder / TRIES).read_bytes())
    rows = (folder / "epochs.csv").read_bytes().count(b"\n") - 1 if (folder / "epochs.csv").exists() else 0
    return note | {"tries": 0, "epochs": rows} if rows > note["epochs"] else note


def _note(folder: Path, tries: dict[str, Any]) -> None:
    files.write_file(folder / TRIES, json.dumps(tries).encode())


def _has_turn() -> bool:
    """Whether this job of a sweep is to run now: all are, unless the sweep was started again for some of them."""
    if not composing.in_sweep():
        return False
    hydra = HydraConfig.get()
    sweep = Path(hydra.runtime.cwd) / hydra.sweep.dir / "sweep.json"
    turn = json.loads(sweep.read_bytes())["turn"] if sweep.exists() else None  # a sweeper that is not Hydra's own
    return turn is None or hydra.job.num in turn


def is_done(config: DictConfig) -> bool:
    """Whether this job of a sweep is not to run: it is not its turn, or it completed before, with the same config."""
    if not composing.in_sweep():
        return False
    summary = report.read_summary(composing.run_folder(config)) or {}
    completed = summary.get("status") == "completed" and summary.get("config") == composing.plain(config)
    return not _has_turn() or (config.reuse and completed)


def running() -> bool:
    """Whether this process has started a sweep."""
    return bool(_last)


def show_last() -> bool:
    """Prints the table of the sweep that this process ran, if it ran one; False if a job failed or is missing."""
    if not _last:
        return True
    for progress in _progress:
        progress.stop()
    sweep = report.read_sweep(_last[-1])
    print(report.sweep_text(sweep))
    if any(job["status"] == "completed" for job in sweep):
        from prunelab.report import dashboard  # only now: it takes a second

        with files.writing(_last[-1]):
            dashboard.write(_last[-1])
        print(f"\n{where(_last[-1])}\nreport       python -m prunelab.report {_last[-1]}")
    return all(job["status"] == "completed" for job in sweep)
