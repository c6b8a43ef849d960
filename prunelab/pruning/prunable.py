"""Which tensors of a model are pruned: the default choice, and name patterns; the check that they are plain."""

import inspect
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from prunelab.errors import ConfigError
from prunelab.pruning.masks import Pairs, named
from prunelab.pruning.torch_prune import in_torch_form

SHOWN = 12  # names in a message
PRUNABLE_TYPES = (nn.modules.conv._ConvNd, nn.Linear)


def is_prunable(module: nn.Module, key: str) -> bool:
    """Return whether a parameter is pruned by default: the weights of Conv, Linear, recurrent and attention layers."""
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return key.startswith("weight_")  # weight_ih_l0, weight_hh_l0_reverse, weight_hr_l0 …
    if isinstance(module, nn.MultiheadAttention):
        return key.endswith("proj_weight")  # in_proj_weight; q_, k_ and v_proj_weight where their widths differ
    return isinstance(module, PRUNABLE_TYPES) and key == "weight"


def select(
    model: nn.Module,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    output: Collection[str] = (),
) -> Pairs:
    """Return the prunable tensors of a model, in the model's own order; a shared tensor once.

    Args:
        include: patterns over parameter names (`fc*.weight`, `fc3.bias`); None: every one that `is_prunable`.
        exclude: patterns of parameters that are not pruned.
        output: names of modules whose parameters are not pruned.

    Raises:
        ConfigError: for a pattern without a match, a lazy layer without a shape, or if nothing is left to prune.
    """
    check_plain(model)
    there = {name: (module, key) for name, module, key, _ in named(model)}
    default = {name for name, pair in there.items() if is_prunable(*pair)}
    lazy = [name for name, (module, key) in there.items() if is_lazy(getattr(module, key))]
    if lazy:
        raise ConfigError(f"model: {', '.join(lazy)} have no shape yet; call the model on a batch before pruning")
    included = default if include is None else _matching(there, "prune.include", include)
    outputs = {name for name in there if name.rpartition(".")[0] in output}
    spared = _matching(there, "prune.exclude", exclude) | outputs
    spared_tensors = {id(getattr(*there[name])) for name in spared}  # under whichever name
    chosen: dict[int, tuple[nn.Module, str]] = {}
    for name, pair in there.items():
        if name in included and (tensor := id(getattr(*pair))) not in spared_tensors:
            chosen.setdefault(tensor, pair)
    if not chosen:
        why = f" (prune.output_layer=false leaves {', '.join(output)} unpruned)" if any(output) else ""
        patterns = "null" if include is None else f"[{','.join(include)}]"
        reasons = [f"{name}: {reason}" for name, reason in left_out(model, (), output, exclude).items()]
        raise ConfigError(
            f"prune.include={patterns}, prune.exclude=[{','.join(exclude)}]: no tensor is left to prune{why}; "
            + (reasons[0] if reasons and include is None else f"the model has {_some(there) or 'no weights'}")
        )
    return list(chosen.values())


def left_out(
    model: nn.Module, chosen: Pairs = (), output: Collection[str] = (), exclude: Sequence[str] = ()
) -> dict[str, str]:
    """Return the names of layers and tensors of two or more dimensions that are not pruned, each with the reason.

    Args:
        chosen: the tensors that are pruned.
        output: names of the layers that give the output.
        exclude: patterns of tensors that are not named, since the user has excluded them.
    """
    found, seen = dict[str, str](), {id(getattr(*pair)) for pair in chosen}
    for name, module in model.named_modules():
        if inspect.ismethod(getattr(module, "weight", None)):  # it unpacks the weight
            found[name] = f"{type(module).__name__} is quantised, and is not trained"
        elif isinstance(module, PRUNABLE_TYPES) and "weight" not in dict(module.named_parameters(recurse=False)):
            own = ("weight", "parametrizations.weight")
            sources = ", ".join(key for key, _ in module.named_parameters() if key.startswith(own)) or "other tensors"
            found[name] = f"its weight is computed from {sources}; prune.include can name these"
    for name, module, key, parameter in named(model):
        known = id(parameter) in seen or any(name.startswith(f"{layer}.") for layer in found)
        if known or parameter.dim() < 2 or any(fnmatchcase(name, pattern) for pattern in exclude):
            continue
        seen.add(id(parameter))
        if is_prunable(module, key) and name.rpartition(".")[0] in output:
            found[name] = "it gives the output; prune.output_layer=true prunes it"
        else:
            found[name] = f"a tensor of {type(module).__name__} is not pruned by default; prune.include can name it"
    return found


def _matching(names: Collection[str], key: str, patterns: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        matches = {name for name in names if fnmatchcase(name, pattern)}
        if not matches:
            raise ConfigError(
                f"{key}=[{','.join(patterns)}]: {pattern} matches no parameter; the model has {_some(names)}"
            )
        found |= matches
    return found


def _some(names: Collection[str]) -> str:
    """Return names for a message: all of them, or the first few and their number."""
    shown = list(names) if len(names) <= SHOWN else [*list(names)[:SHOWN], f"… ({len(names)} in all)"]
    return ", ".join(shown)


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
        repeated = any(step == 0 and n > 1 for x in held.values() for step, n in zip(x.stride(), x.shape, strict=True))
        for x in () if repeated else held.values():
            strides, offset = [stride * x.element_size() for stride in x.stride()], x.storage_offset()
            written.as_strided((*x.shape, x.element_size()), (*strides, 1), offset * x.element_size()).fill_(True)
        if int(written.sum()) < used:
            names = ", ".join([*held][:3]) + (" …" if len(held) > 3 else "")
            raise ConfigError(f"model: elements of {names} share memory; share the parameter itself, or clone()")
