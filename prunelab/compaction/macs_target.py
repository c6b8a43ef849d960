"""The amount that leaves a given share of the dense network's multiply-adds, by binary search."""

from bisect import bisect_left
from collections.abc import Callable

import torch
from torch import Tensor, nn

from prunelab.compaction.finish import rounding
from prunelab.compaction.shrink import compact
from prunelab.costs import counts
from prunelab.pruning.masks import Masks

STEPS = 256  # amounts are multiples of 1/256
MOST = (STEPS - 1) / STEPS  # the largest amount that is tried


def share(model: nn.Module, example: Tensor, round_to: int | None = None) -> float:
    """Return the multiply-adds of the compact network ÷ those of the dense one, in [0, 1].

    Args:
        example: one input with its batch dimension, [1, …].
        round_to: as the config key says.
    """
    small = compact(model, example, rounding(round_to)).model
    (left, _), (dense, _) = (counts.macs(counts.layers(network, example)) for network in (small, model))
    return left / dense


@torch.no_grad()
def amount(
    model: nn.Module,
    masks: Masks,
    example: Tensor,
    macs: float,
    prune: Callable[[float], object],
    round_to: int | None = None,
) -> float:
    """Return the smallest amount, in steps of 1/256, that leaves at most `macs` of the dense network's multiply-adds.

    The share that is left falls as the amount grows, so that 8 trials find it by halving the range. The largest amount,
    255/256, is returned even if it leaves too much. Weights and masks are as before when this returns.

    Args:
        example, round_to: as for `share`.
        macs: a fraction in (0, 1).
        prune: prunes the model by an amount.
    """
    before = masks.saved()

    def left(step: int) -> float:
        prune(step / STEPS)
        found = share(model, example, round_to)
        masks.put_back(before)
        masks.apply()
        return found

    return bisect_left(range(STEPS - 1), True, key=lambda step: left(step) <= macs) / STEPS
