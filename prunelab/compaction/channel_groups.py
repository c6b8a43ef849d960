"""Channels that can only be cut together: their numbers, which the trace merges, and the groups that layers share."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from prunelab.compaction.constant_layer import NORMS
from prunelab.compaction.layer_weights import LAYERS, READS, WRITES, Key, Owner, groups, is_depthwise, live, owners

Live = Callable[[nn.Module, str], list[bool]]
NONE, INPUT = -1, 0  # labels: of an element that belongs to no index, and of the network's input
UNSEEN = "they are the network's output, or no layer reads them"


@dataclass
class Links:
    """Numbers the indices of tensors, and merges those that can only be cut together."""

    first: dict[Key, int] = field(default_factory=dict)  # the number of the first index of each key
    sizes: dict[Key, int] = field(default_factory=dict)  # how many indices a key has
    why: dict[int, str] = field(default_factory=dict)  # by the number of an index: why it cannot be cut
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


@dataclass
class Member:
    """A layer in a group, and its channels that belong to each unit: unit → channels."""

    name: str
    module: nn.Module
    live: list[bool]  # for each channel that the layer reads, or writes, or scales, whether a weight of it is not zero
    channels: dict[int, list[int]] = field(default_factory=dict)

    def uses(self, unit: int) -> bool:
        """Return whether the layer has weights for a unit."""
        return any(self.live[channel] for channel in self.channels.get(unit, ()))


@dataclass
class Group:
    """Layers that share channels. A unit is a set of channels, of one or several layers, that must be cut together."""

    units: list[int] = field(default_factory=list)  # numbers, as in `Links`
    producers: list[Member] = field(default_factory=list)  # layers that write the channels, depthwise ones included
    consumers: list[Member] = field(default_factory=list)  # layers that read the channels and sum over them
    norms: list[Member] = field(default_factory=list)  # layers that scale and shift each channel
    obstacles: dict[int, str] = field(default_factory=dict)  # why a unit cannot be cut
    tensors: dict[int, dict[Key, list[int]]] = field(default_factory=dict)  # what is cut with a unit

    @property
    def root(self) -> str:
        """The name of one of the producers."""
        return self.producers[0].name


def find(model: nn.Module, links: Links) -> list[Group]:
    """Return all groups of channels that Conv, Linear and Embedding layers write; a channel is in one group."""
    merged, held = links.merged(), owners(model)
    order = {name: place for place, (name, _) in enumerate(model.named_modules())}
    clusters = _clusters(merged, held)
    found: dict[int, Group] = {}
    alive = functools.cache(live)
    for unit, keys in merged.items():
        group = found.setdefault(clusters[unit], Group())
        _add(group, unit, keys, held, links.why, alive)
    for group in found.values():
        group.producers.sort(key=lambda member: order[member.name])
        group.consumers.sort(key=lambda member: order[member.name])
    return sorted((group for group in found.values() if group.producers), key=lambda group: order[group.root])


def computed(model: nn.Module) -> list[str]:
    """Return sentences on layers with empty channels whose weights are computed, as weight normalization does."""
    return [
        f"{name}: {count} channels without weights stay: its weight is computed from other tensors"
        for name, module in model.named_modules()
        if isinstance(module, LAYERS) and "weight" not in dict(module.named_parameters(recurse=False))
        if (count := live(module, WRITES).count(False))
    ]


def _clusters(merged: dict[int, dict[Key, list[int]]], held: dict[str, list[Owner]]) -> dict[int, int]:
    """Return the group of each unit: units that one layer writes, or that one grouped layer uses, are in one group."""
    parent = {unit: unit for unit in merged}
    first: dict[tuple[str, str], int] = {}

    def top(unit: int) -> int:
        while parent[unit] != unit:
            parent[unit] = parent[parent[unit]]
            unit = parent[unit]
        return unit

    for unit, keys in merged.items():
        for owner, side, _ in _owned(keys, held):
            if side == WRITES or isinstance(owner.module, nn.GroupNorm) or groups(owner.module) > 1:
                low, high = sorted((top(unit), top(first.setdefault((owner.name, owner.tensor), unit))))
                parent[high] = low
    return {unit: top(unit) for unit in merged}


def _owned(keys: dict[Key, list[int]], held: dict[str, list[Owner]]) -> Iterator[tuple[Owner, str | None, list[int]]]:
    for (tensor, dim), channels in keys.items():
        for owner in held.get(tensor, ()):
            yield owner, owner.side(dim), channels


def _add(
    group: Group, unit: int, keys: dict[Key, list[int]], held: dict[str, list[Owner]], why: dict[int, str], alive: Live
) -> None:
    group.units.append(unit)
    group.tensors[unit] = keys
    read = False
    for owner, side, channels in _owned(keys, held):
        if side == READS and not is_depthwise(owner.module):
            read = True
            _note(group.consumers, owner, READS, unit, channels, alive)
        elif side == WRITES:
            _note(group.producers, owner, WRITES, unit, channels, alive)
        elif isinstance(owner.module, (*NORMS, nn.GroupNorm)) and owner.tensor == "weight":
            _note(group.norms, owner, "", unit, channels, alive)
        elif isinstance(owner.module, nn.RNNBase) and side is None:
            group.obstacles[unit] = f"they are combined with the hidden units of {owner.name}"
    if unit in why or not read:
        group.obstacles.setdefault(unit, why.get(unit, UNSEEN))


def _note(members: list[Member], owner: Owner, side: str, unit: int, channels: list[int], alive: Live) -> None:
    member = next((member for member in members if member.module is owner.module), None)
    if member is None:
        members.append(member := Member(owner.name, owner.module, alive(owner.module, side)))
    found = member.channels.setdefault(unit, [])
    found += [channel for channel in channels if channel not in found]
