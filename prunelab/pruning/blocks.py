"""Blocks: layers that keep their input's shape, so that a network runs without them."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.errors import ConfigError, one_line
from prunelab.pruning.prunable import is_prunable
from prunelab.runtime.eval_mode import in_eval_mode

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def keeping(model: nn.Module, shape: Sequence[int], what: str) -> set[str]:
    """Run the model once on zeros; return the names of the modules whose outputs all had their input's shape.

    Args:
        shape: of one example, without the batch dimension; ConfigError if the model cannot take it.
        what: the setting that needs the layers, such as `regularizer=dynamic_gates`, for the message.
    """
    seen: dict[str, bool] = {}
    names = {module: name for name, module in model.named_modules()}

    def look(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        x = inputs[0] if inputs else None
        same = isinstance(x, Tensor) and isinstance(output, Tensor) and x.shape == output.shape
        seen[names[module]] = same and seen.get(names[module], True)

    some = next(model.parameters(), torch.empty(0))
    with ExitStack() as hooks, torch.no_grad(), in_eval_mode(model):
        for module in names:
            hooks.enter_context(module.register_forward_hook(look))
        try:
            model(torch.zeros(2, *shape, device=some.device, dtype=some.dtype))
        except Exception as error:  # of the user's model
            raise ConfigError(f"{what}: the model cannot take {list(shape)}: {one_line(error)}") from error
    return {name for name, same in seen.items() if same and name}


def outermost(model: nn.Module, there: set[str]) -> list[str]:
    """Return the names, of those in `there`, of the outermost modules with prunable weights that are no containers.

    A stack of layers, such as a transformer's whole encoder, counts as a container.
    """
    found: list[str] = []
    keep = {module for name, module in model.named_modules() if name in there}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        container = isinstance(module, CONTAINERS) or _is_stack(module, keep)
        if name in there and not inside and not container and _weights(module):
            found.append(name)
    return found


def need(names: Sequence[str], model: nn.Module, what: str) -> None:
    """Raise ConfigError if `names`, the layers that the setting `what` needs, is empty."""
    if not names:
        raise ConfigError(
            f"{what}: no layer of {type(model).__name__} keeps its input's shape, so none can be skipped; "
            "models that have such layers: deep_mlp, residual_lenet, vit_tiny, resnet18"
        )


def _is_stack(module: nn.Module, keep: set[nn.Module]) -> bool:
    """Return whether all its weights are in one list of two or more layers of one class, all in `keep`."""
    for row in (part for part in module.modules() if isinstance(part, CONTAINERS)):
        layers = [layer for layer in row.children() if _weights(layer)]
        composite = all(any(True for _ in layer.children()) and not isinstance(layer, CONTAINERS) for layer in layers)
        alike = len(layers) > 1 and len({type(layer) for layer in layers}) == 1 and keep.issuperset(layers)
        if alike and composite and _weights(module) == sum(map(_weights, layers)):
            return True
    return False


def _weights(module: nn.Module) -> int:
    """Return the number of prunable tensors of a module."""
    parts = ((part, key) for part in module.modules() for key, _ in part.named_parameters(recurse=False))
    return sum(is_prunable(part, key) for part, key in parts)
