"""Movement scores: recorded during training, read by the `movement` criterion."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from prunelab.pruning.masks import Masks
from prunelab.training.callbacks.base import Callback


class Movement(Callback):
    """Sum −∂L/∂w · w over the steps: positive for a weight that moves away from zero.

    Args:
        masks: every tensor that has a mask now is recorded.

    Source: Sanh et al. 2020, "Movement pruning", eq. 4, arXiv 2005.07683.
    """

    def __init__(self, masks: Masks) -> None:
        self.items = list(masks)
        self.sums = {item.name: torch.zeros_like(item.parameter, requires_grad=False) for item in self.items}

    @torch.no_grad()
    def before_step(self, iteration: int) -> None:
        """Add one batch, with the weights at which its gradients were computed."""
        for item in self.items:
            if item.parameter.grad is not None:
                self.sums[item.name] -= item.parameter.grad * item.parameter

    def state(self) -> dict[str, Tensor]:
        """Return the sums, by the tensors' names."""
        return {name: value.cpu() for name, value in self.sums.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore the sums."""
        for name, value in state.items():
            self.sums[name].copy_(value)
