"""Data sets that live in memory on the run's device; batches are index slices."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from prunelab.randomness import permutation


@dataclass(frozen=True)
class Split:
    """Inputs [n, …] as they are stored (uint8, or float already normalised), and labels, int64 [n].

    uint8 inputs take a quarter of the memory, and become floats batch by batch: (inputs/255 − mean) / std.
    """

    inputs: Tensor
    labels: Tensor
    mean: float = 0.0
    std: float = 1.0

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Inputs, float32 [batch, …], and labels of some examples."""
        inputs = self.inputs[index]
        if inputs.dtype == torch.uint8:
            inputs = inputs.float().sub_(255 * self.mean).mul_(1 / (255 * self.std))
        return inputs, self.labels[index]

    def to(self, device: torch.device) -> Split:
        """The same examples on another device."""
        return replace(self, inputs=self.inputs.to(device), labels=self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test examples. Test data is never used to choose anything."""

    train: Split
    validation: Split
    test: Split

    def to(self, device: torch.device) -> Dataset:
        """The same data set on another device."""
        return Dataset(self.train.to(device), self.validation.to(device), self.test.to(device))


def stratified(labels: Tensor, limit: int, seed: int) -> Tensor:
    """Indices of `limit` examples with the classes in proportion (largest remainders), in a fixed random order.

    Args:
        labels: int64 [n].
        limit: how many, at most n.
        seed: of the draw.

    Returns:
        int64 [limit].
    """
    order = permutation(len(labels), seed, "stratified")
    share = torch.bincount(labels).double() * limit / len(labels)  # [classes]
    take = share.floor().long()
    short = limit - int(take.sum())
    take[(share - take).argsort(descending=True, stable=True)[:short]] += 1
    chosen = [order[labels[order] == c][: int(n)] for c, n in enumerate(take)]
    return torch.cat(chosen)[permutation(limit, seed, "mixed")]
