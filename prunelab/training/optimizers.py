"""Optimizers for the training loop: parameter groups of callbacks, and a start without torch's compiler."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from prunelab.training.callbacks.base import Callback

WRAPPED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")  # by torch, to keep the compiler out


def build_optimizer(
    make: Callable[..., Optimizer],
    model: nn.Module,
    callbacks: Sequence[Callback] = (),
    decay: str | None = None,
    **options: Any,
) -> Optimizer:
    """Return an optimizer of a model's parameters and of the callbacks' own parameters.

    The parameters are in the order of their names, since an optimizer's state is stored by position.

    Args:
        make: an optimizer class, such as `torch.optim.Adam`.
        callbacks: the parameters that each of them adds become a group of their own.
        decay: `weights`: tensors of one dimension, which biases and norms have, decay by 0; None: all tensors decay.
        options: keyword arguments of `make`, which raises its own errors for them.
    """
    groups = [group for callback in callbacks if (group := callback.parameters()) is not None]
    own = {id(parameter) for group in groups for parameter in group.parameters}
    parameters = [parameter for _, parameter in sorted(model.named_parameters()) if id(parameter) not in own]
    if not all(parameter.is_floating_point() for parameter in parameters):
        options = {key: value for key, value in options.items() if key != "fused"}  # torch has no fused complex steps
    spared = [parameter for parameter in parameters if decay is not None and parameter.dim() < 2]
    parts: list[dict[str, Any]] = [{"params": spared, "weight_decay": 0.0}] if spared else []
    parameters = [parameter for parameter in parameters if all(parameter is not other for other in spared)]
    parts += [{"params": group.parameters, "lr": group.lr, "weight_decay": group.weight_decay} for group in groups]
    optimizer = without_compiler(make)([{"params": parameters}, *parts] if parts else parameters, **options)
    for settings in optimizer.param_groups:
        settings.setdefault("initial_lr", settings["lr"])
    return optimizer


def without_compiler(make: Callable[..., Optimizer]) -> Callable[..., Optimizer]:
    """Return a subclass of an optimizer class that does not import `torch._dynamo`, which takes 1 to 4 s.

    torch wraps some methods of its optimizers so that `torch.compile` skips them, and the wrappers import the compiler.
    Nothing is compiled here, so the subclass has the unwrapped methods. Anything but a class of `torch.optim` is
    returned as it is.
    """
    if not (inspect.isclass(make) and make.__module__.startswith("torch.optim") and "step" in vars(make)):
        return make
    methods = {name: inspect.unwrap(getattr(make, name)) for name in WRAPPED}
    methods["step"] = torch.no_grad()(inspect.unwrap(vars(make)["step"]))
    return type(make.__name__, (make,), methods)
