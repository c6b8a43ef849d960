"""The study: processes share it, may be killed and started again, and lose no trial."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from filelock import FileLock, Timeout
from hydra._internal.callbacks import Callbacks
from hydra.core.utils import JobStatus, run_job
from hydra.types import HydraContext
from optuna.trial import FrozenTrial, Trial, TrialState

from prunelab import report
from prunelab.config import compose as composing
from prunelab.config.schema import ConfigError
from prunelab.stages import files
from prunelab.sweeps import progress
from prunelab.sweeps.search.space import Space
from prunelab.tracking.console import percent

Row = dict[str, Any]
COLUMNS = {"nonzero": "nonzero", "macs": "macs_nonzero"}  # of a run's final row, by objective
KILLED = 3  # times that a trial may take its process with it
REFUSED = 10  # trials that did not run, beside two for each that did: then the space is wrong, not the trials


class Where(NamedTuple):
    """A study's name, its database as a URL, and the folder of its trials."""

    study: str
    storage: str
    folder: Path

    def lock(self, name: object) -> FileLock:
        """A lock that is gone with the process that holds it."""
        path = self.folder / ".locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path)


def open_study(where: Where, overrides: Sequence[str], objective: str | None) -> optuna.Study:
    """Opens the study, or makes it. All its processes must agree on overrides and objective, which it keeps.

    Args:
        overrides: fixed ones and free ones; none: those that it has.
        objective: `nonzero` or `macs`; None: the one that it has, or else `nonzero`.

    Raises:
        ConfigError: if the study has others.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    wait = {"connect_args": {"timeout": 120}} if where.storage.startswith("sqlite") else {}
    with where.lock("study"):  # two processes at once would both make the tables
        storage = optuna.storages.RDBStorage(where.storage, engine_kwargs=wait)
        study = optuna.create_study(
            study_name=where.study, storage=storage, directions=["maximize", "minimize"], load_if_exists=True
        )
        there = study.user_attrs
        if "objective" not in there:
            study.set_user_attr("overrides", list(overrides))
            study.set_user_attr("objective", objective or "nonzero")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # experimental, but what the dashboard shows
                study.set_metric_names(["val_accuracy", COLUMNS[objective or "nonzero"]])
            return study
    for key, ours in (("overrides", list(overrides)), ("objective", objective)):
        if ours and sorted(ours) != sorted(there[key]):
            shown = there[key] if isinstance(there[key], str) else " ".join(there[key]) or "(defaults)"
            why = f"has the {key} {shown}: go on with those, or give another name"
            raise ConfigError(f"--study {where.study}: {why}")
    return study


class Search:
    """One process's share of a study.

    Args:
        trials: how many are to be completed in all, by all processes.
    """

    def __init__(self, where: Where, study: optuna.Study, space: Space, trials: int) -> None:
        self.where, self.study, self.space, self.trials = where, study, space, trials
        self.refused = 0  # trials of this process that did not run
        self.failed = False  # whether one of them failed at more than its overrides

    def run(self, check: Callable[[], None]) -> None:
        """Runs trials until enough are completed or under way, or too many were refused.

        Args:
            check: raises if a signal came during a trial that ended all the same.

        Raises:
            InterruptedRun, KeyboardInterrupt, OSError: the trial under way is put back, for the next process.
        """
        while (taken := self._take()) is not None:
            trial, lock = taken
            try:
                self._attempt(trial)
            finally:
                lock.release()
            self._show(trial)
            check()

    def counts(self) -> Counter[TrialState]:
        """How many trials are in which state."""
        return Counter(trial.state for trial in self.study.get_trials(deepcopy=False))

    def given_up(self) -> bool:
        """Whether this process had so many trials refused that nothing is to be expected of more."""
        return self.refused >= REFUSED + 2 * self.counts()[TrialState.COMPLETE]

    def _take(self) -> tuple[Trial, FileLock] | None:
        """The next trial with its lock; None if there is no need of one."""
        with self.where.lock("study"):
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                self._revive(trial)
            counts = self.counts()
            if counts[TrialState.COMPLETE] + counts[TrialState.RUNNING] >= self.trials or self.given_up():
                return None
            new = self.study.ask()
            lock = self.where.lock(new.number)
            lock.acquire()
            chosen = [free.suggest(new) for free in self.space.free]
            new.set_user_attr("chosen", chosen)
            new.set_user_attr("overrides", [*self.space.fixed, *chosen])
            jobs = [trial.user_attrs.get("overrides", []) for trial in self.study.get_trials(deepcopy=False)]
            listed = {"turn": None, "jobs": jobs}  # so that a report reads the folder as that of a sweep
            files.write_file(self.where.folder / "sweep.json", json.dumps(listed, indent=1).encode())
        return new, lock

    def _revive(self, trial: FrozenTrial) -> None:
        """Puts a trial back whose process is gone."""
        try:
            with self.where.lock(trial.number).acquire(timeout=0):
                killed = int(trial.user_attrs.get("killed", 0)) + 1
                self.study._storage.set_trial_user_attr(trial._trial_id, "killed", killed)
                if killed >= KILLED:
                    self._refuse(trial, TrialState.FAIL, f"its process was killed {killed} times")
                else:
                    self._put_back(trial)
        except Timeout:
            return

    def _put_back(self, trial: FrozenTrial | Trial) -> None:
        """The same trial again, number and folder and all: its stages go on from the last epoch."""
        self.study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def _attempt(self, trial: Trial) -> None:
        try:
            final = run(trial.user_attrs["overrides"], self.where.folder / str(trial.number))
        except (ConfigError, ArithmeticError) as error:
            self._refuse(trial, TrialState.PRUNED, str(error))
        except OSError:  # a full disk is no trial's fault
            self._put_back(trial)
            raise
        except Exception as error:  # a failing trial stops no other; its prunelab.log has the traceback
            self.failed = True
            self._refuse(trial, TrialState.FAIL, str(error) or repr(error))
        except BaseException:
            self._put_back(trial)
            raise
        else:
            self.study.tell(trial, [final["val_accuracy"], final[COLUMNS[self.study.user_attrs["objective"]]]])

    def _refuse(self, trial: FrozenTrial | Trial, state: TrialState, why: str) -> None:
        self.refused += 1
        self.study._storage.set_trial_user_attr(trial._trial_id, "error", why)
        self.study.tell(trial.number, state=state)
        folder = self.where.folder / str(trial.number)
        folder.mkdir(parents=True, exist_ok=True)
        report.note_failure(folder, why)

    def _show(self, trial: Trial) -> None:
        """One line a trial, with the time left."""
        ended, counts = self.study.get_trials(deepcopy=False)[trial.number], self.counts()
        name = " ".join(ended.user_attrs["chosen"])
        if ended.state is not TrialState.COMPLETE:
            word = "refused" if ended.state is TrialState.PRUNED else "failed"
            print(f"trial {trial.number} {word}: {name}: {ended.user_attrs['error'].splitlines()[0]}", flush=True)
            return
        accuracy, cost = ended.values
        unit = "nonzero" if self.study.user_attrs["objective"] == "nonzero" else "MACs"
        left = max(self.trials - counts[TrialState.COMPLETE], 0)
        took = [one.duration.total_seconds() for one in self._completed() if one.duration]
        seconds = sum(took) / len(took) * left / (counts[TrialState.RUNNING] + 1)
        print(
            f"{counts[TrialState.COMPLETE]} of {self.trials} done: {name}: {percent(accuracy, 2)} in validation, "
            f"{cost:,.0f} {unit}{progress.in_words(seconds) if left else ''}",
            flush=True,
        )

    def _completed(self) -> Sequence[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def run(overrides: Sequence[str], folder: Path) -> Row:
    """One trial, as a job of a sweep would be: the final row of its run.

    Raises:
        ConfigError: for overrides that do not go together.
    """
    from prunelab.experiment import run as experiment

    composing.compose(*overrides)
    hydra = ["hydra.mode=MULTIRUN", f"hydra.sweep.dir='{folder.parent}'", f"hydra.sweep.subdir='{folder.name}'"]
    hydra += [f"hydra.job.num={folder.name}", f"hydra.job.id={folder.name}"]
    config = composing.compose_raw(*overrides, *hydra, return_hydra_config=True)
    nobody: Any = None  # a job composes nothing
    context = HydraContext(config_loader=nobody, callbacks=Callbacks())
    job = run_job(experiment.run, config, "hydra.sweep.dir", "hydra.sweep.subdir", context)
    if job.status is JobStatus.FAILED:
        raise job._return_value
    final: Row = (report.read_summary(folder) or {})["final"]
    return final
