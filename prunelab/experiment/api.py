"""Experiments from Python: run one, and load the network of a finished one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunelab.config import compose
from prunelab.runtime import device, fresh_process

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import nn

    from prunelab.config.spec import Spec
    from prunelab.experiment.run import Result


def run(
    config: DictConfig | Spec,
    folder: str | Path | None = None,
    *,
    model: nn.Module | None = None,
    data: Any = None,
) -> Result:
    """Run one experiment: train dense, then rounds of prune → rewind → fine-tune, then finish.

    Args:
        config: from `compose`.
        folder: the run folder; by default a new one, `outputs/<date>/<time>`.
        model: a module that replaces the config's model; it is copied. Stages are named by its tensors.
        data: a data set that replaces the config's data; see `prunelab.data.live.as_dataset`. It is named by content.

    Returns:
        The rounds (a list of records, 0 = dense), the final model, the folder, and what could not be made.

    Raises:
        ConfigError: for an experiment that cannot run, before any training.
    """
    device.limit_threads(config.threads)  # before torch is imported, by what follows
    fresh_process.start()  # it imports torch meanwhile
    from prunelab.config.resolve import resolve
    from prunelab.config.spec import Spec
    from prunelab.data.live import as_dataset
    from prunelab.experiment import live_identity
    from prunelab.experiment import run as experiment
    from prunelab.runtime.seeding import seeded
    from prunelab.tracking.origin import Origin

    spec = config if isinstance(config, Spec) else resolve(config)
    where = Path(folder) if folder is not None else compose.run_folder(spec.outputs)
    with seeded(spec.seed, "data"):  # a data set may draw random numbers
        own = None if data is None else as_dataset(data)
    telling, sweeping = compose.telling(), compose.in_sweep()
    # TensorBoard names a run after its folder, which is a time or a number; so the run has a folder of its own in it.
    name = compose.label(telling) if telling is not None else ""
    origin = Origin(compose.command(), telling, name, quiet=sweeping, live=live_identity.of(model, own))
    return experiment.run(spec, where, origin, model, own)


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
