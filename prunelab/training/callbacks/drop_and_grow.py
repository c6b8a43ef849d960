"""Sparse training: repeatedly drop the smallest weights of a tensor and grow as many others."""

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from prunelab.errors import ConfigError, check_number
from prunelab.pruning.criteria.base import derivative
from prunelab.pruning.masks import MaskedTensor
from prunelab.runtime.recurrent import in_one_piece
from prunelab.training.callbacks.base import Callback, Phase

Count = tuple[int, int]  # weights of a tensor that are dropped, and that grow


class DropAndGrow(Callback):
    """After every `every` iterations, move a share of each tensor's active weights to other places.

    Of a tensor's n active weights (those that are not pruned), the round(share · n) with the smallest |w| are dropped,
    but at most as many as are pruned. The same number of weights that were pruned before grow: those with the highest
    `scores`. They start at zero, without momentum. So each tensor keeps its number of active weights, and a tensor
    without pruned weights does not change. Single weights move: channels and patterns are not preserved.

    Args:
        every: iterations between two moves, ≥ 1.
        until: fraction of the phase's iterations, in (0, 1], after which no weights move.
        fraction: share that moves (at first), in (0, 1).
        decay: `constant`, or `cosine`: after iteration t of T the share is fraction/2 · (1 + cos(t·π/T)).

    Raises:
        ConfigError: if a value is outside its range, or if fine-tuning is too short for a single move.
    """

    name = "drop_and_grow"
    forgets = True  # whether weights that grow start without momentum

    def __init__(
        self, phase: Phase, every: int = 100, until: float = 0.75, fraction: float = 0.3, decay: str = "constant"
    ) -> None:
        check_number("sparse_training.every", every, "a whole number ≥ 1", lambda x: x >= 1 and x == int(x))
        check_number("sparse_training.until", until, "a fraction in (0, 1]", lambda x: 0 < x <= 1)
        check_number("sparse_training.fraction", fraction, "a fraction in (0, 1)", lambda x: 0 < x < 1)
        if decay not in ("constant", "cosine"):
            raise ConfigError(f"sparse_training.decay={decay}: must be constant or cosine")
        self.phase, self.every, self.fraction, self.cosine = phase, every, fraction, decay == "cosine"
        self.optimizer: Optimizer | None = None
        self.end = until * phase.iterations
        if every >= self.end:
            raise ConfigError(
                f"sparse_training.every={every}: must be less than {self.end:g}, since sparse_training={self.name} has "
                f"until={until:g} of {phase.iterations} iterations of fine-tuning"
            )

    def begin(self, optimizer: Optimizer) -> None:
        """Take the optimizer, whose momentum is reset for weights that grow."""
        self.optimizer = optimizer

    def share(self, iteration: int) -> float:
        """Return the share of the active weights that moves after this iteration."""
        return self.fraction / 2 * (1 + math.cos(math.pi * iteration / self.end)) if self.cosine else self.fraction

    def moved(self) -> list[MaskedTensor]:
        """Return the tensors whose weights move."""
        return [item for item in self.phase.masked() if not item.mask.all()]

    def scores(self, iteration: int, items: Sequence[MaskedTensor]) -> Mapping[str, Tensor]:
        """Return scores ≥ 0 by the tensors' names; the pruned weights with the highest scores grow."""
        raise NotImplementedError

    def counts(self, share: float, items: Sequence[MaskedTensor], scores: Mapping[str, Tensor]) -> Sequence[Count]:
        """Return how many weights of each tensor are dropped, and how many grow."""
        moving = [min(round(share * active(item)), pruned(item)) for item in items]
        return [(number, number) for number in moving]

    @torch.no_grad()
    def after_step(self, iteration: int) -> None:
        """Drop and grow after every `every` iterations. All state is in the masks and weights."""
        if iteration % self.every or iteration >= self.end:
            return
        items = self.moved()
        scores = self.scores(iteration, items)
        if not all(scores[item.name].isfinite().all() and item.parameter.isfinite().all() for item in items):
            return  # after divergence nothing moves, and the loop reports the loss
        optimizer = self.optimizer if self.forgets else None
        for item, counts in zip(items, self.counts(self.share(iteration), items, scores), strict=True):
            drop_and_grow(item, scores[item.name], *counts, optimizer)
        self.phase.masks.apply()


def active(item: MaskedTensor) -> int:
    """Return the number of a tensor's weights that are not pruned."""
    return int(item.kept.sum())


def pruned(item: MaskedTensor) -> int:
    """Return the number of a tensor's weights that are pruned."""
    return item.mask.numel() - active(item)


@torch.no_grad()
def drop_and_grow(item: MaskedTensor, scores: Tensor, drop: int, grow: int, optimizer: Optimizer | None) -> None:
    """Drop the `drop` smallest active weights of a tensor, and grow the `grow` pruned ones with the highest scores.

    Among equal weights the first is dropped; among equal scores the last grows. The mask changes; call `masks.apply()`
    afterwards, which sets the dropped weights to zero.

    Args:
        scores: ≥ 0, of the tensor's shape.
        drop: at most the number of active weights.
        grow: at most the number of pruned weights.
        optimizer: its state for the weights that grow is set to zero; None: it stays.
    """
    sizes, kept = item.parameter.abs().flatten(), item.kept.flatten()
    dropped = sizes.masked_fill(~kept, torch.inf).argsort(stable=True)[:drop]
    grown = scores.flatten().masked_fill(kept, -torch.inf).argsort(stable=True)[kept.numel() - grow :]
    item.mask.view(-1)[dropped] = 0
    item.mask.view(-1)[grown] = 1
    chosen = torch.zeros_like(kept).index_fill(0, grown, True).view(item.mask.shape)
    item.parameter[chosen] = 0
    state = optimizer.state.get(item.parameter, {}) if optimizer is not None else {}
    for key, value in state.items():
        if key != "step" and isinstance(value, Tensor) and value.shape == item.parameter.shape:
            value[chosen] = 0


def dense_gradients(phase: Phase, iteration: int, names: Sequence[str]) -> dict[str, Tensor]:
    """Return |∂L/∂w| of every weight, pruned ones included, for one batch of the training split.

    The gradient is computed on a copy in training mode, so the model stays unchanged. Dropout draws random numbers.
    """
    model = in_one_piece(copy.deepcopy(phase.model)).train()
    inputs, labels = phase.batch(iteration)
    weights = dict(model.named_parameters())
    with torch.enable_grad():
        loss = functional.cross_entropy(model(inputs), labels)
        found = derivative(loss, [weights[name] for name in names])
    return {name: slope.abs() for name, slope in zip(names, found, strict=True)}
