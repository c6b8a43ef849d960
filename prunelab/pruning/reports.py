"""What the pruner reports: the tensors with their sizes, and what one pruning removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunelab.pruning.masks import MaskedTensor, Masks
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
        return 1 - self.nonzero / self.size


@dataclass(frozen=True)
class Summary:
    """All prunable tensors of a model; printed as a table."""

    tensors: tuple[TensorReport, ...]

    @property
    def sparsity(self) -> float:
        """Zeros ÷ all weights, over the prunable tensors."""
        size = sum(tensor.size for tensor in self.tensors)
        return 1 - sum(tensor.nonzero for tensor in self.tensors) / size if size else 0.0

    def __str__(self) -> str:
        header = ["tensor", "shape", "units left", "nonzero", "size", "sparsity"]
        rows = [_row(t.name, "×".join(map(str, t.shape)), f"{t.units[0]:,} of {t.units[1]:,}", t) for t in self.tensors]
        nonzero, size = (sum(getattr(t, key) for t in self.tensors) for key in ("nonzero", "size"))
        total = ["all", "", "", f"{nonzero:,}", f"{size:,}", percent(self.sparsity)]
        return table(header, [*rows, total], left=2)


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
        return 1 - self.kept / self.size if self.size else 0.0

    def __str__(self) -> str:
        said = f"pruned {self.pruned:,} weights in {self.milliseconds:.0f} ms: {self.kept:,} of {self.size:,} are left"
        return "\n".join([f"{said}, sparsity {percent(self.sparsity)}", *self.warnings])


def _row(name: str, shape: str, units: str, tensor: TensorReport) -> list[str]:
    return [name, shape, units, f"{tensor.nonzero:,}", f"{tensor.size:,}", percent(tensor.sparsity)]


def tensor_report(item: MaskedTensor, units: tuple[int, int]) -> TensorReport:
    """Return the report on one tensor."""
    nonzero = int(torch.count_nonzero(item.parameter))
    return TensorReport(item.name, tuple(item.parameter.shape), units, nonzero, item.parameter.numel())


def merged(reports: Iterable[PruneReport]) -> PruneReport:
    """Return one report on several prunings, one after the other; at least one."""
    found = list(reports)
    return PruneReport(
        found[-1].amount,
        sum(report.milliseconds for report in found),
        found[-1].kept,
        sum(report.pruned for report in found),
        found[-1].size,
        tuple(warning for report in found for warning in report.warnings),
    )


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
