"""The study: its processes share one database, may be killed and started again, and lose no trial."""

import dataclasses
import statistics
import uuid
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import optuna
from filelock import FileLock
from optuna.exceptions import OptunaError
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from prunelab import report
from prunelab.errors import ConfigError, one_line
from prunelab.runtime.streams import say
from prunelab.stages.checkpoint import UNREADABLE
from prunelab.sweeps.notes import Plan, Tries, lock, locked
from prunelab.sweeps.progress import in_words
from prunelab.sweeps.search import database
from prunelab.sweeps.search.space import Space, split
from prunelab.sweeps.search.trial import COST, run
from prunelab.text import percent

UNIT = {"nonzero": "nonzero", "macs": "MACs"}  # by objective
KILLED = 3  # a trial whose process was killed so many times without a new epoch is given up
REFUSED = 10  # a process gives up after so many refused trials, plus two for each completed one


class Study:
    """An Optuna study with the overrides and the objective that it was made for.

    Args:
        storage: its database, as a URL; the study is made there if there is none.
        folder: of its trials; has the study's name.
        overrides: fixed ones and free ones; if empty, those that the study has.
        objective: `nonzero` or `macs`; None for the one that the study has, or else `nonzero`.

    Raises:
        ConfigError: if the study has others, or its folder has the trials of another study.
    """

    def __init__(self, storage: str, folder: Path, overrides: Sequence[str], objective: str | None) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder = folder
        try:
            self._open(storage, folder, overrides, objective)
        except (*UNREADABLE, SQLAlchemyError, OptunaError, ImportError) as error:
            why = f"cannot be the database of a study: {one_line(error).partition(' [SQL')[0]}"
            raise ConfigError(f"--storage {storage}: {why}") from error
        plan = Plan.read(folder)
        if plan is not None and plan.study != self.id:
            raise ConfigError(f"--study {folder.name}: {folder} has the trials of another study; choose another name")
        other = f"overrides {' '.join(self.overrides) or '(defaults)'}"
        if not overrides or sorted(overrides) == sorted(self.overrides):
            other = "" if objective in (None, self.objective) else f"objective {self.objective}"
        if other:
            raise ConfigError(f"--study {folder.name}: has the {other}: use those, or choose another name")

    def _open(self, storage: str, folder: Path, overrides: Sequence[str], objective: str | None) -> None:
        """Open the database, or make it, and read it once; anybody may have written it."""
        with locked(folder, "study"):  # two processes at once would both make the tables
            self.storage = database.opened(storage)
            self.optuna = optuna.create_study(
                study_name=folder.name, storage=self.storage, directions=["maximize", "minimize"], load_if_exists=True
            )
            if "objective" not in self.optuna.user_attrs:
                self._describe(overrides, objective or "nonzero")
        self.id = self.optuna.user_attrs.get("id")  # 0.1.0 set none
        self.overrides = split(_texts(self.optuna.user_attrs["overrides"]))[1]
        self.objective = str(self.optuna.user_attrs["objective"])
        if self.objective not in UNIT or len(self.optuna.directions) != 2:
            raise ValueError(f"objective={self.objective}: must be one of {', '.join(UNIT)}")
        for trial in self.trials():
            if (complete := trial.state is TrialState.COMPLETE) and [*map(type, trial.values or ())] != [float] * 2:
                raise ValueError(f"trial {trial.number}: must have two values")
            for key in ("chosen", "overrides"):
                _texts(trial.user_attrs.get(key, None if complete else []))

    def _describe(self, overrides: Sequence[str], objective: str) -> None:
        """Write what a new study is made for."""
        self.optuna.set_user_attr("id", uuid.uuid4().hex)
        self.optuna.set_user_attr("overrides", list(overrides))
        self.optuna.set_user_attr("objective", objective)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # optuna calls it experimental; the dashboard shows these names
            self.optuna.set_metric_names(["val_accuracy", COST[objective]])

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials in these states, or all."""
        return self.optuna.get_trials(deepcopy=False, states=states or None)

    def is_running(self, number: int) -> bool:
        """Return whether a trial is neither ended nor queued, by the database itself."""
        return self.storage.get_trial(self._id(number)).state is TrialState.RUNNING

    def put_back(self, number: int) -> None:
        """Queue the same trial again, with its number and folder: its stages go on from their last epoch."""
        self.storage.set_trial_state_values(self._id(number), TrialState.WAITING)

    def set(self, number: int, key: str, value: str | int) -> None:
        """Set an attribute of a trial that may be another process's."""
        self.storage.set_trial_user_attr(self._id(number), key, value)

    def _id(self, number: int) -> int:
        study = self.storage.get_study_id_from_name(self.folder.name)
        return self.storage.get_trial_id_from_study_id_trial_number(study, number)


def _texts(value: object) -> list[str]:
    """Return a list of texts from the database; raise TypeError for anything else."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{value}: must be a list of texts")
    return value


class Search:
    """The trials that this process runs.

    Args:
        trials: number of trials to complete, by all processes together.
        seed: the experiment's; a trial depends on it, on its number and on the trials before it.

    Source: Ozaki et al. 2020, "Multiobjective tree-structured Parzen estimator for computationally expensive
    optimization problems", GECCO, as implemented in Optuna.
    """

    def __init__(self, study: Study, space: Space, trials: int, seed: int) -> None:
        self.study, self.space, self.trials, self.seed = study, space, trials, seed
        self.folder = study.folder
        self.refused = 0  # trials of this process that did not run
        self.failed = False  # whether a trial failed for another reason than its overrides

    def run(self, check: Callable[[], None]) -> None:
        """Run trials until enough are completed or running, or too many were refused.

        `check` raises if a signal came during a trial that ended all the same. After InterruptedRun, KeyboardInterrupt
        or OSError, the trial that was running is queued again.
        """
        while (taken := self._take()) is not None:
            trial, held = taken
            try:
                self._attempt(trial)
            finally:
                held.release()
            self._show(trial.number)
            check()

    def given_up(self) -> bool:
        """Return whether so many trials of this process were refused that more of them would be useless."""
        return self.refused >= REFUSED + 2 * len(self.study.trials(TrialState.COMPLETE))

    def _take(self) -> tuple[Trial, FileLock] | None:
        """The next trial with its lock, or None."""
        with locked(self.folder, "study"):
            for trial in self.study.trials(TrialState.RUNNING):
                self._revive(trial)
            if len(self.study.trials(TrialState.COMPLETE, TrialState.RUNNING)) >= self.trials or self.given_up():
                return None
            waiting = [trial.number for trial in self.study.trials(TrialState.WAITING)]  # `ask` takes the first
            number = min(waiting, default=len(self.study.trials()))
            # With one generator for the whole study, every process and every restart would draw the first trials again.
            (drawn,) = np.random.SeedSequence([self.seed, number]).generate_state(1)
            self.study.optuna.sampler = TPESampler(seed=int(drawn))
            new = self.study.optuna.ask()
            held = lock(self.folder, new.number)
            assert held is not None
            new.set_user_attr("chosen", chosen := [free.suggest(new) for free in self.space.free])
            new.set_user_attr("overrides", [*self.space.fixed, *chosen])
            jobs = [trial.user_attrs.get("overrides", []) for trial in self.study.trials()]
            Plan(jobs, study=self.study.id).write(self.folder)  # a report reads it like a sweep's
        return new, held

    def _revive(self, trial: FrozenTrial) -> None:
        """Queue a trial again whose process is gone; give up one that was killed often without a new epoch."""
        with locked(self.folder, trial.number, wait=0) as free:
            if not free or not self.study.is_running(trial.number):
                return  # its process is alive, or it ended since the trials were listed
            folder = self.folder / str(trial.number)
            folder.mkdir(exist_ok=True)
            noted = Tries.now(folder)
            killed = noted.tries + 1
            dataclasses.replace(noted, tries=killed).write(folder)
            if killed >= KILLED:
                self._refuse(trial.number, TrialState.FAIL, f"its process was killed {killed} times")
            else:
                self.study.put_back(trial.number)

    def _attempt(self, trial: Trial) -> None:
        try:
            values = run(trial.user_attrs["overrides"], self.folder / str(trial.number), self.study.objective)
        except (ConfigError, ArithmeticError) as error:
            self._refuse(trial.number, TrialState.PRUNED, str(error))
        except BaseException as error:
            if isinstance(error, OSError) or not isinstance(error, Exception):
                self.study.put_back(trial.number)  # not the trial's fault: a full disk, a signal
                raise
            self.failed = True  # the search goes on; the traceback is in the trial's prunelab.log
            self._refuse(trial.number, TrialState.FAIL, str(error) or repr(error))
        else:
            self.study.optuna.tell(trial, values)

    def _refuse(self, number: int, state: TrialState, why: str) -> None:
        self.refused += 1
        self.study.set(number, "error", why)
        self.study.optuna.tell(number, state=state)
        folder = self.folder / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        report.note_failure(folder, why)

    def _show(self, number: int) -> None:
        """Print one line on a trial that ended, with the time left."""
        ended = self.study.trials()[number]
        name = " ".join(ended.user_attrs["chosen"])
        if ended.state is not TrialState.COMPLETE:
            word = "refused" if ended.state is TrialState.PRUNED else "failed"
            say(f"trial {number} {word}: {name}: {str(ended.user_attrs['error']).partition(chr(10))[0]}")
            return
        completed, running = (self.study.trials(state) for state in (TrialState.COMPLETE, TrialState.RUNNING))
        left = max(self.trials - len(completed), 0)
        seconds = statistics.fmean(one.duration.total_seconds() for one in completed if one.duration)
        time_left = in_words(seconds * left / (len(running) + 1)) if left else ""
        reached = f"{percent(ended.values[0], 2)} in validation, {ended.values[1]:,.0f} {UNIT[self.study.objective]}"
        say(f"{len(completed)} of {self.trials} done: {name}: {reached}{time_left}", one_line=True)
