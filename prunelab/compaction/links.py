"""Indices of tensors that can only be cut together: a union-find over (tensor, dimension, index)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

Key = tuple[str, int]  # a tensor's name in the model and one of its dimensions
NONE, INPUT = -1, 0  # labels: of an element that belongs to no index, and of the network's input


@dataclass
class Links:
    """Numbers the indices of tensors, and merges those that can only be cut together.

    Attributes:
        first: the number of the first index of each key.
        sizes: how many indices a key has.
        why: by the number of an index: why it cannot be cut.
    """

    first: dict[Key, int] = field(default_factory=dict)
    sizes: dict[Key, int] = field(default_factory=dict)
    why: dict[int, str] = field(default_factory=dict)
    _parent: list[int] = field(default_factory=lambda: [INPUT])

    def labels(self, key: Key, count: int) -> Tensor:
        """Return the numbers of a key's indices, [count]."""
        if key not in self.first:
            self.first[key], self.sizes[key] = len(self._parent), count
            self._parent += range(len(self._parent), len(self._parent) + count)
        return torch.arange(self.first[key], self.first[key] + count)

    def find(self, number: int) -> int:
        """Return the smallest number that an index is merged with."""
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def merge(self, one: Tensor, other: Tensor) -> None:
        """Merge the indices that stand at the same place of two tensors of labels, which broadcast."""
        one, other = torch.broadcast_tensors(one, other)
        still = [a == 0 and b == 0 for a, b in zip(one.stride(), other.stride(), strict=True)]  # equal along these
        for dim, same in enumerate(still):
            if same and one.shape[dim]:
                one, other = one.narrow(dim, 0, 1), other.narrow(dim, 0, 1)
        pairs = torch.stack([one.reshape(-1), other.reshape(-1)], 1)
        for a, b in pairs[pairs[:, 0] != pairs[:, 1]].unique(dim=0).tolist():
            if INPUT in (a, b):
                self.fix(torch.tensor([a, b]), "they are combined with the network's input")
            elif NONE not in (a, b):
                low, high = sorted((self.find(a), self.find(b)))
                self._parent[high] = low
                if high in self.why:
                    self.why.setdefault(low, self.why[high])

    def fix(self, labels: Tensor, why: str) -> None:
        """Say why indices cannot be cut; the first reason counts."""
        for number in labels.unique().tolist():
            if number > INPUT:
                self.why.setdefault(self.find(number), why)

    def varies(self, labels: Tensor) -> list[int]:
        """Return the dimensions along which labels are not all merged."""
        core = labels
        for dim in range(labels.dim()):
            core = core.narrow(dim, 0, min(1, core.shape[dim])) if not labels.stride(dim) else core
        numbers, places = core.unique(return_inverse=True)
        found = torch.tensor([self.find(number) if number > INPUT else number for number in numbers.tolist()])
        core = found[places] if len(found) else core
        return [dim for dim, size in enumerate(core.shape) if size > 1 and bool((core != core.narrow(dim, 0, 1)).any())]

    def merged(self) -> dict[int, dict[Key, list[int]]]:
        """Return the indices that belong together: by their smallest number, key → indices."""
        found: dict[int, dict[Key, list[int]]] = {}
        for key, first in self.first.items():
            for index in range(self.sizes[key]):
                found.setdefault(self.find(first + index), {}).setdefault(key, []).append(index)
        return found


def along(numbers: Tensor, dim: int, shape: torch.Size) -> Tensor:
    """Return labels of a shape that vary along one dimension only."""
    sides = [1] * len(shape)
    sides[dim] = len(numbers)
    return numbers.view(sides).expand(shape)
