"""The output of each module of a network in one forward pass: which is the first that is not finite, or differs."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack

import torch
from torch import Tensor, nn

CLOSE = 1e-4  # of the largest output: kernels may round differently where tensors lie elsewhere in memory


def outputs(model: nn.Module, inputs: Tensor, training: bool = False) -> dict[str, Tensor]:
    """Return the output of each module that returns a tensor, inner ones first, by names for messages."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, object, object], None]:
        return lambda module, given, output: found.update(
            {f"{name or 'the network'} ({type(module).__name__})": output.detach().clone()}
            if isinstance(output, Tensor)
            else {}
        )

    with ExitStack() as hooks, torch.set_grad_enabled(training):  # a network may ask for gradients of its own
        for name, module in model.named_modules():
            hooks.enter_context(module.register_forward_hook(keep(name)))
        model.train(training)(inputs.clone())
    return found


def not_finite(outputs: Mapping[str, Tensor]) -> str:
    """Return the name of the first module whose output is NaN or infinite."""
    return next((name for name, x in outputs.items() if not bool(x.isfinite().all())), "the loss")


def differs(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> str:
    """Return the name of the first module whose outputs differ."""
    return next((name for name, x in one.items() if name not in other or not close(x, other[name])), "the network")


def close(one: Tensor, other: Tensor) -> bool:
    """Return whether two outputs are the same, apart from rounding."""
    if one.shape != other.shape or not one.numel():
        return one.shape == other.shape
    one, other = one.detach().nan_to_num(), other.detach().nan_to_num()
    apart = (one - other).abs() if one.is_floating_point() else (one != other)
    return bool((apart <= CLOSE * one.abs().max()).all())
