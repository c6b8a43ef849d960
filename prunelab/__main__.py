"""The command line: compose, check, hand to `experiment.run`; and say in one line what went wrong.

torch is imported inside the task only, so that `--help`, `--cfg job` and a wrong override answer at once.
"""

from __future__ import annotations

import os
import sys

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from prunelab import composing, config, messages, signals, sweeps
from prunelab.config import ConfigError

composing.register()
EXPECTED = (ConfigError, HydraException, OmegaConfBaseException, ArithmeticError, OSError)


@hydra.main(config_path=str(composing.folder()), config_name="config", version_base="1.3")
def task(settings: DictConfig) -> None:
    """One job: one experiment in the folder that Hydra made for it."""
    try:
        config.check(settings)
        from prunelab import experiment

        experiment.run(settings)
    except ConfigError:
        composing.discard_run_folder()
        raise


def main() -> None:
    """Runs the command line. Exit status: 0, 1 for whatever failed, 130 after Ctrl-C, 143 after SIGTERM."""
    traceback_wanted = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it would print
    status = 0
    try:
        task()
    except (KeyboardInterrupt, signals.InterruptedRun) as error:
        status = getattr(error, "exit_status", 130)
        print("prunelab: stopped; the same command goes on from here", file=sys.stderr)
    except Exception as error:
        if traceback_wanted or not isinstance(error, EXPECTED):
            raise
        print(f"prunelab: {messages.explain(error, sys.argv[1:], composing.compose_raw)}", file=sys.stderr)
        status = 1
    finally:
        finished = sweeps.show_last()
    sys.exit(status or (0 if finished else 1))


if __name__ == "__main__":
    main()
