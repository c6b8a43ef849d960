"""The hooks of masks and criteria: around optimizer steps, and after `load_state_dict`."""

import functools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle


class StepHooks:
    """The hooks of this process around optimizer steps.

    One pair serves all masks and criteria and is not removed with them: torch fails ("mutated during iteration") if the
    garbage collector removes a hook while an optimizer calls the others.

    Attributes:
        recording: the criteria that record gradients; their `before_step(optimizer)` is called before each step.
        enforced: the `Masks` that are enforced; their `after_step(optimizer)` is called after each step.
    """

    def __init__(self) -> None:
        self.recording, self.enforced = weakref.WeakSet[Any](), weakref.WeakSet[Any]()
        before, after = self._before, self._after
        self.handles = [register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)]

    def _before(self, optimizer: Optimizer, *_: Any) -> None:
        for criterion in list(self.recording):
            criterion.before_step(optimizer)

    def _after(self, optimizer: Optimizer, *_: Any) -> None:
        for masks in list(self.enforced):
            masks.after_step(optimizer)


@functools.cache
def step_hooks() -> StepHooks:
    """Return the hooks of this process; register them at the first call."""
    return StepHooks()


@contextmanager
def step_hooks_removed() -> Iterator[None]:
    """Remove the hooks around optimizer steps at the end of the context, if they were registered in it."""
    there = step_hooks.cache_info().currsize
    try:
        yield
    finally:
        if not there and step_hooks.cache_info().currsize:
            remove(step_hooks().handles)
            step_hooks.cache_clear()


class LoadHook:
    """Hook that applies a model's `Masks` after `load_state_dict` and keeps them alive. A copy of it does nothing."""

    def __init__(self, masks: Any = None) -> None:
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
