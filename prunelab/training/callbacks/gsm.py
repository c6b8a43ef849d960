"""Global sparse momentum: at each step only the weights that matter most to the loss keep their gradients."""

import torch

from prunelab.errors import check_number
from prunelab.pruning.units import ranked_at
from prunelab.training.callbacks.base import Callback, Phase


class GSM(Callback):
    """Zero the gradients of all prunable weights but the fraction `density` with the largest |w · ∂L/∂w|, at each step.

    One ranking over all tensors decides. The other weights move by weight decay and momentum alone, and those that
    stay out shrink to zero, so pruning by magnitude to the same density at the end costs nothing. It takes an
    optimizer with weight decay, and the paper's has momentum 0.98 or 0.99. `schedule=gradual` with one pruning after
    the last iteration prunes there.

    Use it for the highest sparsity of a trained network, if a long fine-tuning with momentum is affordable.

    Args:
        density: fraction of the prunable weights, in (0, 1).

    Raises:
        ConfigError: if the density is outside its range.

    Source: Ding et al. 2019, "Global sparse momentum SGD for pruning very deep neural networks", arXiv 1909.12778,
    eqs. 5 to 7.
    """

    def __init__(self, phase: Phase, density: float = 0.1) -> None:
        check_number("sparse_training.density", density, "a fraction in (0, 1)", lambda x: 0 < x < 1)
        self.weights = [item.parameter for item in phase.masked()]
        self.active = max(1, round(density * sum(weight.numel() for weight in self.weights)))

    @torch.no_grad()
    def before_step(self, iteration: int) -> None:
        """Zero the gradients of the weights that stay out; all that tie with the last active one keep theirs."""
        found = [(weight.grad, (weight * weight.grad).abs()) for weight in self.weights if weight.grad is not None]
        ranked = torch.cat([score.flatten() for _, score in found])
        least = ranked_at(ranked, max(len(ranked) - self.active, 0))
        for gradient, score in found:
            gradient.mul_(score >= least)
