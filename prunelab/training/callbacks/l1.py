"""L1 regularization: weights become small enough to be pruned by a threshold."""

import torch
from torch import Tensor

from prunelab.training.callbacks.base import Callback, Phase, check_strength


class L1(Callback):
    """Add strength · Σ|w| over the prunable tensors to the loss.

    Weights come close to zero but do not reach it: `strategy=threshold` prunes those that are small enough.

    Use it as the simplest penalty that sorts weights into small and large ones before `strategy=threshold`.

    Args:
        strength: in nats of cross-entropy per unit of weight, ≥ 0.

    Raises:
        ConfigError: if the strength is negative, or if there is no dense training.

    Source: Tibshirani 1996, "Regression shrinkage and selection via the lasso"; Han et al. 2015, "Learning both weights
    and connections", arXiv 1506.02626, §3.1.
    """

    def __init__(self, phase: Phase, strength: float = 1e-4) -> None:
        check_strength(phase, "l1", strength)
        self.weights, self.strength = [item.parameter for item in phase.masked()], strength

    def objective(self, loss: Tensor, inputs: Tensor, logits: Tensor) -> Tensor:
        """Add the penalty; its gradient at a weight of zero is zero."""
        return loss + self.strength * torch.stack([weight.abs().sum() for weight in self.weights]).sum()
