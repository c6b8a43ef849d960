"""The check that a model's weights are plain parameters: with values, and with memory of their own."""

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from prunelab.errors import ConfigError
from prunelab.pruning.torch_prune import in_torch_form


def check_plain(model: nn.Module) -> None:
    """Raise ConfigError if a weight is not a plain parameter with values and memory of its own."""
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ConfigError(
                f"model: {path or 'it'} is a ScriptModule, which takes no hooks; must be the plain module"
            )
    for name, _, _ in in_torch_form(model):
        raise ConfigError(
            f"model: {name} is in the form of torch.nn.utils.prune; call prunelab.from_torch_prune(model)"
        )
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            raise ConfigError(f"model: {name} is on the device meta, without values; must be on a real device")
    _check_memory(model)


def _check_memory(model: nn.Module) -> None:
    """Raise ConfigError if elements of parameters share memory, since each parameter has a mask of its own.

    Views of different elements of one tensor share none.
    """
    storages: dict[int, dict[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not is_lazy(parameter) and parameter.layout is torch.strided:
            storages.setdefault(parameter.untyped_storage().data_ptr(), {})[name] = parameter
    storages.pop(0, None)  # without memory, as an empty one
    for held in storages.values():
        size, used = next(iter(held.values())).untyped_storage().nbytes(), sum(x.nbytes for x in held.values())
        if len(held) == 1 and all(x.is_contiguous() for x in held.values()):
            continue
        written = torch.zeros(size, dtype=torch.bool)  # by byte
        repeated = any(
            stride == 0 and n > 1 for x in held.values() for stride, n in zip(x.stride(), x.shape, strict=True)
        )
        for x in () if repeated else held.values():
            strides, offset = [stride * x.element_size() for stride in x.stride()], x.storage_offset()
            written.as_strided((*x.shape, x.element_size()), (*strides, 1), offset * x.element_size()).fill_(True)
        if int(written.sum()) < used:
            names = ", ".join([*held][:3]) + (" …" if len(held) > 3 else "")
            raise ConfigError(f"model: elements of {names} share memory; share the parameter itself, or clone()")
