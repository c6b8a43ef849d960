"""Layers that are left out: marked as ones that may be, skipped, and run again.

A layer that is marked is skipped where its masks let nothing through: what it is given is handed on. So the masks alone
say which layers are gone, and a network without some of its layers is stored, resumed and rewound like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

Layers = dict[str, nn.Module]
MARK = "_prunelab_may_be_skipped"


class Skipped(nn.Module):
    """Mixed into the class of a layer while it is skipped."""

    def __call__(self, x: Tensor, *args: Any, **keywords: Any) -> Tensor:
        """Hands `x` on; neither the layer nor its hooks are called."""
        return x

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Copies and pickles by the class that it has when it runs, which has a name to be found by."""
        return _skipped_again, (type(self).__bases__[1],), self.__dict__


class Absent(nn.Identity):
    """What stands where a layer was, once it is removed for real; takes what the layer took."""

    def forward(self, input: Tensor, *args: Any, **keywords: Any) -> Tensor:
        """Hands it on."""
        return input


def _skipped_again(kind: type[nn.Module]) -> nn.Module:
    module = kind.__new__(kind)
    set_skipped(module, True)
    return module


def mark(model: nn.Module, names: Iterable[str]) -> None:
    """Marks layers that keep their input's shape as ones that may be skipped."""
    for name in names:
        setattr(model.get_submodule(name), MARK, True)


def marked(model: nn.Module) -> Layers:
    """The marked layers, by name, in the model's own order."""
    return {name: module for name, module in model.named_modules() if getattr(module, MARK, False)}


def skipped(model: nn.Module) -> list[str]:
    """The names of the layers that are skipped, in the model's own order."""
    return [name for name, module in model.named_modules() if isinstance(module, Skipped)]


def set_skipped(module: nn.Module, skip: bool) -> None:
    """Skips a layer from now on, or runs it again. Its parameters and their names stay."""
    kind = type(module)
    if skip and not isinstance(module, Skipped):
        module.__class__ = type(f"{kind.__name__}Skipped", (Skipped, kind), {})
    elif not skip and isinstance(module, Skipped):
        module.__class__ = kind.__bases__[1]


@contextmanager
def without(module: nn.Module) -> Iterator[None]:
    """The network without one layer, for a while."""
    set_skipped(module, True)
    try:
        yield
    finally:
        set_skipped(module, False)


def skip_empty(model: nn.Module, kept: Mapping[str, Tensor]) -> None:
    """Skips the marked layers whose masks let nothing through, and runs the others.

    Args:
        kept: masks by the dense model's own names. Layers without any stay as they are.
    """
    for name, module in marked(model).items():
        inside = [mask for tensor, mask in kept.items() if tensor.startswith(f"{name}.")]
        if inside:
            set_skipped(module, not any(bool(mask.any()) for mask in inside))


@contextmanager
def all_run(model: nn.Module) -> Iterator[None]:
    """Every layer is run for a while, to count what the dense network does."""
    names = skipped(model)
    try:
        for name in names:
            set_skipped(model.get_submodule(name), False)
        yield
    finally:
        for name in names:
            set_skipped(model.get_submodule(name), True)
