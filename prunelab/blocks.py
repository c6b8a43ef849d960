"""Blocks: layers that keep their input's shape, so that a network runs without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prunelab import masks
from prunelab.config import ConfigError

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def keeping(model: nn.Module, shape: Sequence[int], what: str) -> set[str]:
    """The names of modules that gave back a tensor of their input's shape, each time they were called.

    Args:
        shape: of one example, without its batch dimension; the model is run once, in eval mode, on zeros.
        what: the choice in the config that asks, `regularizer=dynamic_gates`, for the message.

    Raises:
        ConfigError: if the model cannot take that shape.
    """
    seen: dict[str, bool] = {}
    names = {module: name for name, module in model.named_modules()}

    def look(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        x = inputs[0] if inputs else None
        same = isinstance(x, Tensor) and isinstance(output, Tensor) and x.shape == output.shape
        seen[names[module]] = same and seen.get(names[module], True)

    hooks = [module.register_forward_hook(look) for module in names]
    training, some = model.training, next(model.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(2, *shape, device=some.device, dtype=some.dtype))
    except (RuntimeError, ValueError, TypeError) as error:
        raise ConfigError(f"{what}: the model cannot take {list(shape)}: {error}") from error
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return {name for name, same in seen.items() if same and name}


def outermost(model: nn.Module, there: set[str]) -> list[str]:
    """Of these modules the outermost that have prunable weights and are no plain containers, in the model's order."""
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if name in there and not inside and not isinstance(module, CONTAINERS) and _prunable(module):
            found.append(name)
    return found


def _prunable(module: nn.Module) -> bool:
    parts = ((part, key) for part in module.modules() for key, _ in part.named_parameters(recurse=False))
    return any(masks.is_prunable(part, key.removesuffix("_orig")) for part, key in parts)
