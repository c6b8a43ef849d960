"""The forward pass in training: in a precision, and with other tensors in the place of some parameters."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from prunelab.errors import ConfigError
from prunelab.runtime.recurrent import SCATTERED
from prunelab.training.callbacks.base import Callback


def forward(model: Callable[[Tensor], Tensor], inputs: Tensor, precision: str | None = None) -> Tensor:
    """Return a network's output for a batch.

    Args:
        precision: `bf16`: autocast computes matrix products and convolutions in bfloat16, and the output is float32;
            else as torch is set. `tf32` is a setting of the process, see `device.prepare`.
    """
    if precision != "bf16":
        return model(inputs)
    with torch.autocast(inputs.device.type, torch.bfloat16):
        output = model(inputs)
    return output.float()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warning that cuDNN has to gather the weights, which is so for any replacement."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", SCATTERED)
        yield


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
        with _quiet() if any(isinstance(module, nn.RNNBase) for module in touched) else nullcontext():
            yield
    finally:
        for module, found in touched.items():
            for key, parameter in found.items():  # all of them, so that their order stays
                if hasattr(module, key):
                    delattr(module, key)
                setattr(module, key, parameter)


def substitutes(model: nn.Module, callbacks: Sequence[Callback]) -> dict[str, Tensor]:
    """Return the tensors that callbacks put in the place of parameters; ConfigError if one does not fit."""
    found = dict[str, Tensor]()
    for callback in callbacks:
        for name, tensor in callback.substitutes().items():
            try:
                fits = model.get_parameter(name).shape == tensor.shape
            except AttributeError:
                fits = False
            if not fits:
                why = f"its substitutes() give {name}; must give tensors by parameter name, of the parameter's shape"
                raise ConfigError(f"callback={type(callback).__name__}: {why}")
            found[name] = tensor
    return found
