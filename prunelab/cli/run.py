"""`prunelab [run]` and `prunelab sweep`: run one experiment, or every job of a sweep, by Hydra.

torch is imported inside the task only, so that `--cfg job` and a wrong override answer at once.
"""

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from prunelab.cli.arguments import TRACEBACK_WANTED, failed, stopped
from prunelab.config import check as checking
from prunelab.config import compose as composing
from prunelab.config import foreign, messages
from prunelab.errors import ConfigError
from prunelab.runtime import device, streams
from prunelab.runtime.interrupt import InterruptedRun
from prunelab.runtime.streams import say
from prunelab.stages.files import StorageError
from prunelab.sweeps import job, launchers
from prunelab.sweeps.sweep import Sweep

# Errors that a user can mend, which are answered in one line. Any other is a bug and shows its traceback.
EXPECTED = (ConfigError, HydraException, OmegaConfBaseException, ArithmeticError, OSError)


def task(settings: DictConfig) -> None:
    """Run one experiment in the folder that Hydra made for it."""
    streams.make_lasting()  # in a launcher's worker too
    with job.attempt() as wanted:
        if wanted:
            _experiment(settings)


def _experiment(settings: DictConfig) -> None:
    try:
        checking.check(settings)
        if job.is_complete(settings):
            return
        device.limit_threads(settings.threads)  # before torch is imported, by what follows
        from prunelab.experiment import api

        problems = api.run(settings).problems
    except EXPECTED as error:
        if isinstance(error, ConfigError):
            composing.discard_run_folder()
        if TRACEBACK_WANTED or composing.in_sweep():
            raise  # a sweep goes on with its next job, and names this one in its table
        _fail(error)
    if problems and not composing.in_sweep():  # a sweep's table names them
        sys.exit(max(map(failed, problems)))


def main(arguments: Sequence[str]) -> int:
    """Run an experiment or a sweep, by overrides such as `amount=0.3` and Hydra's flags such as `--multirun`.

    Returns:
        The exit status: 0, 1 after an error, 130 after Ctrl-C, 143 after SIGTERM.
    """
    logging.raiseExceptions = False  # on a full disk a log that cannot be written is no second error
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing ten lines
    arguments = composing.typed(arguments)
    try:
        foreign.check_command_line(arguments)
    except ConfigError as error:
        return failed(error)
    sweep = Sweep()
    try:
        while sweep.go_on(killed=_start(arguments, sweep)):
            pass
    except (KeyboardInterrupt, InterruptedRun) as error:
        sweep.end()
        over = getattr(error, "late", False) and not sweep.started
        return stopped(error, "; the run was complete already" if over else "; the same command goes on from here")
    return 0 if sweep.end() else 1


def _start(arguments: Sequence[str], sweep: Sweep) -> bool:
    """Hand the command line to Hydra once. Return whether a worker of the sweep was killed."""
    sys.argv[1:] = sweep.arguments(composing.spelled(arguments))  # where Hydra reads it
    try:
        with sweep.running():
            # Not a decorator of `task`, which could not be pickled then.
            hydra.main(config_path=str(composing.folder()), config_name="config", version_base="1.3")(task)()
    except SystemExit as error:
        if TRACEBACK_WANTED and error.__cause__ is not None:
            raise error.__cause__ from None
        raise
    except Exception as error:
        if sweep.started:  # the sweep goes on to its table, which names the jobs that failed
            sweep.error = error
            if TRACEBACK_WANTED:
                say("".join(traceback.format_exception(error)), error=True)
            return launchers.killed(error)
        if TRACEBACK_WANTED or not (isinstance(error, EXPECTED) or composing.is_refusal(error)):
            raise
        _fail(error)
    return False


def _fail(error: BaseException) -> NoReturn:
    """Print one line on stderr and exit with status 1."""
    if isinstance(error, OSError) and not isinstance(error, (HydraException, StorageError)) and not error.filename:
        error = StorageError(composing.asked_folder(sys.argv[1:]), error)
    sys.exit(failed(messages.explain(error, sys.argv[1:], composing.compose_raw)))
