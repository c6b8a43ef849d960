"""How much has to go for the compact network to have few enough multiply-adds: found by trying."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from prunelab.compaction.shrink import MULTIPLE, compact
from prunelab.costs import counts as metrics
from prunelab.pruning import masks

STEPS = 256  # of an amount in [0, 1)
MOST = (STEPS - 1) / STEPS  # the largest amount that is tried


def share(model: nn.Module, example: Tensor) -> float:
    """Multiply-adds of the compact network ÷ those of the dense one, in [0, 1].

    Args:
        model: with masks.
        example: an input with its batch dimension, [1, …].
    """
    small = compact(model, example, MULTIPLE).model
    return _macs(small, example) / _macs(model, example)


def amount(model: nn.Module, example: Tensor, macs: float, prune: Callable[[float], object]) -> float:
    """The least amount, in steps of 1/256, that leaves at most `macs` of the dense network's multiply-adds.

    The share that is left falls as the amount grows, so that halving the range finds it in 8 trials.

    Args:
        model: its masks are as before when this returns.
        example: as for `share`.
        macs: a fraction in (0, 1).
        prune: prunes the model by an amount.

    Returns:
        A fraction in [0, 1): the largest, 255/256, also where it leaves too much.
    """
    before = masks.snapshot(model)[1]

    def left(step: int) -> float:
        prune(step / STEPS)
        found = share(model, example)
        masks.put_back(model, before)
        masks.refresh(model)
        return found

    low, high = 0, STEPS - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if left(middle) <= macs else (middle + 1, high)
    return low / STEPS


def _macs(model: nn.Module, example: Tensor) -> int:
    return sum(layer.weight.numel() * layer.positions for layer in metrics.layers(model, example))
