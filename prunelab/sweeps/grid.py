"""The grid of a sweep: the overrides of every job, checked before the first job starts. Does not import torch."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from prunelab.config import compose as composing
from prunelab.config import foreign
from prunelab.errors import one_line
from prunelab.stages import files
from prunelab.sweeps import launchers
from prunelab.sweeps.sweep import RUNNING, Sweep


class SweepCallback(Callback):
    """Hydra's callback: hand the jobs of a sweep to the `Sweep` of this process before Hydra launches them."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remove links from a run folder that Hydra would write through."""
        drop_links(config, Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """List and check the jobs, and set up the launcher.

        Hydra reports an error of a callback as a warning and goes on. What is wrong ends the process here instead.
        """
        jobs = grid(config)
        sweep = RUNNING.get(None) or Sweep()
        if not sweep.started:
            _check(config, jobs)
        launchers.prepare(config)
        folder = Path(config.hydra.sweep.dir)
        files.drop_link(folder / "multirun.yaml")
        for number in range(len(jobs)):
            files.drop_link(folder / str(number))
            drop_links(config, folder / str(number))
        sweep.begin(folder, jobs)


def drop_links(config: DictConfig, folder: Path) -> None:
    """Remove the links in a job's folder that stand where Hydra writes: its log, and its copy of the config."""
    own = folder / str(config.hydra.output_subdir)
    files.drop_link(folder / f"{config.hydra.job.name}.log", own)
    files.drop_link(*(own / f"{name}.yaml" for name in ("config", "hydra", "overrides")))


def grid(config: DictConfig) -> list[list[str]]:
    """Return the overrides of every job: of `hydra.sweeper.params` and the command line, in the order of Hydra."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    choices: dict[str, list[str]] = {}
    for override in parser.parse_overrides([*params, *config.hydra.overrides.task]):
        key = override.get_key_element()
        if not override.is_sweep_override():
            choices[key] = [f"{key}={override.get_value_element_as_str()}"]
        elif override.is_discrete_sweep():
            choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            sys.exit(
                f"prunelab: {override.input_line}: must list its values in a sweep; prunelab search takes intervals"
            )
    return [list(job) for job in itertools.product(*choices.values())]


def _check(config: DictConfig, jobs: Sequence[Sequence[str]]) -> None:
    """End the process if a job cannot be composed. Hydra would end the sweep only when it came to that job."""
    seen: set[str] = set()
    for overrides in jobs:
        if seen.issuperset(overrides) and not foreign.is_foreign(config):
            continue
        try:
            with composing.explained(overrides):
                job = GlobalHydra.instance().config_loader().load_sweep_config(config, list(overrides))
            foreign.check_config(job, [*config.hydra.overrides.hydra, *overrides])
        except Exception as error:  # none may pass: Hydra would warn, and start the jobs
            sys.exit(f"prunelab: {one_line(error)}")
        seen.update(overrides)
