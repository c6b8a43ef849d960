"""The weights of layers by the channels that they read and write, and cutting channels out of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunelab.costs.counts import CONVS, TRANSPOSED

LAYERS = (*CONVS, *TRANSPOSED, nn.Linear)
GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}  # by the mode of nn.RNNBase: rows of each unit
INTO = ("weight_ih_l0", "weight_ih_l0_reverse")  # the weights of an nn.RNNBase that read its input
READS, WRITES = "reads", "writes"
Key = tuple[str, int]  # a tensor's name in the model and one of its dimensions
Rounding = tuple[int, int]  # the multiple that stays of a convolution's channels, and of other layers'


@dataclass(frozen=True)
class Owner:
    """A module that holds a tensor, and the tensor's name in it."""

    name: str
    module: nn.Module
    tensor: str

    def side(self, dim: int) -> str | None:
        """Return whether a dimension of the tensor belongs to the channels that the module reads, or writes."""
        if isinstance(self.module, LAYERS) and self.tensor == "weight":
            return READS if dim == isinstance(self.module, (*CONVS, nn.Linear)) else WRITES
        if isinstance(self.module, nn.Embedding) and dim == 1:
            return WRITES
        return READS if isinstance(self.module, nn.RNNBase) and self.tensor in INTO and dim == 1 else None


def owners(model: nn.Module) -> dict[str, list[Owner]]:
    """Return all modules that hold a tensor, by the tensor's first name in the model."""
    first: dict[int, str] = {}
    found: dict[str, list[Owner]] = {}
    for path, module in model.named_modules():
        held = [*module.named_parameters(path, recurse=False), *module.named_buffers(path, recurse=False)]
        for name, tensor in held:
            owner = Owner(path, module, name.rpartition(".")[2])
            found.setdefault(first.setdefault(id(tensor), name), []).append(owner)
    return found


def groups(module: nn.Module) -> int:
    """Return the number of groups of a convolution; 1 for other layers."""
    return int(module.groups) if isinstance(module, (*CONVS, *TRANSPOSED)) else 1  # type: ignore[arg-type]


def multiple(module: nn.Module, round_to: Rounding) -> int:
    """Return the multiple of channels that a layer should keep."""
    return round_to[0] if isinstance(module, (*CONVS, *TRANSPOSED)) else round_to[1]


def is_depthwise(module: nn.Module) -> bool:
    """Return whether each channel that a convolution reads is a group."""
    return isinstance(module, CONVS) and 1 < module.groups == module.in_channels


def blocks(module: nn.Module) -> Tensor:
    """Return the weights as [groups, out ÷ groups, in ÷ groups, kernel]; a view, but of recurrent layers."""
    if isinstance(module, nn.RNNBase):
        return torch.cat([weight for name, weight in module.named_parameters() if name in INTO])[None, ..., None]
    weight = module.weight
    assert isinstance(weight, Tensor)
    if isinstance(module, nn.Embedding):
        return weight.t()[None, ..., None]
    count = groups(module)
    split = weight.unflatten(0, (count, -1)).flatten(3) if weight.dim() > 2 else weight[None, ..., None]
    return split.transpose(1, 2) if isinstance(module, TRANSPOSED) else split


def live(module: nn.Module, side: str) -> list[bool]:
    """Return for each channel that a layer reads, or writes, or else scales, whether a weight of it is not zero."""
    if side not in (READS, WRITES):
        return list((module.weight != 0).tolist())  # type: ignore[operator, union-attr]
    alive = blocks(module).detach() != 0
    return list(alive.any(3).any(1 if side == READS else 2).flatten().tolist())


def column(module: nn.Module, channel: int) -> Tensor:
    """Return the weights that read a channel, a view: [out ÷ groups, kernel]."""
    whole = blocks(module).detach()
    return whole[channel // whole.shape[2], :, channel % whole.shape[2]]


def clear(module: nn.Module, channel: int) -> None:
    """Make a layer write zeros on a channel, in place."""
    whole, bias = blocks(module).detach(), getattr(module, "bias", None)
    whole[channel // whole.shape[1], channel % whole.shape[1]] = 0
    if isinstance(bias, Tensor):
        bias.detach()[channel] = 0


def add_to_bias(module: nn.Module, channel: int, value: float) -> None:
    """Add what a constant on a channel contributes to a layer's output to the bias of the layer."""
    whole, bias = blocks(module).detach(), module.bias
    share = whole.new_zeros(whole.shape[:2])
    share[channel // whole.shape[2]] = column(module, channel).sum(1) * value
    module.bias = nn.Parameter(share.flatten() + bias if isinstance(bias, Tensor) else share.flatten())


@torch.no_grad()
def cut(model: nn.Module, goes: Mapping[Key, list[int]]) -> None:
    """Cut indices out of tensors, in place.

    Args:
        goes: the indices, by the name of a tensor and its dimension. The bias of a layer loses what its weight loses,
            also where it is not named: `add_to_bias` may have made it after the network was traced.
    """
    held = owners(model)
    goes = _biases(held, goes) | dict(goes)
    dims: dict[str, dict[int, set[int]]] = {}
    for (name, dim), indices in goes.items():
        dims.setdefault(name, {}).setdefault(dim, set()).update(indices)
    for name, sides in dims.items():
        if name not in held:  # the size of a module without tensors
            path, _, size = name.rpartition(".")
            module = model.get_submodule(path)
            _resize(module, getattr(module, size) - len(sides[0]))
            continue
        owner = held[name][0]
        old = getattr(owner.module, owner.tensor)
        new = _left(owner, old, sides).contiguous()
        new = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
        for other in held[name]:
            setattr(other.module, other.tensor, new)
    for module in {id(o.module): o.module for name in dims for o in held.get(name, ())}.values():
        _fit(module)


def _biases(held: Mapping[str, list[Owner]], goes: Mapping[Key, list[int]]) -> dict[Key, list[int]]:
    """Return what the biases of layers lose with the channels that their weights write."""
    found = {}
    for (name, dim), indices in goes.items():
        owner = held[name][0] if name in held else None
        if owner and owner.side(dim) == WRITES and isinstance(getattr(owner.module, "bias", None), Tensor):
            found[f"{name.removesuffix('weight')}bias", 0] = indices
    return found


def _left(owner: Owner, old: Tensor, sides: Mapping[int, set[int]]) -> Tensor:
    if owner.tensor == "weight" and groups(owner.module) > 1:
        return _left_of_groups(owner.module, sides)
    for dim, gone in sides.items():
        stays = [index for index in range(old.shape[dim]) if index not in gone]
        old = old.index_select(dim, torch.tensor(stays, device=old.device))
    return old


def _left_of_groups(module: nn.Module, sides: Mapping[int, set[int]]) -> Tensor:
    """Cut a convolution in groups: groups without channels go, and the others lose equally many."""
    whole = blocks(module)
    count, out, inner, _ = whole.shape
    weight = module.weight
    assert isinstance(weight, Tensor)
    swapped = isinstance(module, TRANSPOSED)
    gone_in, gone_out = sides.get(int(not swapped), set()), sides.get(int(swapped), set())
    left = []
    for group in range(count):
        rows = [i for i in range(out) if group * out + i not in gone_out]
        columns = [i for i in range(inner) if group * inner + i not in gone_in]
        if rows or columns:
            left.append(whole[group][rows][:, columns])
    stacked = torch.stack(left)
    module.groups = len(left)  # type: ignore[assignment]
    stacked = stacked.transpose(1, 2) if swapped else stacked
    return stacked.flatten(0, 1).unflatten(-1, weight.shape[2:])


def _resize(module: nn.Module, width: int) -> None:
    if isinstance(module, nn.GroupNorm):
        module.num_groups = width * module.num_groups // module.num_channels
        module.num_channels = width
    else:
        module.num_features = width  # type: ignore[assignment]


def _fit(module: nn.Module) -> None:
    """Set the sizes that a module keeps beside its tensors."""
    if isinstance(module, nn.RNNBase):
        module.hidden_size = module.get_parameter("weight_hh_l0").shape[0] // GATES[module.mode]
        module.input_size = module.get_parameter("weight_ih_l0").shape[1]
    elif isinstance(module, LAYERS):
        count, out, inner, _ = blocks(module).shape
        sizes = ("out_features", "in_features") if isinstance(module, nn.Linear) else ("out_channels", "in_channels")
        for size, per_group in zip(sizes, (out, inner), strict=True):
            setattr(module, size, count * per_group)
    elif isinstance(module, nn.Embedding):
        module.embedding_dim = module.weight.shape[1]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = module.weight.numel()
    elif hasattr(module, "num_features") or isinstance(module, nn.GroupNorm):
        vector = next(x for x in [*module.parameters(), *module.buffers()] if x.dim() == 1)
        _resize(module, len(vector))
