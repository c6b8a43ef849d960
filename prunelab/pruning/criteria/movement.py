"""Whether training moves a weight away from zero or towards it, by first-order information."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from prunelab.errors import ConfigError
from prunelab.pruning.criteria.base import Criterion, Evidence, exact, shifted
from prunelab.pruning.mask_hooks import step_hooks
from prunelab.pruning.masks import Masks


class Movement(Criterion):
    """Score a weight by Σ −∂L/∂w · w over the optimizer steps since the last pruning, shifted so that the least is 0.

    The sum is positive where gradient descent makes |w| grow and negative where it makes it shrink: a small weight that
    grows is kept, and a large one that shrinks is pruned. Made for fine-tuning a pretrained network. Scores are in
    float64; the shift is arbitrary, so they cannot be added up to scores of channels.

    Use it to fine-tune a pretrained network on another task, where large weights are not the ones that the task
    needs.

    Source: Sanh, Wolf & Rush 2020, "Movement pruning: adaptive sparsity by fine-tuning", section 4, eq. 4,
        arXiv 2005.07683; without the learning rate of the scores, which does not change their order.
    """

    def __init__(self) -> None:
        self._masks: Masks | None = None
        self._sums: dict[str, Tensor] = {}

    def attach(self, masks: Masks) -> None:
        """Add up −∂L/∂w · w before each optimizer step, with the weights at which the gradient was taken."""
        self._masks = masks
        step_hooks().recording.add(self)

    def __call__(self, evidence: Evidence) -> list[Tensor]:
        """Return the scores; raise ConfigError if there was no training since the last pruning."""
        if not self._sums:
            raise ConfigError("criterion=movement: needs optimizer steps before each pruning; train.epochs=0 has none")
        values = zip(evidence.names, evidence.values, strict=True)
        return shifted([exact(self._sums.get(name, torch.zeros_like(value))) for name, value in values])

    def state(self) -> dict[str, Tensor]:
        """Return the sums, by the names of the tensors."""
        return {name: value.cpu() for name, value in self._sums.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore the sums; an empty state starts new ones."""
        devices = {item.name: item.parameter.device for item in self._masks or ()}
        self._sums = {name: value.clone().to(devices.get(name, value.device)) for name, value in state.items()}

    def detach(self) -> None:
        """Stop recording."""
        step_hooks().recording.discard(self)

    @torch.no_grad()
    def before_step(self, optimizer: Optimizer) -> None:
        """Add to the sums of the parameters that an optimizer is about to step."""
        moved = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for item in self._masks or ():
            gradient = item.parameter.grad
            if id(item.parameter) in moved and gradient is not None:
                total = self._sums.setdefault(item.name, torch.zeros_like(item.parameter))
                total -= gradient * item.parameter
