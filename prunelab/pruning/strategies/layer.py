"""Whole layers, the least important first: those without which the validation loss is least."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.utils import prune

from prunelab.config.build import prepares
from prunelab.config.schema import ConfigError
from prunelab.pruning import blocks, masks, skipping
from prunelab.pruning.masks import Parameters
from prunelab.pruning.skipping import Layers
from prunelab.pruning.strategies.base import check_whole


def _mark(model: nn.Module, shape: Sequence[int] | None, **other: object) -> None:
    """Marks the layers of a new model that may go.

    Args:
        shape: of one example, if it is known.
        other: not read.
    """
    if shape is None:
        raise ConfigError("strategy=layer: finding layers needs the data's shape; give your data function one: .shape")
    names = blocks.outermost(model, blocks.keeping(model, shape, "strategy=layer"))
    blocks.need(names, model, "strategy=layer")
    skipping.mark(model, names)


@prepares(_mark)
def layer(
    parameters: Parameters,
    amount: float | None,
    *,
    layers: Layers,
    loss: Callable[[], float],
    count: int | None = None,
    threshold: float | None = None,
) -> None:
    """Removes whole layers, one after the other: always the one without which the loss is least, the first of equals.

    The loss is looked up anew after each removal, since two layers that can each be spared may not both be. A removed
    layer's masks let nothing through, biases and norms included, and what it is given is handed on. Of `amount`,
    `count` and `threshold` one is given; with none of them, one layer goes.

    Args:
        parameters: a layer may go if all its prunable weights are among them.
        amount: fraction in [0, 1) of the layers still there; round(amount · n) of n go.
        layers: by name, those that keep their input's shape.
        loss: of the network as it is now, on the validation split, in nats.
        count: so many layers go, ≥ 1, or as many as there are.
        threshold: layers go as long as the loss has grown by at most this since the call, all of them gone; ≥ 0.

    Raises:
        ConfigError: for two of the three, a value outside its range, or if no layer may go.

    Source: Veit, Wilber & Belongie 2016, "Residual networks behave like ensembles of relatively shallow networks",
    arXiv 1605.06431, section 4.1, where single blocks are left out.
    """
    there = _whole(layers, parameters)
    for module in there.values():
        _attach(module)
    left = {name: module for name, module in there.items() if not isinstance(module, skipping.Skipped)}
    if not left:
        warnings.warn("every layer that may go is gone; none is removed in this round", stacklevel=2)
    most, limit = _most(amount, count, threshold, len(left)), loss() + (math.inf if threshold is None else threshold)
    for _ in range(most):
        losses = {name: _without(module, loss) for name, module in left.items()}
        least = min(losses, key=losses.__getitem__)
        if losses[least] > limit:
            return
        _remove(left.pop(least))


def _whole(layers: Layers, parameters: Parameters) -> Layers:
    """The layers of which all prunable weights may be pruned.

    Raises:
        ConfigError: if there is none.
    """
    chosen = {(id(module), name) for module, name in parameters}
    there = {
        name: layer
        for name, layer in layers.items()
        if all((id(part), key) in chosen for part, key in _parameters(layer) if masks.is_prunable(part, key))
    }
    if not there:
        raise ConfigError(f"strategy=layer: prune.include and prune.exclude leave none whole of {', '.join(layers)}")
    return there


def _parameters(layer: nn.Module) -> list[tuple[nn.Module, str]]:
    """All parameters of a layer but scalars, such as a gate; prunable or not, whether or not they have masks."""
    parts = [(part, key) for part in layer.modules() for key, p in part.named_parameters(recurse=False) if p.dim()]
    return [(part, key.removesuffix("_orig")) for part, key in parts]


def _attach(layer: nn.Module) -> None:
    """Masks of ones for what has none: all that a layer has goes with it."""
    masks.attach([pair for pair in _parameters(layer) if not hasattr(pair[0], f"{pair[1]}_mask")])


def _most(amount: float | None, count: int | None, threshold: float | None, layers: int) -> int:
    given = {"amount": amount, "strategy.count": count, "strategy.threshold": threshold}
    chosen = [f"{key}={value}" for key, value in given.items() if value is not None]
    if len(chosen) > 1:
        raise ConfigError(f"{', '.join(chosen)}: give one of them")
    if amount is not None:
        return round(amount * layers)
    if threshold is not None:
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold < math.inf:
            raise ConfigError(f"strategy.threshold={threshold}: must be a number ≥ 0")
        return layers
    if count is not None:
        check_whole("strategy.count", count)
    return min(count or 1, layers)


def _without(module: nn.Module, loss: Callable[[], float]) -> float:
    with skipping.without(module):
        return loss()


def _remove(module: nn.Module) -> None:
    for part, name in _parameters(module):
        prune.custom_from_mask(part, name, torch.zeros_like(getattr(part, f"{name}_mask")))
    skipping.set_skipped(module, True)
