"""Experiments from Python: run one, and load the network of a finished one."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from prunelab.config import compose, python_values
from prunelab.config.spec import Spec
from prunelab.errors import ConfigError
from prunelab.runtime import device, fresh_process

if TYPE_CHECKING:
    from torch import nn

    from prunelab.experiment.result import Result


def run(
    *config: DictConfig | Spec | str | Path | None,
    folder: str | Path | None = None,
    model: nn.Module | str | Mapping[str, Any] | None = None,
    data: Any = None,
    quiet: bool = False,
    **keys: Any,
) -> Result:
    """Run one experiment: train dense, then rounds of prune → rewind → fine-tune, then finish.

    `run("strategy=l1", "amount=0.3")` and `run(strategy="l1", amount=0.3)` are `run(compose(...))`. The process is left
    as it was: settings and generators of torch, environment, handlers, current folder. Only a helper process stays
    until it ends, which checks the files of later runs too.

    Args:
        config: overrides, or a config from `compose`, and after it the run folder, if `folder` does not give it.
        folder: the run folder; by default a new one, `outputs/<date>/<time>`.
        model: a module that replaces the config's, and is copied; or a name, or keys. Stages are named by its tensors.
        data: a data set that replaces the config's, see `prunelab.data.live.as_dataset`; or a name, or keys of `data`,
            such as `{"limit": 600}`. Stages are named by its content.
        quiet: print nothing. What could not be made is in the result's `problems`.
        keys: overrides as Python values, such as `strategy="l1"`, `train={"epochs": 2}`.

    Returns:
        The rounds, the final model, the folder, and what could not be made.

    Raises:
        ConfigError: for an experiment that cannot run, before any training.
    """
    named = {key: value for key, value in (("model", model), ("data", data)) if isinstance(value, (str, Mapping))}
    overrides, given, where = _arguments(config, named | keys)
    fresh_process.start()  # it imports torch meanwhile
    from prunelab.pruning.mask_hooks import step_hooks_removed
    from prunelab.runtime.process_state import unchanged

    with unchanged(), step_hooks_removed(), _silent() if quiet else nullcontext():
        settings = compose.compose(*overrides or ()) if given is None else given
        live = (None if isinstance(model, (str, Mapping)) else model), (None if "data" in named else data)
        return _run(settings, folder or where, live, overrides, quiet)


def _arguments(
    config: Sequence[DictConfig | Spec | str | Path | None], keys: Mapping[str, Any]
) -> tuple[list[str] | None, DictConfig | Spec | None, str | Path | None]:
    """Return (overrides, None, None), or (None, config, run folder), from the arguments of `run`."""
    overrides = [item for item in config if isinstance(item, str)]
    if len(overrides) == len(config):
        return [*overrides, *python_values.overrides(keys)], None, None
    given, where = (*config, None)[:2]
    fits = not keys and len(config) <= 2
    if not fits or not isinstance(given, (DictConfig, Spec)) or not isinstance(where, (str, Path, type(None))):
        raise ConfigError("run: needs overrides, or a config of prunelab.compose with them and the run folder")
    return None, given, where


def _run(
    config: DictConfig | Spec,
    folder: str | Path | None,
    live: tuple[nn.Module | None, Any],
    overrides: list[str] | None,
    quiet: bool,
) -> Result:
    """Run one experiment; `overrides` are those of its config, None if the caller or Hydra has composed it."""
    from prunelab.config.resolve import resolve
    from prunelab.data.live import as_dataset
    from prunelab.experiment import live_identity
    from prunelab.experiment import run as experiment
    from prunelab.runtime.seeding import seeded
    from prunelab.tracking.origin import Origin

    model, data = live
    spec = config if isinstance(config, Spec) else resolve(config)
    device.threads(spec.threads)  # refuses more than there are, before there is a folder
    where = Path(folder) if folder is not None else compose.run_folder(spec.outputs)
    with seeded(spec.seed, "data"):  # a data set may draw random numbers
        own = None if data is None else as_dataset(data)
    # TensorBoard names a run after its folder, which is a time or a number; so the run has a folder of its own in it.
    telling = compose.telling() if overrides is None else overrides
    name = compose.label(telling) if telling is not None else ""
    command = compose.command(overrides) if live == (None, None) else ""  # no command repeats a run of live objects
    identity, live_names = live_identity.of(model, own)
    origin = Origin(command, telling, name, quiet=quiet or compose.in_sweep(), live=identity, live_names=live_names)
    return experiment.run(spec, where, origin, model, own)


@contextmanager
def _silent() -> Iterator[None]:
    """Print no warning of prunelab's; the levels and handlers are restored by `process_state.unchanged`."""
    log = logging.getLogger("prunelab")
    log.handlers, log.propagate = [logging.NullHandler()], False
    warnings.simplefilter("ignore")
    yield


def load(folder: str | Path, trusted: Sequence[str] = (), compact: bool = False) -> nn.Module:
    """Return the network of a finished run, rebuilt from its config and its safetensors; nothing is unpickled.

    Args:
        folder: the run folder.
        trusted: packages of yours that the run's model may come from.
        compact: return the compact network, which compact=true or `prunelab compact` has written.

    Raises:
        ConfigError: if there is no finished run, its files are damaged, or there is no compact network.
    """
    if compact:
        from prunelab.compaction import compact_files

        return compact_files.of_run(Path(folder), trusted)
    from prunelab.exports import finished_run

    return finished_run.load(folder, trusted)
