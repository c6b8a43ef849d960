"""What the pruner reports: the tensors with their sizes, and what one pruning removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from prunelab.pruning.masks import MaskedTensor, Masks
from prunelab.pruning.units import Granularity
from prunelab.text import percent, table


@dataclass(frozen=True)
class TensorReport:
    """One prunable tensor.

    Attributes:
        name: such as `conv1.weight`.
        shape: of the tensor.
        units: how many units it has that are not pruned, and how many there are.
        nonzero: weights that are not zero.
        size: all weights.
    """

    name: str
    shape: tuple[int, ...]
    units: tuple[int, int]
    nonzero: int
    size: int

    @property
    def sparsity(self) -> float:
        """Zeros ÷ all weights."""
        return (self.size - self.nonzero) / self.size if self.size else 0.0


@dataclass(frozen=True)
class Summary:
    """All prunable tensors of a model; printed as a table."""

    tensors: tuple[TensorReport, ...]

    @property
    def total(self) -> TensorReport:
        """All tensors together, without shape and units."""
        return TensorReport("all", (), (0, 0), sum(t.nonzero for t in self.tensors), sum(t.size for t in self.tensors))

    @property
    def sparsity(self) -> float:
        """Zeros ÷ all weights, over the prunable tensors."""
        return self.total.sparsity

    def __str__(self) -> str:
        header = ["tensor", "shape", "units left", "nonzero", "size", "sparsity"]
        rows = []
        for t in (*self.tensors, self.total):
            units = f"{t.units[0]:,} of {t.units[1]:,}" if t.units[1] else ""
            shape = "×".join(map(str, t.shape))
            rows.append([t.name, shape, units, f"{t.nonzero:,}", f"{t.size:,}", percent(t.sparsity)])
        return table(header, rows, left=2)


@dataclass(frozen=True)
class PruneReport:
    """What one pruning did.

    Attributes:
        amount: the fraction that was asked for; None where the allocation decided.
        milliseconds: how long it took, scoring included.
        kept: weights that the masks keep now.
        pruned: weights that this pruning removed.
        size: all weights of the prunable tensors.
        warnings: sentences on tensors that are down to their last unit.
    """

    amount: float | None
    milliseconds: float
    kept: int
    pruned: int
    size: int
    warnings: tuple[str, ...] = ()

    @property
    def sparsity(self) -> float:
        """Pruned weights ÷ all weights, over the prunable tensors."""
        return (self.size - self.kept) / self.size if self.size else 0.0

    def __str__(self) -> str:
        said = f"pruned {self.pruned:,} weights in {self.milliseconds:.0f} ms: {self.kept:,} of {self.size:,} are left"
        return "\n".join([f"{said}, sparsity {percent(self.sparsity)}", *self.warnings])


def tensor_report(item: MaskedTensor, granularity: Granularity) -> TensorReport:
    """Return the report on one tensor."""
    units = int(granularity.alive(item).sum()), prod(granularity.shape(item))
    nonzero = int(torch.count_nonzero(item.parameter))
    return TensorReport(item.name, tuple(item.parameter.shape), units, nonzero, item.parameter.numel())


def prune_report(
    masks: Masks, items: Sequence[MaskedTensor], before: Mapping[str, Tensor], amount: float | None, milliseconds: float
) -> PruneReport:
    """Return the report on a pruning that has just been done.

    Args:
        items: the prunable tensors; what is pruned along with them, such as biases, gives no warnings.
        before: the masks before the pruning, by name.
        amount: that was asked for.
        milliseconds: that it took.
    """
    kept, size = masks.counts()
    was = sum(int(torch.count_nonzero(mask)) for mask in before.values())
    said = [
        f"{name} is down to its last {unit}, which stays: without it the layer would give nothing"
        for name, unit in last_units(items, before)
    ]
    return PruneReport(amount, milliseconds, kept, was - kept, size, tuple(said))


def last_units(items: Iterable[MaskedTensor], before: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Yield the tensors whose masks came down to one weight or one whole channel.

    Args:
        before: the masks before the pruning, by name; one that is not named was all ones.

    Yields:
        The tensor's name and `weight` or `channel`.
    """
    for item in items:
        old, kept = before.get(item.name), item.kept
        if kept.sum() == 1 and (kept.numel() if old is None else int(old.sum())) > 1:
            yield item.name, "weight"
            continue
        for dim in range(min(kept.dim(), 2) if kept.dim() > 1 else 0):
            alive = kept.transpose(0, dim).flatten(1).any(1)  # [size of dim]
            whole = bool(kept.transpose(0, dim)[alive].all())
            was = None if old is None else int(old.to(kept.device).transpose(0, dim).flatten(1).any(1).sum())
            if int(alive.sum()) == 1 and whole and kept.shape[dim] > 1 and was != 1:
                yield item.name, "channel"
                break
