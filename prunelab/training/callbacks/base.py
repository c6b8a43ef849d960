"""The interface of callbacks, and the phase of training that a callback is made for."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunelab.errors import ConfigError, check_number
from prunelab.pruning.masks import MaskedTensor, Masks


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that a callback adds to the optimizer."""

    parameters: Sequence[nn.Parameter]  # parameters of the network among them are in no other group
    lr: float  # learning rate > 0; it follows the learning-rate schedule
    weight_decay: float = 0.0  # ≥ 0


class Callback:
    """Base class of everything that takes part in training: regularizers, a teacher, pruning, sparse training.

    Every hook of this class does nothing. Iterations are counted from 1 over one phase of training. A callback that the
    config names is made as `Kind(phase, **options)`, anew for each phase.
    """

    def parameters(self) -> ParameterGroup | None:
        """Return parameters of the callback's own for the optimizer, or None."""
        return None

    def check(self, optimizer: Optimizer) -> None:
        """Raise ConfigError for an optimizer that does not suit. Called for `sparse_training`, before any training."""

    def begin(self, optimizer: Optimizer) -> None:
        """Run before the first step of training, or before the first step after an interruption."""

    def substitutes(self) -> Mapping[str, Tensor]:
        """Return tensors that the next forward pass uses in the place of parameters.

        Called before each forward pass, in training and in evaluation; `module.training` says which.

        Returns:
            Tensors by parameter name, each of its parameter's shape; gradients flow through them.
        """
        return {}

    def measured(self) -> AbstractContextManager[None]:
        """Return a context in which the network is evaluated: it may have other weights there than in training."""
        return nullcontext()

    def objective(self, loss: Tensor, inputs: Tensor, logits: Tensor) -> Tensor:
        """Return the scalar to minimise.

        Args:
            loss: scalar: the batch's cross-entropy, or what the callback before this one returned.
            inputs: the batch, [batch, …].
            logits: the network's output for it, [batch, classes].
        """
        return loss

    def before_step(self, iteration: int) -> None:
        """Run after the backward pass and before the optimizer's step."""

    def after_step(self, iteration: int) -> None:
        """Run after the optimizer's step; the gradients are still there."""

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint must store, so that training continues with the same bits."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""

    def finish(self) -> None:
        """Run once after the last step, before the network is measured."""


@dataclass(frozen=True)
class Phase:
    """A phase of training: dense training, or the fine-tuning of one round.

    Attributes:
        model: the network that is trained.
        masks: its masks.
        seed: seed of the experiment; callbacks draw by (seed, round, iteration).
        round: number of the round; 0 is dense training.
        iterations: optimizer steps in the phase.
        batch: `batch(iteration)` returns inputs and labels of a training batch drawn by (seed, round, iteration).
        tensors: names of the masked tensors that callbacks may change; None: all. (Biases that are pruned with their
            channels are masked, but not among them.)
    """

    model: nn.Module
    masks: Masks
    seed: int
    round: int
    iterations: int
    batch: Callable[[int], tuple[Tensor, Tensor]]
    tensors: Sequence[str] | None = None

    def masked(self) -> list[MaskedTensor]:
        """Return the masked tensors that callbacks may change, in the model's order."""
        return [item for item in self.masks if self.tensors is None or item.name in self.tensors]


class LearnedPerTensor(Callback):
    """A callback that trains one parameter of its own beside each masked tensor.

    Args:
        learned: its parameters, by the names of the tensors.
        lr: their learning rate, > 0. They have no weight decay.

    Attributes:
        items: the tensors; none once training has ended.

    Raises:
        ConfigError: if the learning rate is out of range.
    """

    def __init__(self, phase: Phase, learned: Mapping[str, nn.Parameter], lr: float) -> None:
        check_number("regularizer.lr", lr, "a number > 0", lambda x: x > 0)
        self.masks, self.items, self.learned, self.lr = phase.masks, phase.masked(), learned, lr

    def final(self, item: MaskedTensor) -> Tensor:
        """Return the weights of a tensor after training."""
        raise NotImplementedError

    @torch.no_grad()
    def finish(self) -> None:
        """Give the network its weights after training."""
        for item in self.items:
            item.parameter.copy_(self.final(item))
        self.items = []
        self.masks.apply()

    def parameters(self) -> ParameterGroup:
        """Return the callback's parameters."""
        return ParameterGroup(list(self.learned.values()), self.lr)

    def state(self) -> dict[str, Tensor]:
        """Return the callback's parameters, by the tensors' names."""
        return {name: parameter.detach().cpu() for name, parameter in self.learned.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore the callback's parameters."""
        for name, parameter in self.learned.items():
            parameter.copy_(state[name])


def check_strength(phase: Phase, name: str, strength: float) -> None:
    """Raise ConfigError if a regularizer's strength is negative, or if there is no dense training."""
    check_number("regularizer.strength", strength, "a number ≥ 0", lambda x: x >= 0)
    if phase.iterations == 0:
        raise ConfigError(f"regularizer={name}: acts during dense training, and train.epochs=0 leaves none")
