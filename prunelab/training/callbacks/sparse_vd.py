"""Sparse variational dropout: noise on each weight whose variance is trained; weights that are all noise go."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.errors import ConfigError, check_number
from prunelab.pruning.mask_hooks import remove
from prunelab.pruning.masks import MaskedTensor
from prunelab.training.callbacks.base import LearnedPerTensor, Phase, check_strength

K1, K2, K3 = 0.63576, 1.87320, 1.48695  # of the paper's fit
LIMIT = 8.0  # of |log α|, as in the paper's code
TINY = 1e-8  # keeps logarithm and root finite where a weight or an input is 0
CONVOLUTIONS: Mapping[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}


def divergence(log_alpha: Tensor) -> Tensor:
    """Return the Kullback–Leibler divergence of each weight's posterior N(w, α·w²) from the log-uniform prior, ≥ 0.

    It is the paper's fit, K1 − K1·σ(K2 + K3·log α) + ½·log(1 + 1/α), which is 0 for α = ∞.

    Source: Molchanov, Ashukha & Vetrov 2017, arXiv 1701.05369, eq. 14.
    """
    return K1 - K1 * torch.sigmoid(K2 + K3 * log_alpha) + 0.5 * F.softplus(-log_alpha)


class SparseVD(LearnedPerTensor):
    """Add noise of variance σ² to each prunable weight, train σ² with the weights, and drop those of large α = σ²/w².

    Adds strength · Σ of the divergences to the loss, with a factor that rises from 0 to 1. Linear layers and
    convolutions draw their outputs from the distribution that the noise gives them (local reparametrisation), other
    layers the weights. Weights whose log α is at least the threshold take no part in the mean; there is no noise in
    evaluation. After training they are exact zeros, which `strategy=threshold allocation.threshold=0` prunes.

    Use it if training itself is to find the sparsity of each layer; it takes longer than `l0` and prunes single
    weights only.

    Args:
        strength: in nats of cross-entropy per nat of divergence, ≥ 0; the paper's is 1 ÷ number of training examples.
        start: fraction of training, in [0, 1), until which the factor is 0.
        full: fraction of training, in (start, 1], from which on it is 1.
        log_sigma2: initial log σ².
        threshold: of log α.
        lr: learning rate of log σ², > 0.

    Raises:
        ConfigError: if a value is outside its range, or if there is no dense training.

    Source: Molchanov, Ashukha & Vetrov 2017, "Variational dropout sparsifies deep neural networks", arXiv 1701.05369.
    """

    def __init__(
        self,
        phase: Phase,
        strength: float = 1.8e-5,
        start: float = 0.025,
        full: float = 0.1,
        log_sigma2: float = -10.0,
        threshold: float = 3.0,
        lr: float = 0.001,
    ) -> None:
        check_strength(phase, "sparse_vd", strength)
        check_number("regularizer.start", start, "a fraction in [0, 1)", lambda x: 0 <= x < 1)
        check_number("regularizer.full", full, "a fraction in (start, 1]", lambda x: start < x <= 1)
        check_number("regularizer.log_sigma2", log_sigma2, "a number", lambda x: True)
        check_number("regularizer.threshold", threshold, "a number", lambda x: True)
        fresh = ((item.name, torch.full_like(item.parameter.detach(), log_sigma2)) for item in phase.masked())
        super().__init__(phase, {name: nn.Parameter(tensor) for name, tensor in fresh}, lr)
        self.strength, self.threshold, self.done = strength, threshold, 0
        self.begins, self.rises = start * phase.iterations, (full - start) * phase.iterations
        self.noisy = {item.name: spread for item in self.items if (spread := _spread(item)) is not None}
        self.uncalled = set(self.noisy)
        hooked = [item for item in self.items if item.name in self.noisy]
        self.handles = [item.module.register_forward_hook(self._hook(item.name)) for item in hooked]

    def log_alpha(self, item: MaskedTensor) -> Tensor:
        """Return log α = log σ² − log w² of a tensor's weights, in [−8, 8]."""
        return (self.learned[item.name] - (item.parameter.square() + TINY).log()).clamp(-LIMIT, LIMIT)

    def final(self, item: MaskedTensor) -> Tensor:
        """Return the weights, those that are all noise replaced by 0."""
        with torch.no_grad():
            kept = self.log_alpha(item) < self.threshold
        return item.parameter * kept

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def add_noise(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            self.uncalled.discard(name)
            if not module.training:
                return output
            variance = self.noisy[name](inputs[0].square(), self.learned[name].exp())
            return output + (variance + TINY).sqrt() * torch.randn_like(output)

        return add_noise

    def substitutes(self) -> dict[str, Tensor]:
        """Return the means; with noise in training for layers that are neither linear nor convolutions."""
        found = dict[str, Tensor]()
        for item in self.items:
            found[item.name] = self.final(item)
            if item.module.training and item.name not in self.noisy:
                noise = torch.randn_like(item.parameter)
                found[item.name] = found[item.name] + (self.learned[item.name] / 2).exp() * noise
        return found

    def objective(self, loss: Tensor, inputs: Tensor, logits: Tensor) -> Tensor:
        """Add the divergences."""
        if self.uncalled:
            why = "its layer is not called, and would get no noise; prune.exclude leaves a tensor out"
            raise ConfigError(f"regularizer=sparse_vd: {min(self.uncalled)}: {why}")
        factor = min(1.0, max(0.0, (self.done - self.begins) / self.rises))
        total = torch.stack([divergence(self.log_alpha(item)).sum() for item in self.items]).sum()
        return loss + factor * self.strength * total

    def after_step(self, iteration: int) -> None:
        """Count the iterations, by which the factor rises."""
        self.done = iteration

    def state(self) -> dict[str, Tensor]:
        """Return log σ² and the number of iterations."""
        return {**super().state(), "": torch.tensor(self.done)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        super().load(state)
        self.done = int(state[""])

    def finish(self) -> None:
        """Set the weights that are all noise to zero, and stop adding noise."""
        super().finish()
        remove(self.handles)


def _spread(item: MaskedTensor) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return the function from squared inputs and σ² to the variance of the layer's output; None: draw weights."""
    module = item.module
    if item.key != "weight":
        return None
    if type(module) is nn.Linear:
        return F.linear
    if type(module) not in CONVOLUTIONS or module.padding_mode != "zeros":
        return None
    convolve = CONVOLUTIONS[type(module)]
    how: Any = {name: getattr(module, name) for name in ("stride", "padding", "dilation", "groups")}
    return lambda x, variance: convolve(x, variance, **how)
