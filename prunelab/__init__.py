"""prunelab: prune neural networks, in experiments or in a training loop of your own.

In a training loop::

    pruner = prunelab.Pruner(model, criterion="taylor", granularity="channel", data=loader, example=inputs)
    for amount in prunelab.schedules.cubic(sparsity=0.8, rounds=5):
        pruner.prune(amount)
        train(model)
    small = prunelab.compact(model, inputs).model

An experiment::

    result = prunelab.run(strategy="global", amount=0.3)
    result.rounds[-1].test_accuracy, result.model
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunelab.compaction.shrink import compact
    from prunelab.config.compose import compose
    from prunelab.costs.network_cost import cost
    from prunelab.errors import ConfigError
    from prunelab.experiment.api import load, run
    from prunelab.exports.export_files import export
    from prunelab.pruning import schedules
    from prunelab.pruning.masks import Masks
    from prunelab.pruning.pruner import Pruner
    from prunelab.pruning.torch_prune import from_torch_prune, to_torch_prune
    from prunelab.report.results_frame import results

__version__ = "0.2.0"
__all__ = [
    "ConfigError",
    "Masks",
    "Pruner",
    "__version__",
    "compact",
    "compose",
    "cost",
    "export",
    "from_torch_prune",
    "load",
    "results",
    "run",
    "schedules",
    "to_torch_prune",
]
_WHERE = {  # imported when first used: the command line answers without the seconds that torch takes
    "ConfigError": "prunelab.errors",
    "Masks": "prunelab.pruning.masks",
    "Pruner": "prunelab.pruning.pruner",
    "compact": "prunelab.compaction.shrink",
    "compose": "prunelab.config.compose",
    "cost": "prunelab.costs.network_cost",
    "export": "prunelab.exports.export_files",
    "from_torch_prune": "prunelab.pruning.torch_prune",
    "load": "prunelab.experiment.api",
    "results": "prunelab.report.results_frame",
    "run": "prunelab.experiment.api",
    "schedules": "prunelab.pruning",
    "to_torch_prune": "prunelab.pruning.torch_prune",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'prunelab' has no attribute '{name}'")
    module = import_module(_WHERE[name])
    return import_module("prunelab.pruning.schedules") if name == "schedules" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
