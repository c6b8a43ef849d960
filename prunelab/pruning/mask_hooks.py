"""The hooks through which masks are enforced: after optimizer steps and after `load_state_dict`."""

import functools
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle


class Enforced(Protocol):
    """Masks that are to be applied where weights change."""

    def after_step(self, optimizer: Optimizer) -> None:
        """Apply the masks of the parameters that an optimizer has stepped."""

    def after_load(self, module: nn.Module) -> None:
        """Apply the masks of a module that has loaded a state dict."""


@functools.cache
def enforced_after_steps() -> "weakref.WeakSet[Enforced]":
    """Return the masks of this process that are enforced after optimizer steps.

    One hook serves all of them and is never removed: torch fails ("mutated during iteration") if the garbage collector
    removes a hook while an optimizer calls the others.
    """
    enforced = weakref.WeakSet[Enforced]()

    def after_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for masks in list(enforced):
            masks.after_step(optimizer)

    register_optimizer_step_post_hook(after_step)
    return enforced


class LoadHook:
    """Hook that applies the masks after `load_state_dict` and keeps them alive. A copy of it does nothing."""

    def __init__(self, masks: Enforced | None = None) -> None:
        self.masks = masks

    def __call__(self, module: nn.Module, keys: Any) -> None:
        """Apply the masks of the module, if there are any."""
        if self.masks is not None:
            self.masks.after_load(module)

    def __reduce__(self) -> tuple[Any, ...]:
        return LoadHook, ()


def weak(method: Callable[..., None]) -> Callable[..., None]:
    """Return a function that calls a method as long as its object exists."""
    reference = weakref.WeakMethod(method)

    def call(*args: Any) -> None:
        found = reference()
        if found is not None:
            found(*args)

    return call


def remove(handles: list[RemovableHandle]) -> None:
    """Remove hooks."""
    for handle in handles:
        handle.remove()
    handles.clear()
