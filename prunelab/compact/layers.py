"""Layer removal: whole blocks that keep their input's shape give way to the identity, the least important first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from prunelab.compact.shrinking import put
from prunelab.config import ConfigError
from prunelab.routines import dynamic_gates

LossOf = Callable[[nn.Module], float]


def removable(model: nn.Module, shape: Sequence[int]) -> list[str]:
    """The outermost layers that have weights and keep their input's shape, in the model's own order.

    Args:
        shape: of one example, without its batch dimension.
    """
    return dynamic_gates.outermost(model, dynamic_gates.keeping(model, shape))


@torch.no_grad()
def importance(model: nn.Module, names: Sequence[str], loss_of: LossOf) -> dict[str, float]:
    """How much the loss grows when a layer, and only this one, is replaced by the identity; may be negative.

    Args:
        loss_of: the validation loss of a model; never that of the test set.

    Source: Veit, Wilber & Belongie 2016, "Residual networks behave like ensembles of relatively shallow networks",
    arXiv 1605.06431, section 4.1, where single blocks are left out.
    """
    before = loss_of(model)
    found = {}
    for name in names:
        layer = model.get_submodule(name)
        put(model, name, nn.Identity())
        try:
            found[name] = loss_of(model) - before
        finally:
            put(model, name, layer)
    return found


def remove_layers(
    model: nn.Module,
    loss_of: LossOf,
    shape: Sequence[int],
    *,
    amount: int | float | None = None,
    threshold: float | None = None,
    names: Sequence[str] | None = None,
) -> list[str]:
    """Replaces layers by the identity, in place, one after the other: always the least important of those left.

    Importance is looked up anew after each removal, since two layers that can each be spared may not both be.

    Args:
        loss_of, shape: as for `importance` and `removable`.
        amount: how many go, a whole number ≥ 0, or a fraction in [0, 1) of them; round(amount · n).
        threshold: layers go as long as the loss of the whole network, all of them gone, has grown by at most this.
        names: of the layers among which to choose; None: every `removable` one.

    Returns:
        The names of the removed layers, in the order in which they went.

    Raises:
        ConfigError: for neither or both of amount and threshold, a value outside its range, or no removable layer.
    """
    left = list(names) if names is not None else removable(model, shape)
    most = _most(left, amount, threshold)
    if not left:
        raise ConfigError(f"strategy=layer: {type(model).__name__} has no layer that keeps its input's shape")
    gone, grown = list[str](), 0.0
    while left and len(gone) < most:
        found = importance(model, left, loss_of)
        least = min(left, key=found.__getitem__)  # the first of equals
        if threshold is not None and grown + found[least] > threshold:
            break
        grown += found[least]
        put(model, least, nn.Identity())
        left.remove(least)
        gone.append(least)
    return gone


def _most(left: list[str], amount: int | float | None, threshold: float | None) -> int:
    if (amount is None) == (threshold is None):
        raise ConfigError(f"amount={amount}, strategy.threshold={threshold}: give exactly one of them")
    if amount is None:
        return len(left)
    whole = isinstance(amount, int) and not isinstance(amount, bool)
    if not (0 <= amount <= len(left) if whole else 0 <= amount < 1):
        raise ConfigError(f"amount={amount}: must be a fraction in [0, 1), or a whole number from 0 to {len(left)}")
    return int(amount) if whole else round(amount * len(left))
