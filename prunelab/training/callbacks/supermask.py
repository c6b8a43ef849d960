"""Supermasks: the weights stay as they were drawn, and training learns which of them take part."""

import torch
from torch import Tensor, nn

from prunelab.errors import check_number
from prunelab.pruning.masks import MaskedTensor
from prunelab.pruning.units import ranked_at
from prunelab.runtime.seeding import seeded
from prunelab.training.callbacks.base import LearnedPerTensor, Phase, check_strength


def bernoulli(score: Tensor) -> Tensor:
    """Return a draw of each mask, 1 with probability σ(score), with the derivative of σ(score).

    Source: Zhou et al. 2019, arXiv 1905.01067, section 5.2.
    """
    chance = torch.sigmoid(score)
    return torch.bernoulli(chance.detach()) + (chance - chance.detach())


def largest(score: Tensor, density: float) -> Tensor:
    """Return 1 for the round(density · n) ≥ 1 largest of n |score| and those that tie, else 0; with its derivative.

    Source: Ramanujan et al. 2020, arXiv 1911.13299, section 3.3 (edge-popup).
    """
    size = score.abs()
    there = size.detach()
    least = ranked_at(there.flatten().clone(), there.numel() - max(1, round(density * there.numel())))
    return (there >= least) + (size - there)


class Supermask(LearnedPerTensor):
    """Train a score for each prunable weight, by which it takes part or not; all parameters of the network stay.

    Without a `density` each weight takes part with the probability σ(score): drawn anew at each step of training, and
    by one draw of uniform numbers in every evaluation and at the end. With a density, those of each tensor with the
    largest |score| take part. After training the other weights are exact zeros, which `strategy=threshold
    allocation.threshold=0` prunes.

    Use it to ask what the initial weights can do if only the mask is learned; not to make a good network.

    Args:
        density: fraction of each tensor's weights that takes part, in (0, 1); None: what the scores say.
        lr: learning rate of the scores, > 0; None: 0.05, or 0.001 with a density, chosen for Adam. The scores begin at
            0, or, with a density, uniform in ±1/√inputs.

    Raises:
        ConfigError: if a value is outside its range, or if there is no dense training.

    Source: Zhou et al. 2019, "Deconstructing lottery tickets: zeros, signs, and the supermask", arXiv 1905.01067; with
    a density, Ramanujan et al. 2020, "What's hidden in a randomly weighted neural network?", arXiv 1911.13299.
    """

    def __init__(self, phase: Phase, density: float | None = None, lr: float | None = None) -> None:
        check_strength(phase, "supermask", 0.0)
        if density is not None:
            check_number("regularizer.density", density, "null or a fraction in (0, 1)", lambda x: 0 < x < 1)
        if lr is None:
            lr = 0.05 if density is None else 0.001
        self.model, self.density = phase.model, density
        with seeded(phase.seed, "scores"):
            super().__init__(phase, {item.name: self._scores(item) for item in phase.masked()}, lr)
            self.chances = {item.name: torch.rand(item.parameter.shape).to(item.parameter) for item in self.items}

    def _scores(self, item: MaskedTensor) -> nn.Parameter:
        score = torch.zeros(item.parameter.shape)
        if self.density is not None:
            score.uniform_(-1, 1).mul_((len(score) / score.numel()) ** 0.5)
        return nn.Parameter(score.to(item.parameter))

    def mask(self, item: MaskedTensor, drawn: bool) -> Tensor:
        """Return the mask of a tensor, by which gradients reach its score; drawn anew, or as it is in evaluation."""
        score = self.learned[item.name]
        if self.density is not None:
            return largest(score, self.density)
        return bernoulli(score) if drawn else (self.chances[item.name] < torch.sigmoid(score)).to(score)

    def substitutes(self) -> dict[str, Tensor]:
        """Return the weights that take part."""
        return {item.name: item.parameter.detach() * self.mask(item, item.module.training) for item in self.items}

    def before_step(self, iteration: int) -> None:
        """Keep the optimizer from all parameters of the network."""
        for parameter in self.model.parameters():
            parameter.grad = None

    def final(self, item: MaskedTensor) -> Tensor:
        """Return the weights, those that take no part replaced by 0."""
        return item.parameter * self.mask(item, drawn=False)
