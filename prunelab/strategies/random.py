"""The control: random weights, tensor by tensor."""

from __future__ import annotations

import torch

from prunelab.masks import Parameters
from prunelab.strategies.l1 import l1


def random(parameters: Parameters, amount: float) -> None:
    """Prunes, in each tensor, a random `amount` of its unpruned weights.

    Drawn on the CPU from torch's generator, which the experiment seeds by (seed, round).

    Args:
        amount: fraction in [0, 1) of each tensor's unpruned weights; round(amount · n) go, never the last one.
    """
    l1(parameters, amount, scores=[torch.rand(getattr(module, name).shape) for module, name in parameters])
