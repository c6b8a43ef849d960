"""An L1 penalty, under which weights become small enough to be pruned by a threshold."""

from __future__ import annotations

import torch
from torch import Tensor

from prunelab.training.callbacks.base import Phase, check_strength, weight
from prunelab.training.loop import Routine


class L1(Routine):
    """Adds strength · Σ|w| over the prunable tensors to the loss.

    Weights come near to zero, not to zero itself: `strategy=threshold` prunes those that are small enough.

    Args:
        strength: in nats of cross-entropy per unit of weight, ≥ 0.

    Raises:
        ConfigError: for a negative strength, or without dense training.

    Source: Tibshirani 1996, "Regression shrinkage and selection via the lasso"; Han et al. 2015, "Learning both weights
    and connections", arXiv 1506.02626, §3.1.
    """

    def __init__(self, phase: Phase, strength: float = 1e-4) -> None:
        check_strength(phase, "l1", strength)
        self.pairs, self.strength = phase.parameters, strength

    def objective(self, loss: Tensor, inputs: Tensor, logits: Tensor) -> Tensor:
        """Adds the penalty at the weights as they are; its slope at zero is zero."""
        return loss + self.strength * torch.stack([weight(*pair).abs().sum() for pair in self.pairs]).sum()
