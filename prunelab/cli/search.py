"""`prunelab search`: find networks that are accurate and small."""

import argparse
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from prunelab.cli.arguments import failed, parser, stopped
from prunelab.config import compose as composing
from prunelab.errors import ConfigError, need
from prunelab.runtime import interrupt
from prunelab.runtime.interrupt import InterruptedRun
from prunelab.runtime.streams import say
from prunelab.stages import files
from prunelab.sweeps.search import space as spaces

DESCRIPTION = f"""\
Searches for networks with high validation accuracy and few nonzero parameters.

An override with one value holds for all trials, as it does for an experiment. An override with several values is chosen
by the search, for each trial:

  amount=interval(0.1,0.9)                     a number in this interval
  optimizer.lr=tag(log,interval(1e-4,1e-2))    a number in this interval, uniform in its logarithm
  strategy=choice(l1,global)                   one of these; also strategy=l1,global and strategy=glob(l*)
  schedule.rounds=range(1,6)                   1, 2, 3, 4 or 5; also int(interval(1,5))

If every override has one value, the search space is
  {" ".join(spaces.DEFAULT)}"""
EPILOG = """\
examples:
  prunelab search
  prunelab search 'amount=interval(0.1,0.9)' 'strategy=choice(l1,global)' --trials 20
  prunelab search 'schedule.rounds=range(1,9)' model=lenet_300_100 --objective macs --study small

Each trial is a run folder, <outputs>/searches/<study>/<trial>/, and shares stages with all other runs. The study is
stored in <outputs>/searches/<study>.db. The same command continues it after an interruption. Several processes may
share it: together they complete --trials trials. In one process, the same seed gives the same trials. At the end, the
test accuracy of the Pareto-optimal trials is shown; nothing is chosen by it."""


def _parser() -> argparse.ArgumentParser:
    top = parser("search", DESCRIPTION, EPILOG)
    top.add_argument("overrides", nargs="*", metavar="override", help="see above")
    top.add_argument("--study", default="search", metavar="NAME", help="name of the study (default: %(default)s)")
    trials = "number of trials to complete (default: %(default)s)"
    top.add_argument("--trials", default=50, type=int, metavar="N", help=trials)
    top.add_argument("--objective", choices=["nonzero", "macs"], help="what to minimize (default: nonzero)")
    top.add_argument("--storage", metavar="PATH", help="another SQLite file, or the URL of a database")
    return top


def base(overrides: Sequence[str]) -> DictConfig:
    """Return the config of the overrides that all trials share, unchecked: a trial may add what it lacks."""
    with composing.explained(overrides):
        return composing.compose_raw(*overrides)


def search(arguments: argparse.Namespace, check: Callable[[], None]) -> int:
    """Run this process's share of the study and print the Pareto set. Return the exit status."""
    from prunelab.sweeps.search import database

    if not re.fullmatch(r"[\w.-]+", arguments.study) or arguments.study.startswith("."):
        raise ConfigError(f"--study {arguments.study}: must be letters, digits, - and _")
    if arguments.trials < 1:
        raise ConfigError(f"--trials {arguments.trials}: must be a whole number ≥ 1")
    here, wanted = spaces.split(arguments.overrides)
    folder = Path(base([*here, *spaces.parse(wanted, here).fixed]).outputs) / "searches" / arguments.study
    files.check_name(folder)
    path = arguments.storage or f"{folder}.db"
    storage = path if "://" in path else f"sqlite:///{path}"
    files.drop_link(folder, Path(f"{folder}.db"))
    with database.database_errors(storage):
        return _search(arguments, check, folder, storage)


def _search(arguments: argparse.Namespace, check: Callable[[], None], folder: Path, storage: str) -> int:
    import optuna

    from prunelab.sweeps.search import study
    from prunelab.sweeps.search.trial import pareto_table

    optuna.logging.disable_default_handler()  # its lines may quote the study
    optuna.logging.enable_propagation()

    here, wanted = spaces.split(arguments.overrides)
    opened = study.Study(storage, folder, wanted, arguments.objective)
    space = spaces.parse(wanted or spaces.stored(opened.overrides, here), here)
    ours = study.Search(opened, space, arguments.trials, int(base(space.fixed).seed))
    say(f"{arguments.trials} trials → {folder}")
    ours.run(check)
    if best := opened.optuna.best_trials:
        say(f"\nPareto-optimal trials:\n{pareto_table(best, folder, opened.objective)}")
    say(f"\nto look at all trials: optuna-dashboard {storage}")
    if ours.given_up():
        return failed("given up: too many trials were refused")
    return int(ours.failed)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Return its exit status: 0, 1 after an error, 130 after Ctrl-C, 143 after SIGTERM."""
    arguments = _parser().parse_intermixed_args(argv)
    logging.raiseExceptions = False  # on a full disk a log that cannot be written is no second error
    try:
        need("search", "optuna", caller="a search")
        with interrupt.noted() as check:
            return search(arguments, check)
    except (ConfigError, OSError) as error:
        return failed(error)
    except (KeyboardInterrupt, InterruptedRun) as error:
        return stopped(error, "; the same command goes on from here")
