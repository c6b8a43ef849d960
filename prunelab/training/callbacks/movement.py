"""What the movement criterion goes by, gathered while the weights move."""

from __future__ import annotations

import torch
from torch import Tensor

from prunelab.pruning import masks
from prunelab.training.loop import Routine


class Movement(Routine):
    """Adds up −∂L/∂w · w over the steps: positive where a weight moves away from zero.

    Source: Sanh et al. 2020, "Movement pruning", eq. 4, arXiv 2005.07683.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.items = list(masks.masked(model))
        self.sums = {item.name: torch.zeros_like(item.original) for item in self.items}

    @torch.no_grad()
    def before_step(self, iteration: int) -> None:
        """Adds a batch, with the weights at which its gradients were taken."""
        for item in self.items:
            if item.original.grad is not None:
                self.sums[item.name] -= item.original.grad * item.original

    def state(self) -> dict[str, Tensor]:
        """The sums, by the tensors' names."""
        return {name: value.cpu() for name, value in self.sums.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes the sums back."""
        for name, value in state.items():
            self.sums[name].copy_(value)
