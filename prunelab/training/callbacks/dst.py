"""Dynamic sparse training: a threshold per neuron that is trained with the weights."""

import torch
from torch import Tensor, nn

from prunelab.pruning.masks import MaskedTensor
from prunelab.training.callbacks.base import LearnedPerTensor, Phase, check_strength

EMPTY = 0.01  # a tensor that keeps at most this fraction of its weights starts again with thresholds of 0


def slope(x: Tensor) -> Tensor:
    """Return what stands for the derivative of the step function: 2 − 4|x| up to |x| = 0.4, then 0.4 up to 1, then 0.

    Source: Liu et al. 2020, arXiv 2005.06870, eq. 4, the long-tailed estimator.
    """
    size = x.abs()
    return (2 - 4 * size).clamp(min=0.4) * (size <= 1)


def step(x: Tensor) -> Tensor:
    """Return 1 where x > 0, else 0, with `slope` as its derivative."""
    there = x.detach()
    return (there > 0) + slope(there) * (x - there)


class DST(LearnedPerTensor):
    """Train a threshold for each neuron or channel: a weight takes part as long as |w| is above it.

    Adds strength · Σ exp(−t) over all thresholds t to the loss, which raises them; a weight that is out goes on getting
    gradients and can come back. The thresholds start at 0, and go back to 0 in a tensor that keeps at most 1% of its
    weights. After training the weights below their thresholds are exact zeros, which `strategy=threshold
    allocation.threshold=0` prunes.

    Use it if training itself is to find a threshold for each neuron, without an amount or a schedule.

    Args:
        strength: in nats of cross-entropy per threshold, ≥ 0; the paper's α.
        lr: learning rate of the thresholds, > 0; the paper's is that of the weights.

    Raises:
        ConfigError: if a value is outside its range, or if there is no dense training.

    Source: Liu et al. 2020, "Dynamic sparse training: find efficient sparse network from scratch with trainable masked
    layers", arXiv 2005.06870, section 3. The return to 0 is in its code.
    """

    def __init__(self, phase: Phase, strength: float = 5e-4, lr: float = 0.01) -> None:
        check_strength(phase, "dst", strength)
        super().__init__(phase, {item.name: _thresholds(item) for item in phase.masked()}, lr)
        self.strength = strength

    def distance(self, item: MaskedTensor) -> Tensor:
        """Return |w| − t of a tensor's weights."""
        return item.parameter.abs() - self.learned[item.name]

    def substitutes(self) -> dict[str, Tensor]:
        """Return the weights that are above their thresholds."""
        return {item.name: item.parameter * step(self.distance(item)) for item in self.items}

    def objective(self, loss: Tensor, inputs: Tensor, logits: Tensor) -> Tensor:
        """Add strength · Σ exp(−t)."""
        return loss + self.strength * torch.stack([t.neg().exp().sum() for t in self.learned.values()]).sum()

    @torch.no_grad()
    def after_step(self, iteration: int) -> None:
        """Reset the thresholds of a tensor to 0 if they leave hardly any of its weights."""
        for item in self.items:
            if (self.distance(item) > 0).double().mean() <= EMPTY:
                self.learned[item.name].zero_()

    def final(self, item: MaskedTensor) -> Tensor:
        """Return the weights, those below their thresholds replaced by 0."""
        return item.parameter * (self.distance(item) > 0)


def _thresholds(item: MaskedTensor) -> nn.Parameter:
    """Return thresholds of 0, one per index of dimension 0."""
    shape = [n if dim == 0 else 1 for dim, n in enumerate(item.parameter.shape)]
    return nn.Parameter(item.parameter.detach().new_zeros(shape))
