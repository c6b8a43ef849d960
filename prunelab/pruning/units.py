"""Units of pruning, and the one function that decides which of them are pruned."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from prunelab.errors import ConfigError
from prunelab.pruning.masks import MaskedTensor


@dataclass(frozen=True)
class Count:
    """How many units a tensor has."""

    shape: torch.Size  # of the tensor
    units: tuple[int, ...]  # the shape of its array of units
    alive: int  # number of units that are not pruned
    inputs: int  # the tensor's dimension that runs over its inputs; 0 for a transposed convolution


@dataclass(frozen=True)
class Units:
    """The units of one tensor: weights, channels, blocks or kernels."""

    shape: torch.Size  # of the tensor
    scores: Tensor  # importance of each unit, ≥ 0; of any shape
    alive: Tensor  # True for a unit that is not pruned yet; bool, of the scores' shape
    inputs: int  # as in `Count`
    dtype: torch.dtype  # of the criterion's scores of the weights

    @property
    def count(self) -> Count:
        """How many they are."""
        return Count(self.shape, tuple(self.scores.shape), int(self.alive.sum()), self.inputs)


class Granularity(ABC):
    """What is removed as one. Turns scores of weights into scores of units, and a decision on units into a mask.

    Attributes:
        spares_output: whether the output layer is left unpruned unless the user says otherwise: a pruned output channel
            of it would be a class that is never predicted.
    """

    spares_output: ClassVar[bool] = False

    def check(self, item: MaskedTensor) -> None:  # noqa: B027
        """Raise ConfigError for a tensor that has no such units."""

    @abstractmethod
    def shape(self, item: MaskedTensor) -> tuple[int, ...]:
        """Return the shape of a tensor's array of units."""

    @abstractmethod
    def scores(self, scores: Tensor, item: MaskedTensor) -> Tensor:
        """Return the score of each unit, from the scores of the weights, which are zero where pruned."""

    @abstractmethod
    def alive(self, item: MaskedTensor) -> Tensor:
        """Return True for each unit that still has a weight."""

    @abstractmethod
    def spread(self, units: Tensor, item: MaskedTensor) -> Tensor:
        """Return a bool tensor of the weights' shape from one of the units' shape."""

    def weights_per_unit(self, item: MaskedTensor) -> int | None:
        """Return how many weights a unit has; None if the units of this tensor have different sizes."""
        units = int(np.prod(self.shape(item)))
        return item.parameter.numel() // units if item.parameter.numel() % units == 0 else None

    def followers(self, item: MaskedTensor) -> list[tuple[nn.Module, str]]:
        """Return the parameters that are pruned along with the units: the bias with its output channel."""
        return []

    def units(self, scores: Tensor, item: MaskedTensor) -> Units:
        """Return the units of one tensor, from scores ≥ 0 of its weights, of the parameter's shape."""
        values = scores.to(item.mask.device)
        values = self.scores(values * item.kept if item.active else values, item)
        return Units(item.parameter.shape, values, self.alive(item), input_dim(item.module), scores.dtype)

    def count(self, item: MaskedTensor) -> Count:
        """Return how many units a tensor has."""
        alive = int(self.alive(item).sum())
        return Count(item.parameter.shape, self.shape(item), alive, input_dim(item.module))


class Allocation(ABC):
    """How many units are pruned from each tensor.

    Attributes:
        sets_amount: whether it sets its own sparsity, so that `amount` must be null.
        needs_weights: whether it can only prune single weights.
        evenly: whether `left` takes the living units of a tensor to be evenly spread over its rows.
    """

    sets_amount: ClassVar[bool] = False
    needs_weights: ClassVar[bool] = False
    evenly: ClassVar[bool] = False

    def pruned(self, units: Sequence[Units], amount: float | None) -> list[Tensor]:
        """Return which units are pruned now: for each tensor a bool tensor of its units' shape.

        By default, of each tensor those with the smallest scores, so that as many stay as `left` says.

        Args:
            units: the units of each tensor.
            amount: fraction in [0, 1) of the units that are not pruned yet; None where `sets_amount`.
        """
        counts = [u.count for u in units]
        left = self.left(counts, amount)
        assert isinstance(left, list)
        gone = [count.alive - stay for count, stay in zip(counts, left, strict=True)]
        return [smallest([u.scores], [u.alive], n)[0] for u, n in zip(units, gone, strict=True)]

    def check(self, name: str, units: tuple[int, ...]) -> None:  # noqa: B027
        """Raise ConfigError for a tensor whose array of units, of shape `units`, does not fit."""

    @abstractmethod
    def left(self, counts: Sequence[Count], amount: float | None) -> list[int] | int | None:
        """Return how many units a pruning leaves, from their counts alone, as the plan needs it.

        Returns:
            A number for each tensor; one number for all tensors together, if only their sum is known without scores;
            None if not even that is known.
        """


def input_dim(module: nn.Module) -> int:
    """Return which dimension of a module's weight runs over its inputs: 0 for a transposed convolution, else 1."""
    return 0 if isinstance(module, nn.modules.conv._ConvTransposeNd) else 1


def fraction(amount: float | None) -> float:
    """Return the amount; raise ConfigError if it is null."""
    if amount is None:
        raise ConfigError("amount=null: must be a fraction in [0, 1)")
    return amount


def number(amount: float | None, units: int) -> int:
    """Return how many of a tensor's unpruned units are pruned: round(amount · units), but never the last one."""
    return min(round(fraction(amount) * units), max(units - 1, 0))


def number_together(amount: float | None, units: int, tensors: int) -> int:
    """Return how many units of several tensors are pruned together: round(amount · units), but one of each stays.

    `units` is the number of unpruned ones in all tensors, `tensors` the number of tensors that have one.
    """
    return max(min(number(amount, units), units - tensors), 0)


def smallest(scores: Sequence[Tensor], alive: Sequence[Tensor], count: int) -> list[Tensor]:
    """Return the `count` living units with the smallest scores, in one ranking of all tensors; bool, as `alive`.

    Of equal scores the one that stands first is pruned first, on every device. The best unit of each tensor (of equal
    ones the last) is never pruned.

    Args:
        scores: of any shapes; ConfigError for one that is negative, infinite or NaN.
        alive: bool, of the scores' shapes.
        count: at most the number of living units less one for each tensor that has any.
    """
    values = [_values(score) for score in scores]
    candidates = [living.flatten().to(part.device, copy=True) for living, part in zip(alive, values, strict=True)]
    for part, free in zip(values, candidates, strict=True):
        if bool(free.any()):
            free[len(part) - 1 - int(torch.where(free, part, -1).flip(0).argmax())] = False
    gone = _smallest(values, candidates, count)
    return [found.view(x.shape).to(x.device) for found, x in zip(gone, scores, strict=True)]


def _smallest(values: list[Tensor], candidates: list[Tensor], count: int) -> list[Tensor]:
    """Return True for the `count` smallest candidates, of equal ones the first. Copies the values only once."""
    if count <= 0:
        return [torch.zeros_like(free) for free in candidates]
    sizes = [int(free.sum()) for free in candidates]
    dtype = reduce(torch.promote_types, (part.dtype for part in values))
    ranked, start = torch.empty(sum(sizes), dtype=dtype, device=values[0].device), 0
    for part, free, size in zip(values, candidates, sizes, strict=True):
        ranked[start : start + size] = part[free]
        start += size
    limit = ranked_at(ranked, count - 1)
    ties_left = count - int((ranked < limit).sum())
    found: list[Tensor] = []
    for part, free in zip(values, candidates, strict=True):
        exact, last = part.to(dtype), limit.to(part.device)
        gone = free & (exact < last)
        ties = (free & (exact == last)).nonzero().flatten()[:ties_left]
        gone[ties] = True
        ties_left -= len(ties)
        found.append(gone)
    return found


def ranked_at(values: Tensor, place: int) -> Tensor:
    """Return the value at a place, from 0, in ascending order; may change the order of `values`, [n]."""
    if values.device.type != "cpu":
        return values.sort().values[place]
    values.numpy().partition(place)  # without a full sort, which takes ten times as long on a CPU
    return values[place].clone()


def _values(score: Tensor) -> Tensor:
    """Return the scores as a flat tensor, checked; on a GPU with CUDA they stay there. 16-bit floats become float32."""
    values = score.detach().flatten()
    values = values if values.is_cuda else values.cpu()
    values = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
    if values.numel():
        low, high = values.aminmax()
        if not (float(low) >= 0 and float(high) < float("inf")):
            what = "a weight or a score is NaN, infinite or negative"
            raise ConfigError(f"criterion: scores must be finite and ≥ 0; {what}")
    return values
