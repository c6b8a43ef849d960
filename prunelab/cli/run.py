"""The command line: compose, check, hand to `experiment.run`; and say in one line what went wrong.

torch is imported inside the task only, so that `--help`, `--cfg job` and a wrong override answer at once.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from prunelab.config import check as checking
from prunelab.config import compose as composing
from prunelab.config import messages
from prunelab.config import schema as config
from prunelab.runtime import interrupt as signals
from prunelab.stages.files import StorageError
from prunelab.sweeps import grid as sweeps

# What a user can mend; anything else is a bug, and shows its traceback.
EXPECTED = (config.ConfigError, HydraException, OmegaConfBaseException, ArithmeticError, OSError)
TRACEBACK_WANTED = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")


@hydra.main(config_path=str(composing.folder()), config_name="config", version_base="1.3")
def task(settings: DictConfig) -> None:
    """One job: one experiment in the folder that Hydra made for it."""
    try:
        checking.check(settings)
        if sweeps.is_done(settings):
            return
        from prunelab.experiment import run as experiment

        experiment.run(settings)
    except EXPECTED as error:
        if isinstance(error, config.ConfigError):
            composing.discard_run_folder()
        if TRACEBACK_WANTED or composing.in_sweep():
            raise  # a sweep goes on with its next job, and names this one in its table
        fail(error)


def fail(error: BaseException) -> NoReturn:
    """One line on stderr, exit status 1."""
    if isinstance(error, OSError) and not isinstance(error, (HydraException, StorageError)) and not error.filename:
        error = StorageError(composing.asked_folder(sys.argv[1:]), error)
    print(f"prunelab: {messages.explain(error, sys.argv[1:], composing.compose_raw)}", file=sys.stderr)
    sys.exit(1)


def start() -> bool:
    """Runs the command line once, to its end or to the end of what failed. Whether a worker of a sweep was killed."""
    try:
        task()
    except Exception as error:
        if sweeps.broken(error):
            return True
        if TRACEBACK_WANTED or not (isinstance(error, EXPECTED) or composing.is_refusal(error)):
            raise
        if not sweeps.running():
            fail(error)
    return False


def main() -> None:
    """Runs the command line. Exit status: 0, 1 for whatever failed, 130 after Ctrl-C, 143 after SIGTERM."""
    logging.raiseExceptions = False  # a log that cannot be written is no news when the disk is full
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it would print, in ten lines
    try:
        while sweeps.go_on(broke=start()):
            pass
    except (KeyboardInterrupt, signals.InterruptedRun) as error:
        sweeps.show_last()
        over = getattr(error, "late", False) and not sweeps.running()
        rest = "the run was complete already" if over else "the same command goes on from here"
        print(f"prunelab: stopped; {rest}", file=sys.stderr)
        sys.exit(getattr(error, "exit_status", 130))
    sys.exit(0 if sweeps.show_last() else 1)
