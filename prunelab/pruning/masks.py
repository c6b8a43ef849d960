"""Masks beside plain parameters, and the hooks that keep pruned weights at zero.

A pruned weight is zero in its parameter, so the forward pass is that of a plain network. The masks are applied where
weights change: to gradients as they accumulate, after every optimizer step, after every `load_state_dict`.
"""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from prunelab.pruning import skipping
from prunelab.pruning.mask_hooks import LoadHook, remove, step_hooks, weak

Pairs = Sequence[tuple[nn.Module, str]]


@dataclass(eq=False)
class MaskedTensor:
    """A parameter and its mask."""

    name: str  # the parameter's first name in the model, such as `conv1.weight`
    module: nn.Module  # that owns the parameter
    key: str  # the parameter's name in that module, such as `weight`
    parameter: nn.Parameter  # plain; zero where the mask is zero
    mask: Tensor  # 1 where the weight is kept, 0 where it is pruned; the parameter's shape, type and device
    active: bool = False  # whether the mask has a zero, so that there is something to enforce
    hooked: bool = False  # whether the parameter's gradient is masked as it accumulates
    owners: list[tuple[nn.Module, str]] = field(default_factory=list)  # all modules that have it, with its name there

    @property
    def kept(self) -> Tensor:
        """True where the weight is kept; bool, of the parameter's shape and on its device."""
        return self.mask.to(self.parameter.device) != 0

    def set(self, kept: Tensor) -> None:
        """Replace the mask, given what is kept (true or nonzero); the weights change with the next `apply`."""
        self.mask.copy_(kept != 0)
        self.active = not bool(self.mask.all())

    def apply(self) -> None:
        """Set the pruned weights to zero; the mask follows the parameter to another device or type."""
        if self.mask.device != self.parameter.device or self.mask.dtype != self.parameter.dtype:
            self.mask = self.mask.to(self.parameter)
        if self.active:
            self.parameter.detach().mul_(self.mask)

    @torch.no_grad()
    def mask_gradient(self, parameter: Tensor) -> None:
        """Set the gradients of the pruned weights to zero. (A sparse gradient is left to the optimizer's hook.)"""
        gradient = self.parameter.grad
        if self.active and parameter is self.parameter and gradient is not None and not gradient.is_sparse:
            gradient.detach().mul_(self.mask.to(gradient))


Saved = tuple[MaskedTensor, Tensor, Tensor]  # a masked tensor with its weight and mask at some time


class Masks:
    """The masks of one model, in the model's own order, with the hooks that enforce them.

    A parameter that several modules share has one mask. The masks are enforced until `detach`, or as long as the model
    exists. A deep copy of the model is a plain network with zeros: it carries no masks until `Masks(copy)` adds some.

    Args:
        model: its parameters stay plain `nn.Parameter`s under their own names.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._tensors: dict[int, MaskedTensor] = {}  # by the parameter's identity
        self._owners: set[nn.Module] = set()
        self._handles: list[RemovableHandle] = []
        weakref.finalize(self, remove, self._handles)
        step_hooks().enforced.add(self)

    def add(self, pairs: Pairs) -> None:
        """Give parameters, such as `(model.fc, "weight")`, masks of ones; those that have a mask keep it."""
        wanted, uses = set(pairs), dict[int, list[tuple[str, nn.Module, str]]]()
        for name, module, key, parameter in named(self.model):
            uses.setdefault(id(parameter), []).append((name, module, key))
        for place, found in uses.items():
            owners = [(module, key) for _, module, key in found]
            chosen = next((pair for pair in owners if pair in wanted), None)
            if chosen is None or place in self._tensors:
                continue
            parameter = getattr(*chosen)
            mask = torch.ones_like(parameter, memory_format=torch.contiguous_format, requires_grad=False)
            self._tensors[place] = item = MaskedTensor(found[0][0], *chosen, parameter, mask, owners=owners)
            self._hook(item)
            for owner in {owner for owner, _ in owners} - self._owners:
                self._owners.add(owner)
                self._handles.append(owner.register_load_state_dict_post_hook(LoadHook(self)))
        self._tensors = {place: self._tensors[place] for place in uses if place in self._tensors} | self._tensors

    def __iter__(self) -> Iterator[MaskedTensor]:
        return iter(list(self._tensors.values()))

    def __len__(self) -> int:
        return len(self._tensors)

    def __getitem__(self, name: str) -> MaskedTensor:
        return {item.name: item for item in self}[name]

    def __contains__(self, name: object) -> bool:
        return any(item.name == name for item in self)

    def of(self, pairs: Pairs) -> list[MaskedTensor]:
        """Return the masked tensors of these parameters, in the model's own order."""
        wanted = {id(getattr(module, key)) for module, key in pairs}
        return [item for item in self if id(item.parameter) in wanted]

    @torch.no_grad()
    def apply(self) -> None:
        """Set all pruned weights to zero, and skip the marked layers whose masks are all zero."""
        for item in self:
            self._follow(item, getattr(item.module, item.key, None))
            item.active = not bool(item.mask.all())
            item.apply()
        skipping.skip_empty(self.model, {item.name: item.mask for item in self})

    def state(self) -> dict[str, Tensor]:
        """Return the masks that are not all ones, by name; bool, on the CPU."""
        return {item.name: item.kept.cpu() for item in self if not bool(item.mask.all())}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore the masks that `state` returned; masks that it does not name become ones. Weights stay.

        Args:
            state: masks by parameter name; also of parameters without a mask so far. KeyError: no such parameter.
        """
        there = {name: (module, key) for name, module, key, _ in named(self.model)}
        self.add([there[name] for name in state.keys() - {item.name for item in self}])
        for item in self:
            found = state.get(item.name)
            item.set(torch.ones_like(item.mask) if found is None else found)

    def saved(self) -> list[Saved]:
        """Return copies of the weights and masks, for `put_back`."""
        return [(item, item.parameter.detach().clone(), item.mask.clone()) for item in self]

    @torch.no_grad()
    def put_back(self, saved: Sequence[Saved]) -> None:
        """Restore weights and masks; layers whose masks were all zero are skipped again with the next `apply`."""
        for item, weight, mask in saved:
            item.parameter.copy_(weight)
            item.set(mask)

    def counts(self) -> tuple[int, int]:
        """Return the number of weights that the masks keep, and of all masked weights."""
        return sum(int(torch.count_nonzero(item.mask)) for item in self), sum(item.mask.numel() for item in self)

    def sparsity(self) -> float:
        """Return zeros ÷ all weights, over the masked tensors; 0 without any."""
        size = sum(item.mask.numel() for item in self)
        return (size - sum(int(torch.count_nonzero(item.parameter)) for item in self)) / size if size else 0.0

    def lost(self) -> list[str]:
        """Return the names of tensors in which a pruned weight is not zero, because something has overwritten it."""
        return [item.name for item in self if bool(item.parameter.detach()[~item.kept].any())]

    def detach(self) -> None:
        """Remove all masks and hooks; the zeros stay in the parameters."""
        remove(self._handles)
        step_hooks().enforced.discard(self)
        self._tensors.clear()
        self._owners.clear()

    @torch.no_grad()
    def after_load(self, module: nn.Module) -> None:
        """Apply the masks of a module that has loaded a state dict, which may have replaced its parameters."""
        for item, key in [(found, key) for found in self for owner, key in found.owners if owner is module]:
            self._follow(item, getattr(module, key))  # of load_state_dict(assign=True)
            item.apply()

    @torch.no_grad()
    def after_step(self, optimizer: Optimizer) -> None:
        """Apply the masks of the parameters that an optimizer has stepped."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                item = self._tensors.get(id(parameter))
                if item is not None:
                    item.apply()
                    self._hook(item)  # of a parameter that was frozen at first

    def _hook(self, item: MaskedTensor) -> None:
        if item.parameter.requires_grad and not item.hooked:
            self._handles.append(item.parameter.register_post_accumulate_grad_hook(weak(item.mask_gradient)))
            item.hooked = True

    def _follow(self, item: MaskedTensor, parameter: object) -> None:
        """Move an item's mask to a parameter that replaced its own, in all modules that shared the old one."""
        if parameter is item.parameter or not isinstance(parameter, nn.Parameter):
            return
        item.parameter, item.hooked = parameter, False
        self._tensors = {id(other.parameter): other for other in self}
        for owner, key in item.owners:
            setattr(owner, key, parameter)
        self._hook(item)


def enforced(model: nn.Module) -> dict[str, Tensor]:
    """Return the masks with zeros that are enforced on a model's parameters, by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    there = [masks for masks in list(step_hooks().enforced) if masks.model is model]
    return {names[id(item.parameter)]: item.mask for masks in there for item in masks if item.active}


def named(model: nn.Module) -> list[tuple[str, nn.Module, str, nn.Parameter]]:
    """Return (name, module, key, parameter) of every parameter, a shared one under each of its names."""
    return [
        (f"{prefix}.{key}".lstrip("."), module, key, parameter)
        for prefix, module in model.named_modules(remove_duplicate=False)
        for key, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
    ]
