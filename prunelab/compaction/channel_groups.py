"""Groups of channels that can only be cut together, from torch-pruning's dependency graph, and cutting them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.compaction.constant_layer import NORMS
from prunelab.costs.counts import CONVS, TRANSPOSED
from prunelab.errors import ConfigError

LAYERS = (*CONVS, *TRANSPOSED, nn.Linear)
PER_CHANNEL = (*NORMS, nn.PReLU, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
MIXES = {"LayerNorm": "normalizes over all channels", "GroupNorm": "normalizes over groups of channels"}


@dataclass
class Member:
    """A layer in a group, and its channels that belong to each unit: unit → channels."""

    name: str
    module: nn.Module
    channels: dict[int, list[int]] = field(default_factory=dict)


@dataclass
class Group:
    """Layers that share channels. A unit is one channel of `root`, with the channels of other layers coupled to it.

    Attributes:
        root: the name of one of the producers.
        units: channels of `root`.
        producers: layers that write the channels, depthwise convolutions included.
        consumers: layers that read the channels and sum over them.
        norms: layers that scale and shift each channel.
        obstacle: why no unit can be cut; None: units can be cut.
    """

    root: str
    units: list[int]
    producers: list[Member]
    consumers: list[Member]
    norms: list[Member] = field(default_factory=list)
    obstacle: str | None = None


def need_torch_pruning() -> None:
    """Raise ConfigError if torch-pruning is not installed."""
    try:
        import torch_pruning  # noqa: F401
    except ImportError as error:
        raise ConfigError("compact=true: needs torch-pruning; pip install 'prunelab[compact]'") from error


def graph(model: nn.Module, example: Tensor) -> Any:
    """Return torch-pruning's dependency graph of a model in eval mode.

    Source: Fang et al. 2023, "DepGraph: towards any structural pruning", arXiv 2301.12900.
    """
    import torch_pruning  # an optional package

    for parameter in model.parameters():
        parameter.requires_grad_(True)  # torch-pruning traces the autograd graph
    with torch.enable_grad():
        return torch_pruning.DependencyGraph().build_dependency(model, example, verbose=False)


def groups(model: nn.Module, example: Tensor) -> list[Group]:
    """Return all groups of channels that Conv and Linear layers write; each channel is in exactly one group."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about operations that it cannot follow: every cut is checked
        return list(_groups(model, graph(model, example)))


def _groups(model: nn.Module, dependencies: Any) -> Iterator[Group]:
    names: dict[Any, str] = {module: name for name, module in model.named_modules()}
    seen: set[tuple[str, int]] = set()
    for name, module in model.named_modules():
        if not isinstance(module, LAYERS) or is_depthwise(module) or module not in dependencies.module2node:
            continue
        units = [unit for unit in range(width(module)) if (name, unit) not in seen]
        if units:
            group = _group(_coupled(dependencies, module, units), name, units, names)
            for member in group.producers:
                seen |= {(member.name, channel) for found in member.channels.values() for channel in found}
            yield group


def _coupled(dependencies: Any, module: nn.Module, units: list[int]) -> Any:
    prune = dependencies.get_pruner_of_module(module).prune_out_channels
    return dependencies.get_pruning_group(module, prune, units)


def _group(coupled: Any, root: str, units: list[int], names: dict[Any, str]) -> Group:
    order = {name: place for place, name in enumerate(names.values())}  # torch-pruning's order differs from run to run
    group = Group(root, units, [], [])
    obstacles: dict[str, str] = {}
    for item in coupled:
        module, name = item.dep.target.module, names.get(item.dep.target.module)
        if any(unit is None for unit in item.root_idxs):
            obstacles[root] = "attention heads share them in a way that torch-pruning does not follow"
        if name is None or isinstance(module, PER_CHANNEL):
            if name is not None and isinstance(module, NORMS):
                _note(group.norms, name, module, item)
            continue  # a sum, a ReLU, a reshape, a free parameter
        why = _obstacle(module, name)
        obstacles |= {name: why} if why else {}
        if isinstance(module, LAYERS):
            reads = item.dep.handler.__name__.endswith("prune_in_channels") and not is_depthwise(module)
            if max(item.idxs) >= (module.weight.shape[reading_dim(module)] if reads else width(module)):
                obstacles.setdefault(name, f"it is not clear which of them {name} reads")
                continue
            _note(group.consumers if reads else group.producers, name, module, item)
    group.producers.sort(key=lambda member: order[member.name])
    group.consumers.sort(key=lambda member: order[member.name])
    if not group.consumers and not obstacles:
        obstacles[root] = "they are the network's output, or no layer reads them"
    group.obstacle = obstacles[min(obstacles, key=order.__getitem__)] if obstacles else None
    return group


def _note(side: list[Member], name: str, module: nn.Module, item: Any) -> None:
    member = next((member for member in side if member.name == name), None)
    if member is None:
        side.append(member := Member(name, module))
    for unit, channel in zip(item.root_idxs, item.idxs, strict=True):
        member.channels.setdefault(unit, []).append(channel)


def _obstacle(module: nn.Module, name: str) -> str | None:
    """Why a group cannot be cut if the layer belongs to it; None: it can."""
    if not isinstance(module, LAYERS):
        kind = type(module).__name__
        return f"{name} ({kind}) {MIXES.get(kind, 'uses them in an unknown way')}"
    if isinstance(module, nn.Linear) or is_depthwise(module) or module.groups == 1:
        return None
    return f"{name} is a convolution in {module.groups} groups"


def is_depthwise(module: nn.Module) -> bool:
    """Return whether each channel is convolved separately: the weight is [channels, 1, …]."""
    return isinstance(module, CONVS) and 1 < module.groups == module.in_channels == module.out_channels


def width(module: nn.Module) -> int:
    """Return how many channels a layer writes."""
    count = module.out_features if isinstance(module, nn.Linear) else module.out_channels
    assert isinstance(count, int)
    return count


def reading_dim(module: nn.Module) -> int:
    """Return the dimension of a layer's weight that belongs to the channels that it reads."""
    return 0 if isinstance(module, TRANSPOSED) else 1


def rows(module: nn.Module, channels: list[int]) -> Tensor:
    """Return the weights that write some channels, [channels, …]."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.transpose(0, 1 - reading_dim(module))[channels]


def columns(module: nn.Module, channels: list[int]) -> Tensor:
    """Return the weights that read some channels, [channels, out, …]."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.transpose(0, reading_dim(module))[channels]


def cut(model: nn.Module, example: Tensor, root: str, units: list[int]) -> None:
    """Remove units, with all channels that are coupled to them, in place."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _coupled(graph(model, example), model.get_submodule(root), units).prune()


def clear(member: Member, unit: int) -> None:
    """Make a layer write zeros on its channels of a unit, in place."""
    channels = member.channels.get(unit, [])
    weight, bias = member.module.weight, member.module.bias
    assert isinstance(weight, Tensor)
    with torch.no_grad():
        weight.transpose(0, 1 - reading_dim(member.module))[channels] = 0
        if isinstance(bias, Tensor):
            bias[channels] = 0
