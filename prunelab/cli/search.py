"""The command line of a search. Exit status: 0, 1 for whatever failed, 130 after Ctrl-C, 143 after SIGTERM."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from prunelab.config import compose as composing
from prunelab.config import messages
from prunelab.config.schema import ConfigError
from prunelab.runtime.interrupt import InterruptedRun
from prunelab.sweeps.search import interrupts
from prunelab.sweeps.search import space as spaces

DESCRIPTION = """Looks for networks that are accurate and small: validation accuracy up, nonzero parameters down.

An override is what it is for python -m prunelab, and holds for all trials. One with several values is left to the
search:

  amount=interval(0.1,0.9)                     a number in between
  optimizer.lr=tag(log,interval(1e-4,1e-2))    the same, by its logarithm
  strategy=choice(l1,global)                   one of these; also strategy=l1,global and strategy=glob(l*)
  schedule.rounds=range(1,6)                   1, 2, 3, 4 or 5; also int(interval(1,5))

Where none is left to it, it searches over
  {default}"""
EPILOG = """examples:
  python -m prunelab.search
  python -m prunelab.search 'amount=interval(0.1,0.9)' 'strategy=choice(l1,global)' --trials 20
  python -m prunelab.search 'schedule.rounds=range(1,9)' model=lenet_300_100 --objective macs --study small

Each trial is a run folder, <outputs>/searches/<study>/<trial>/, and shares stages with all other runs. The study is in
<outputs>/searches/<study>.db. The same command goes on after any interruption, and may run in several processes at
once (threads=1 for each): together they complete --trials trials. The same seed gives the same trials, in one process.
Test accuracy is shown at the end, for the trials that no other beats, and chooses nothing."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m prunelab.search",
        description=DESCRIPTION.format(default=" ".join(spaces.DEFAULT)),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("overrides", nargs="*", metavar="override", help="see above")
    top.add_argument("--study", default="search", metavar="NAME", help="its name (default: %(default)s)")
    top.add_argument(
        "--trials", default=50, type=int, metavar="N", help="to be completed in all (default: %(default)s)"
    )
    top.add_argument("--objective", choices=["nonzero", "macs"], help="what is to be small (default: nonzero)")
    top.add_argument("--storage", metavar="PATH", help="SQLite file, or a database's URL, instead of the study's own")
    return top


def base(overrides: Sequence[str]) -> DictConfig:
    """The config that the fixed overrides give; whether it can run is seen with what a trial adds.

    Raises:
        ConfigError: if it cannot be composed.
    """
    try:
        return composing.compose_raw(*overrides)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(messages.explain(error, overrides, composing.compose_raw)) from error


def search(arguments: argparse.Namespace, check: Callable[[], None]) -> int:
    """Runs this process's share of the study, and shows the Pareto set. `check`: of `interrupts.noted`."""
    from prunelab.sweeps.search import pareto, study
    from prunelab.sweeps.search.sampling import Seeded

    if not re.fullmatch(r"[\w.-]+", arguments.study) or arguments.study.startswith("."):
        raise ConfigError(f"--study {arguments.study}: must be letters, digits, - and _")
    if arguments.trials < 1:
        raise ConfigError(f"--trials {arguments.trials}: must be a whole number ≥ 1")
    folder = Path(base(spaces.parse(arguments.overrides).fixed).outputs) / "searches" / arguments.study
    path = arguments.storage or f"{folder}.db"
    storage = path if "://" in path else f"sqlite:///{path}"
    where = study.Where(arguments.study, storage, folder)
    opened = study.open_study(where, arguments.overrides, arguments.objective)
    space = spaces.parse(opened.user_attrs["overrides"])
    opened.sampler = Seeded(int(base(space.fixed).seed))
    ours = study.Search(where, opened, space, arguments.trials)
    print(f"{arguments.trials} trials → {folder}", flush=True)
    ours.run(check)
    best = ours.study.best_trials
    if best:
        print(f"\nno trial beats these in both:\n{pareto.pareto_table(best, folder, opened.user_attrs['objective'])}")
    print(f"\nto look at all trials: optuna-dashboard {storage}")
    if ours.given_up():
        print("prunelab: given up: too many trials were refused", file=sys.stderr)
    return 1 if ours.failed or ours.given_up() else 0


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    arguments = parser().parse_intermixed_args(argv)
    logging.raiseExceptions = False  # a log that cannot be written is no news when the disk is full
    if importlib.util.find_spec("optuna") is None:
        print("prunelab: a search needs Optuna: pip install 'prunelab[search]'", file=sys.stderr)
        return 1
    try:
        with interrupts.noted() as check:
            return search(arguments, check)
    except (ConfigError, OSError) as error:
        print(f"prunelab: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, InterruptedRun) as error:
        print("prunelab: stopped; the same command goes on from here", file=sys.stderr)
        return int(getattr(error, "exit_status", 130))
