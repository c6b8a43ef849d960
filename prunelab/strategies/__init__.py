"""What to prune: one strategy a file.

A strategy is one function `strategy(parameters, amount, *, scores=None)` that tightens the masks of
(module, name) pairs in place: exactly round(amount · n) of the n still unpruned units go, and masks never grow.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import torch
from torch import nn

from prunelab import criteria, masks
from prunelab.config import ConfigError
from prunelab.masks import Parameters

Strategy = Callable[[Parameters, float | None], None]


def prune(model: nn.Module, parameters: Parameters, strategy: Strategy, amount: float | None) -> float:
    """Lets the strategy tighten the masks once; a tensor about to lose its last weight keeps it.

    Returns:
        The milliseconds that pruning took.

    Raises:
        RuntimeError: if a mask grew.
    """
    before = {m.name: m.mask.bool().clone() for m in masks.masked(model)}
    masks.refresh(model)
    start = time.perf_counter()
    with torch.no_grad():
        strategy(parameters, amount)
    milliseconds = (time.perf_counter() - start) * 1000
    for item in masks.masked(model):
        old = before.get(item.name, torch.ones_like(item.mask, dtype=torch.bool))
        if (item.mask.bool() & ~old).any():
            raise RuntimeError(f"{item.name}: the strategy revived pruned weights; masks may only shrink")
        if not item.mask.any() and old.any():
            best = torch.where(old, item.original.detach().abs(), -1.0).argmax()
            item.mask.view(-1)[best] = 1
    asked = {item.name for item in masks.masked(model) if (item.module, item.parameter) in parameters}
    for name, unit in masks.last_units(model, before):
        if name not in asked:
            continue  # a bias that goes with its channel
        warnings.warn(f"{name} is down to its last {unit}, which stays: without it the layer is dead", stacklevel=2)
    masks.refresh(model)
    return milliseconds


def unpruned(module: nn.Module, name: str) -> int:
    """How many weights the mask still lets through."""
    return int(criteria.mask(module, name).sum())


def count(amount: float | None, units: int) -> int:
    """How many of the `units` still there go: round(amount · units), but never the last one.

    Raises:
        ConfigError: for an amount that is null, where the strategy does not decide by itself.
    """
    if amount is None:
        raise ConfigError("amount=null: this strategy needs a fraction in [0, 1)")
    return min(round(amount * units), max(units - 1, 0))
