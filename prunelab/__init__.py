"""prunelab: config-driven experiments on neural-network pruning.

From Python::

    from prunelab import compose, run

    result = run(compose("strategy=global", "amount=0.3"))
    result.rounds[-1]["test_accuracy"], result.model
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omegaconf import DictConfig
    from torch import nn

    from prunelab.experiment.run import Result

__all__ = ["__version__", "compose", "load", "run"]
__version__ = "0.1.0"


# Both import late: `import prunelab` must not cost the seconds that torch takes.
def compose(*overrides: str) -> DictConfig:
    """Composes an experiment's config from `conf/`, as the command line does.

    Args:
        overrides: as on the command line, e.g. `"strategy=global"`, `"amount=0.3"`.

    Raises:
        ConfigError: for a key, a choice or a value that is not allowed.
    """
    from prunelab.config import compose as composing

    return composing.compose(*overrides)


def load(folder: str | Path, trusted: Sequence[str] = (), compact: bool = False) -> nn.Module:
    """The network of a finished run, rebuilt from its config and its safetensors; nothing is unpickled.

    Args:
        folder: the run folder.
        trusted: packages of yours that the run's model may come from.
        compact: the compact network, of a run with compact=true or after `python -m prunelab.compact`.

    Raises:
        ConfigError: if there is no finished run, its files are damaged, or there is no compact network.
    """
    if compact:
        from prunelab.compaction import files as storing

        return storing.of_run(Path(folder), trusted)
    from prunelab import exports as export

    return export.load(folder, trusted)


def run(config: DictConfig, folder: str | Path | None = None) -> Result:
    """Runs one experiment: train dense, then rounds of prune → rewind → fine-tune, then finish.

    Args:
        config: from `compose`.
        folder: the run folder; by default a new one, `outputs/<date>/<time>`.

    Returns:
        The rounds (a list of rows, 0 = dense), the final model (masks baked in) and the folder.

    Raises:
        ConfigError: for a config that cannot run, before any data is loaded.
    """
    from prunelab.experiment import run as experiment

    return experiment.run(config, folder)
