"""Masks beside plain parameters, and the hooks that keep pruned weights at zero.

A pruned weight is zero in its parameter, so the forward pass is that of a plain network. Weights change in three places,
and there the masks are applied: gradients as they accumulate, every optimizer step, every `load_state_dict`.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from prunelab.pruning import skipping

Pairs = Sequence[tuple[nn.Module, str]]


@dataclass(eq=False)
class MaskedTensor:
    """A parameter and its mask.

    Attributes:
        name: the parameter's first name in the model, such as `conv1.weight`.
        module: the module that owns it.
        key: its name in that module, such as `weight`.
        parameter: the plain parameter; zero where the mask is zero.
        mask: 1 where the weight is kept, 0 where it is pruned; the parameter's shape, type and device.
        active: whether the mask has a zero, so that there is something to enforce.
    """

    name: str
    module: nn.Module
    key: str
    parameter: nn.Parameter
    mask: Tensor
    active: bool = False

    @property
    def kept(self) -> Tensor:
        """True where the weight is kept; bool, of the parameter's shape."""
        return self.mask != 0

    def set(self, kept: Tensor) -> None:
        """Take another mask; the weights stay until `apply`.

        Args:
            kept: true or nonzero where a weight is kept; of the parameter's shape.
        """
        self.mask.copy_(kept != 0)
        self.active = not bool(self.mask.all())

    def apply(self) -> None:
        """Set the pruned weights to zero."""
        if not self.active:
            return
        if self.mask.device != self.parameter.device or self.mask.dtype != self.parameter.dtype:
            self.mask = self.mask.to(self.parameter)
        self.parameter.detach().mul_(self.mask)

    def mask_gradient(self) -> None:
        """Set the gradients of the pruned weights to zero. (A sparse gradient is left to the optimizer's hook.)"""
        gradient = self.parameter.grad
        if self.active and gradient is not None and not gradient.is_sparse:
            gradient.detach().mul_(self.mask.to(gradient))


class Masks:
    """The masks of one model, in the model's own order, with the hooks that enforce them.

    A parameter that several modules share has one mask. A deep copy of the model is a plain network with zeros: it
    carries no masks until `Masks(copy)` gives it some.

    Args:
        model: its parameters stay plain `nn.Parameter`s under their own names.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._tensors: dict[int, MaskedTensor] = {}  # by the parameter's identity
        self._owners: set[nn.Module] = set()
        this = weakref.ref(self)

        def after_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            masks = this()
            if masks is not None:
                masks._apply_to(optimizer)

        self._handles: list[RemovableHandle] = [register_optimizer_step_post_hook(after_step)]
        weakref.finalize(self, _remove, self._handles)

    def add(self, pairs: Pairs) -> None:
        """Give parameters masks of ones; one that has a mask keeps it.

        Args:
            pairs: modules and the names of their parameters: `(model.fc, "weight")`.
        """
        wanted = {(module, key) for module, key in pairs}
        for name, module, key, parameter in named(self.model):
            if (module, key) not in wanted or id(parameter) in self._tensors:
                continue
            mask = torch.ones_like(parameter, memory_format=torch.contiguous_format, requires_grad=False)
            item = MaskedTensor(first_name(self.model, parameter, name), module, key, parameter, mask)
            self._tensors[id(parameter)] = item
            if parameter.requires_grad:
                self._handles.append(parameter.register_post_accumulate_grad_hook(_GradientHook(item)))
            if module not in self._owners:
                self._owners.add(module)
                self._handles.append(module.register_load_state_dict_post_hook(_LoadHook(self)))
        order = {id(parameter): place for place, (_, _, _, parameter) in reversed(list(enumerate(named(self.model))))}
        self._tensors = dict(sorted(self._tensors.items(), key=lambda item: order.get(item[0], len(order))))

    def __iter__(self) -> Iterator[MaskedTensor]:
        return iter(list(self._tensors.values()))

    def __len__(self) -> int:
        return len(self._tensors)

    def __getitem__(self, name: str) -> MaskedTensor:
        return next(item for item in self if item.name == name)

    def __contains__(self, name: object) -> bool:
        return any(item.name == name for item in self)

    def of(self, pairs: Pairs) -> list[MaskedTensor]:
        """The masked tensors of these parameters, in the model's own order."""
        wanted = {id(getattr(module, key)) for module, key in pairs}
        return [item for item in self if id(item.parameter) in wanted]

    @torch.no_grad()
    def apply(self) -> None:
        """Set all pruned weights to zero, and leave out the marked layers whose masks are all zero."""
        for item in self:
            item.active = not bool(item.mask.all())
            item.apply()
        skipping.skip_empty(self.model, {item.name: item.mask for item in self})

    def state(self) -> dict[str, Tensor]:
        """The masks that are not all ones, by name; bool, on the CPU."""
        return {item.name: item.kept.cpu() for item in self if not bool(item.mask.all())}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over the masks of `state`; a tensor that it does not name gets a mask of ones. Weights stay.

        A mask whose tensor has none yet is added.
        """
        missing = state.keys() - {item.name for item in self}
        self.add([(module, key) for name, module, key, _ in named(self.model) if name in missing])
        for item in self:
            found = state.get(item.name)
            item.set(torch.ones_like(item.mask) if found is None else found)

    def counts(self) -> tuple[int, int]:
        """How many weights the masks keep, and how many there are."""
        items = list(self)
        return sum(int(torch.count_nonzero(item.mask)) for item in items), sum(item.mask.numel() for item in items)

    def sparsity(self) -> float:
        """Zeros ÷ all weights, over the masked tensors; 0 without any."""
        items = list(self)
        size = sum(item.mask.numel() for item in items)
        return 1 - sum(int(torch.count_nonzero(item.parameter)) for item in items) / size if size else 0.0

    def lost(self) -> list[str]:
        """Names of tensors with pruned weights that are not zero: something has overwritten them."""
        return [item.name for item in self if bool((item.parameter.detach() * (1 - item.mask)).any())]

    def detach(self) -> None:
        """Remove all masks and hooks; the zeros stay in the parameters."""
        _remove(self._handles)
        self._tensors.clear()
        self._owners.clear()

    @torch.no_grad()
    def _apply_to(self, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                item = self._tensors.get(id(parameter))
                if item is not None:
                    item.apply()

    @torch.no_grad()
    def after_load(self, module: nn.Module) -> None:
        """Apply the masks of a module that has loaded a state dict; follow parameters that it has replaced."""
        if module not in self._owners:
            return  # a copy of the model
        for old, item in list(self._tensors.items()):
            if item.module is not module:
                continue
            parameter = getattr(module, item.key)
            if parameter is not item.parameter:  # load_state_dict(assign=True)
                del self._tensors[old]
                item.parameter = parameter
                self._tensors[id(parameter)] = item
                if parameter.requires_grad:
                    self._handles.append(parameter.register_post_accumulate_grad_hook(_GradientHook(item)))
            item.apply()


class _GradientHook:
    """Masks the gradient of one parameter after each accumulation."""

    def __init__(self, item: MaskedTensor) -> None:
        self.item = item

    @torch.no_grad()
    def __call__(self, parameter: Tensor) -> None:
        if parameter is self.item.parameter:
            self.item.mask_gradient()


class _LoadHook:
    """Applies the masks after `load_state_dict`. Copies and pickles of the module carry an empty one."""

    def __init__(self, masks: Masks | None = None) -> None:
        self.masks = None if masks is None else weakref.ref(masks)

    def __call__(self, module: nn.Module, keys: Any) -> None:
        masks = self.masks() if self.masks is not None else None
        if masks is not None:
            masks.after_load(module)

    def __reduce__(self) -> tuple[Any, ...]:
        return _LoadHook, ()


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()
    handles.clear()


def named(model: nn.Module) -> list[tuple[str, nn.Module, str, nn.Parameter]]:
    """(name, module, key, parameter) of every parameter, a shared one under each of its names."""
    return [
        (f"{prefix}.{key}".lstrip("."), module, key, parameter)
        for prefix, module in model.named_modules(remove_duplicate=False)
        for key, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
    ]


def first_name(model: nn.Module, parameter: nn.Parameter, otherwise: str) -> str:
    """The first of a parameter's names in the model."""
    return next((name for name, found in model.named_parameters() if found is parameter), otherwise)


def last_units(masks: Masks, before: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Tensors whose masks came down to one weight or one whole channel.

    Args:
        before: the masks before the pruning, by name; one that is not named was all ones.

    Yields:
        The tensor's name and `weight` or `channel`.
    """
    for item in masks:
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
