"""Layers that are left out of the forward pass.

A layer that is marked, and whose masks are all zero, is skipped: it returns its input. So the masks alone say which
layers are removed, and a network without some of its layers is stored, resumed and rewound like any other.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

MARK = "_prunelab_may_be_skipped"


class Skipped(nn.Module):
    """Mixed into the class of a layer while it is skipped."""

    def __call__(self, x: Tensor, *args: Any, **keywords: Any) -> Tensor:
        """Return `x`; neither the layer nor its hooks are called."""
        return x

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Copy and pickle under the class that the layer has when it runs, which can be imported by name."""
        return _skipped_again, (type(self).__bases__[1],), self.__dict__


class Absent(nn.Identity):
    """The replacement of a layer that compaction has removed; takes the same arguments."""

    def forward(self, input: Tensor, *args: Any, **keywords: Any) -> Tensor:
        """Return the first argument."""
        return input


def _skipped_again(kind: type[nn.Module]) -> nn.Module:
    module = kind.__new__(kind)
    set_skipped(module, True)
    return module


def mark(model: nn.Module, names: Iterable[str]) -> None:
    """Mark layers that keep their input's shape as ones that may be skipped."""
    for name in names:
        setattr(model.get_submodule(name), MARK, True)


def marked(model: nn.Module) -> dict[str, nn.Module]:
    """Return the marked layers, by name, in the model's own order."""
    return {name: module for name, module in model.named_modules() if getattr(module, MARK, False)}


def skipped(model: nn.Module) -> list[str]:
    """Return the names of the skipped layers, in the model's own order."""
    return [name for name, module in model.named_modules() if isinstance(module, Skipped)]


def set_skipped(module: nn.Module, skip: bool) -> None:
    """Skip a layer from now on, or run it again. Its parameters and their names stay."""
    kind = type(module)
    if skip and not isinstance(module, Skipped):
        module.__class__ = type(f"{kind.__name__}Skipped", (Skipped, kind), {})
    elif not skip and isinstance(module, Skipped):
        module.__class__ = kind.__bases__[1]


def skip_empty(model: nn.Module, kept: Mapping[str, Tensor]) -> None:
    """Skip the marked layers whose masks, by the names of their parameters, are all zero; run those with others."""
    for name, module in marked(model).items():
        inside = [mask for tensor, mask in kept.items() if tensor.startswith(f"{name}.")]
        if inside:
            set_skipped(module, not any(bool(mask.any()) for mask in inside))


@contextmanager
def all_run(model: nn.Module) -> Iterator[None]:
    """Run every layer inside the context, to count what the dense network does."""
    names = skipped(model)
    try:
        for name in names:
            set_skipped(model.get_submodule(name), False)
        yield
    finally:
        for name in names:
            set_skipped(model.get_submodule(name), True)
