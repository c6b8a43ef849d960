"""An exponential moving average of the weights, with which training ends."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from prunelab.pruning.masks import Masks
from prunelab.training.callbacks.base import Callback


class MovingAverage(Callback):
    """Average the weights over the iterations; evaluate and end with the average, and train with the weights.

    After t steps the average is (1 − d) · Σ d^(t−i) · wᵢ ÷ (1 − dᵗ), in which the weights of a mean sum to 1. Pruned
    weights are zero in it. Buffers, such as the statistics of batch normalisation, are not averaged.

    Use it, by `train.ema`, if the last epochs are noisy and the learning rate does not fall.

    Args:
        model: the network.
        masks: its masks.
        decay: d, in (0, 1).

    Source: Polyak & Juditsky 1992; the bias correction of Kingma & Ba 2015, arXiv 1412.6980, section 3.
    """

    def __init__(self, model: nn.Module, masks: Masks, decay: float) -> None:
        self.model, self.masks, self.decay, self.steps = model, masks, decay, 0
        self.sums = {name: torch.zeros_like(weight) for name, weight in self._weights()}

    def _weights(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad]

    @torch.no_grad()
    def after_step(self, iteration: int) -> None:
        """Add the weights after the step."""
        self.steps = iteration
        for name, weight in self._weights():
            self.sums[name].mul_(self.decay).add_(weight, alpha=1 - self.decay)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Give the network the average; afterwards its weights again."""
        before = {name: weight.detach().clone() for name, weight in self._weights()}
        self.finish()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in self._weights():
                    weight.copy_(before[name])

    @torch.no_grad()
    def finish(self) -> None:
        """Give the network the average."""
        for name, weight in self._weights() if self.steps else ():
            weight.copy_(self.sums[name] / (1 - self.decay**self.steps))
        self.masks.apply()

    def state(self) -> dict[str, Tensor]:
        """Return the sums and the number of steps."""
        return {**self.sums, "": torch.tensor(self.steps)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self.steps = int(state[""])
        for name, total in self.sums.items():
            total.copy_(state[name])
