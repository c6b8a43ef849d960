"""Which tensors of a model are pruned: the default choice, name patterns, and the output layer."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from prunelab.errors import ConfigError
from prunelab.pruning.masks import Pairs, named

PRUNABLE_TYPES = (nn.modules.conv._ConvNd, nn.Linear)


def is_prunable(module: nn.Module, key: str) -> bool:
    """Return whether a parameter is pruned by default: the weights of Conv, Linear, recurrent and attention layers."""
    if isinstance(module, nn.RNNBase):
        return key.startswith("weight_")  # weight_ih_l0, weight_hh_l0_reverse, weight_hr_l0 …
    if isinstance(module, nn.MultiheadAttention):
        return key.endswith("proj_weight")  # in_proj_weight; q_, k_ and v_proj_weight where their widths differ
    return isinstance(module, PRUNABLE_TYPES) and key == "weight"


def select(
    model: nn.Module,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    output_layer: str | None = None,
) -> Pairs:
    """Return the prunable tensors of a model, in the model's own order; a shared tensor once.

    Args:
        include: patterns over parameter names (`fc*.weight`, `fc3.bias`); None: every one that `is_prunable`.
        exclude: patterns of parameters that are not pruned.
        output_layer: name of a module whose parameters are not pruned; None: no such module.

    Raises:
        ConfigError: for a pattern without a match, a lazy layer without a shape, or if nothing is left to prune.
    """
    there = {name: (module, key) for name, module, key, _ in named(model)}
    default = {name for name, pair in there.items() if is_prunable(*pair)}
    lazy = [name for name, (module, key) in there.items() if is_lazy(getattr(module, key))]
    if lazy:
        raise ConfigError(f"model: {', '.join(lazy)} have no shape yet; call the model on a batch before pruning")
    included = default if include is None else _matching(there, "prune.include", include)
    spared = _matching(there, "prune.exclude", exclude)
    if output_layer is not None:
        spared |= {name for name in there if name.rpartition(".")[0] == output_layer}
    spared_tensors = {id(getattr(*there[name])) for name in spared}  # under whichever name
    chosen: dict[int, tuple[nn.Module, str]] = {}
    for name, pair in there.items():
        tensor = id(getattr(*pair))
        if name in included and tensor not in spared_tensors:
            chosen.setdefault(tensor, pair)
    if not chosen:
        why = f" (prune.output_layer=false leaves {output_layer} unpruned)" if output_layer else ""
        patterns = "null" if include is None else f"[{','.join(include)}]"
        raise ConfigError(
            f"prune.include={patterns}, prune.exclude=[{','.join(exclude)}]: no tensor is left to prune{why}; "
            f"the model has {', '.join(there)}"
        )
    return list(chosen.values())


def output_layer(model: nn.Module, example: Tensor | None = None) -> str | None:
    """Return the name of the Conv or Linear layer that gives the model's output; None without any.

    Args:
        example: an input batch: the output layer is the layer that is called last on it. None, or if the model cannot
            run on it: the layer that is defined last.
    """
    layers: dict[nn.Module, str] = {
        module: name for name, module in model.named_modules() if isinstance(module, PRUNABLE_TYPES)
    }
    called = [] if example is None else _called(model, example, layers)
    return next(reversed(called or [*layers.values()]), None)


def left_out(model: nn.Module) -> dict[str, str]:
    """Return the names of Conv and Linear layers that are not pruned by default, each with the reason."""
    found = {}
    for name, module in model.named_modules():
        if not isinstance(module, PRUNABLE_TYPES) or "weight" in dict(module.named_parameters(recurse=False)):
            continue
        keys = [key for key, _ in module.named_parameters() if key.startswith(("weight", "parametrizations.weight"))]
        found[name] = f"its weight is computed from {', '.join(keys) or 'other tensors'}; prune.include can name these"
    return found


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put all modules into eval mode inside the context; restore each module's mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


@torch.no_grad()
def _called(model: nn.Module, example: Tensor, layers: Mapping[nn.Module, str]) -> list[str]:
    """Return the names of the layers in the order of their calls; none if the model does not run on the example."""
    order: list[str] = []
    handles = [module.register_forward_pre_hook(lambda m, x: order.append(layers[m])) for module in layers]
    try:
        with evaluating(model):
            model(example.clone())  # a model may work in place on its input
    except Exception:  # `experiment/gate.py` reports it before training
        return []
    finally:
        for handle in handles:
            handle.remove()
    return order


def _matching(names: Mapping[str, object], key: str, patterns: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        matches = {name for name in names if fnmatchcase(name, pattern)}
        if not matches:
            raise ConfigError(
                f"{key}=[{','.join(patterns)}]: {pattern} matches no parameter; the model has {', '.join(names)}"
            )
        found |= matches
    return found
