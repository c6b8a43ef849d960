"""What the pruner reports: the tensors with their sizes, and what one pruning removed."""

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
        name: the tensor's name, such as `conv1.weight`.
        shape: its shape.
        units: number of unpruned units, and of all units.
        nonzero: number of weights that are not zero.
        size: number of weights.
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
    """All masked tensors of a model, biases that are pruned with their channels included; printed as a table."""

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
        amount: the fraction that `prune` was given; None for an allocation that sets its own sparsity.
        milliseconds: duration, scoring included.
        kept: number of weights that the masks keep now.
        pruned: number of weights that this pruning removed.
        size: number of weights of all masked tensors, biases that are pruned with their channels included.
        warnings: a sentence for each tensor that this pruning has left with one weight or one channel.
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
        items: the prunable tensors, which may give warnings; biases that are pruned with them do not.
        before: the masks before the pruning, by name.
    """
    kept, size = masks.counts()
    was = sum(int(torch.count_nonzero(mask)) for mask in before.values())
    why = "which stays: without it the layer would give nothing"
    said = tuple(f"{name} is down to its last {unit}, {why}" for name, unit in last_units(items, before))
    return PruneReport(amount, milliseconds, kept, was - kept, size, said)


def last_units(items: Iterable[MaskedTensor], before: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Yield (name, `weight` or `channel`) of the tensors that this pruning left a single weight or whole channel.

    Args:
        before: the masks before the pruning, by name; a tensor without an entry had a mask of ones.
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
