"""What happens before Hydra starts a run or a sweep: folders are locked and all jobs checked. Does not import torch."""

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from prunelab.config import compose as composing
from prunelab.config import foreign, messages
from prunelab.config.check import check
from prunelab.errors import ConfigError, one_line
from prunelab.stages import files
from prunelab.sweeps import launchers
from prunelab.sweeps.notes import claim
from prunelab.sweeps.sweep import RUNNING, Sweep
from prunelab.tracking import run_lock

BY_NUMBER = "${hydra.job.num}"  # the default of hydra.sweep.subdir


class SweepCallback(Callback):
    """Hydra's callback: lock the folder of a run or a sweep, and hand its jobs to the `Sweep` of this process.

    Hydra reports an error of a callback as a warning and goes on. What is wrong ends the process here instead.
    """

    lock: FileLock | None = None

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the config and lock the run folder, before Hydra writes its own files there."""
        with _ending():
            composed = composing.settings(config)
            with composing.explained(config.hydra.overrides.task):
                check(composed)
            with contextlib.suppress(OmegaConfBaseException):  # a folder that cannot be made: the run says so
                folder = Path(config.hydra.run.dir)
                self.lock = run_lock.claim(folder, composing.plain(composed))
                drop_links(config, folder)

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Release the run folder."""
        if self.lock is not None:
            self.lock.release()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """List and check the jobs, lock the sweep's folder, and set up the launcher."""
        sweep = RUNNING.get(None) or Sweep()
        with _ending():
            jobs = grid(config)
            if not sweep.started:
                _check(config, jobs)
            launchers.prepare(config)
            top, places = Path(config.hydra.sweep.dir), folders(config, jobs)
            if not sweep.started:
                sweep.lock = claim(top, jobs)
            files.drop_link(top / "multirun.yaml", in_place=True)
            for place in places:
                files.drop_link(top / place)
                drop_links(config, top / place)
            if not sweep.started:
                _compare(config, jobs, [top / place for place in places])
            sweep.begin(top, jobs, places)


@contextmanager
def _ending() -> Iterator[None]:
    """End the process with one line after any error: Hydra would warn, and start the jobs."""
    try:
        yield
    except Exception as error:
        hydra = isinstance(error, OmegaConfBaseException)
        said = messages.explain(error, [], composing.compose_raw) if hydra else one_line(error)
        raise SystemExit(f"prunelab: {said}") from error


def drop_links(config: DictConfig, folder: Path) -> None:
    """Remove the links in a job's folder that stand where Hydra writes: its log, and its copy of the config."""
    own = folder / str(config.hydra.output_subdir)
    files.drop_link(own)
    written = (own / f"{name}.yaml" for name in ("config", "hydra", "overrides"))
    files.drop_link(folder / f"{config.hydra.job.name}.log", *written, in_place=True)


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
            why = "must list its values in a sweep; prunelab search takes intervals"
            raise ConfigError(f"{override.input_line}: {why}")
    return [list(job) for job in itertools.product(*choices.values())]


def folders(config: DictConfig, jobs: Sequence[Sequence[str]]) -> list[str]:
    """Return the folder of every job below the folder of the sweep, as Hydra names it when it comes to the job.

    Raises ConfigError if two jobs have the same folder, or one is elsewhere.
    """
    raw = OmegaConf.to_container(config.hydra, resolve=False)  # an override may hold `${hydra.job.num}`
    assert isinstance(raw, dict)
    subdir, given = raw["sweep"]["subdir"], raw["overrides"]["hydra"]
    if subdir == BY_NUMBER and not any(item.startswith("hydra.sweep.dir=") and "$" in item for item in given):
        return [str(number) for number in range(len(jobs))]
    hydra = HydraConfig.instance()
    found, before = list[str](), hydra.cfg
    try:
        for number, overrides in enumerate(jobs):
            job = GlobalHydra.instance().config_loader().load_sweep_config(config, list(overrides))
            with open_dict(job):
                job.hydra.job.num, job.hydra.job.id = number, str(number)
            hydra.set_config(job)  # which `${hydra:…}` reads
            folder = Path(str(job.hydra.sweep.dir), str(job.hydra.sweep.subdir))
            found.append(os.path.relpath(folder, config.hydra.sweep.dir))
            OmegaConf.copy_cache(from_config=job, to_config=config)  # so `${now:…}` is the same time for all jobs
    finally:
        hydra.cfg = before
    for number, name in enumerate(found):
        key = f"hydra.sweep.subdir={subdir}"
        if not files.is_below(name):
            raise ConfigError(f"{key}: gives job {number} the folder {name}, which is not below hydra.sweep.dir")
        if (first := found.index(name)) < number:
            raise ConfigError(f"{key}: gives jobs {first} and {number} the same folder, {name}")
    return found


def _check(config: DictConfig, jobs: Sequence[Sequence[str]]) -> None:
    """Raise ConfigError if a job cannot be composed, or none passes the check, before a folder is made.

    Hydra would end the sweep only when it came to that job.
    """
    seen, composed = set[str](), dict[int, DictConfig]()
    given: Any = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)  # may hold `${hydra.job.num}`
    for number, overrides in enumerate(jobs):
        composing.check_choices(overrides)
        if not seen.issuperset(overrides) or foreign.is_foreign(config):
            composed[number] = _composed(config, overrides)
            foreign.check_config(composed[number], [*given, *overrides])
        seen.update(overrides)
    refused: list[ConfigError] = []
    for number, overrides in enumerate(jobs):
        try:
            job = composing.settings(composed[number] if number in composed else _composed(config, overrides))
            check(job)
            stored = OmegaConf.select(job, "model.checkpoint")
            if stored is None or Path(str(stored)).exists():
                return
            refused.append(ConfigError(f"model.checkpoint={stored}: no such file"))
        except ConfigError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def _compare(config: DictConfig, jobs: Sequence[Sequence[str]], places: Sequence[Path]) -> None:
    """Raise ConfigError if a job's folder holds a run of another config, as after a change of a YAML file.

    One job for each choice is composed, since that takes a tenth of a second.
    """
    seen: set[str] = set()
    for place, overrides in zip(places, jobs, strict=True):
        if not seen.issuperset(overrides) and (place / "summary.json").exists():
            run_lock.check(place, composing.plain(composing.settings(_composed(config, overrides))))
            seen.update(overrides)


def _composed(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    with composing.explained(overrides):
        return GlobalHydra.instance().config_loader().load_sweep_config(config, list(overrides))
