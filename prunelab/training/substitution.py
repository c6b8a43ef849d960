"""Run a model with other tensors in the place of some parameters."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def substituted(model: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Replace parameters of a model while the context is open; gradients flow through the replacements.

    `torch.func.functional_call` does not work for recurrent layers, which keep a list of their weights that only their
    `__setattr__` updates.

    Args:
        model: every module that owns a replaced parameter sees the replacement, also where a parameter is shared.
        tensors: replacements by the names that `model.named_parameters()` gives, with the parameters' shapes.
    """
    if not tensors:
        yield
        return
    parameters = dict(model.named_parameters(remove_duplicate=False))
    replaced = {parameters[name]: tensor for name, tensor in tensors.items()}
    own = {module: dict(module.named_parameters(recurse=False, remove_duplicate=False)) for module in model.modules()}
    touched = {module: found for module, found in own.items() if not replaced.keys().isdisjoint(found.values())}
    try:
        for module, found in touched.items():
            for key, parameter in found.items():
                if parameter in replaced:
                    delattr(module, key)
                    setattr(module, key, replaced[parameter])
        yield
    finally:
        for module, found in touched.items():
            for key, parameter in found.items():  # all of them, so that their order stays
                if hasattr(module, key):
                    delattr(module, key)
                setattr(module, key, parameter)
