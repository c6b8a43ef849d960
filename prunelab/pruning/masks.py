"""Masks: attach them, read through them, rewind under them, bake them in. torch.nn.utils.prune carries them.

Names are always the dense model's own (`conv1.weight`), whether or not a mask is attached.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from prunelab.config.schema import ConfigError
from prunelab.pruning import skipping

Parameters = Sequence[tuple[nn.Module, str]]
Tensors = dict[str, Tensor]
PRUNABLE_TYPES = (nn.modules.conv._ConvNd, nn.Linear)
# Modules that hand a layer's weight on without calling that layer, whose own hook, the mask, then never runs.
READ_DIRECTLY = {
    "MultiheadAttention": ("out_proj",),
    "ShiftedWindowAttention": ("qkv", "proj"),
}  # torch's, torchvision's


class Masked(NamedTuple):
    """A tensor with a mask: `original` is what the optimizer moves, `mask` is 0 where it is pruned; same shape."""

    name: str
    module: nn.Module
    parameter: str
    original: Tensor
    mask: Tensor

    @property
    def effective(self) -> Tensor:
        """What the network computes with. `module.weight` itself is stale until the next forward pass."""
        return self.original.detach() * self.mask.to(self.original.dtype)


def select(
    model: nn.Module,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    output_layer: str | None = None,
) -> Parameters:
    """The prunable tensors of a dense model, in the model's own order.

    Args:
        include: patterns over `module.parameter` (`fc*.weight`, `fc3.bias`); None: every one that `is_prunable`.
        exclude: patterns of those to leave alone.
        output_layer: name of a module whose tensors are left alone; None: no such module.

    Raises:
        ConfigError: for a pattern that matches nothing, or if nothing is left.
    """
    there = dict(_named(model))
    default = {name for name, pair in there.items() if is_prunable(*pair)}
    included = _matching(there, "prune.include", include) if include is not None else default
    left = included - _matching(there, "prune.exclude", exclude)
    left = {name for name in left if output_layer is None or name.rpartition(".")[0] != output_layer}
    if not left:
        why = f" (prune.output_layer=false leaves {output_layer} alone)" if output_layer else ""
        raise ConfigError(
            f"prune.include={_list(include)}, prune.exclude={_list(exclude)}: leave nothing to prune{why}; "
            f"there are {', '.join(there)}"
        )
    return [pair for name, pair in there.items() if name in left]


def is_prunable(module: nn.Module, parameter: str) -> bool:
    """Whether a tensor is pruned by default: the weights of Conv, Linear, recurrent and attention layers."""
    if isinstance(module, nn.RNNBase):
        return parameter.startswith("weight_")  # weight_ih_l0, weight_hh_l0_reverse, weight_hr_l0 …
    if isinstance(module, nn.MultiheadAttention):
        return parameter.endswith("proj_weight")  # in_proj_weight; q_, k_ and v_proj_weight where their widths differ
    return isinstance(module, PRUNABLE_TYPES) and parameter == "weight"


def output_layer(model: nn.Module) -> str | None:
    """The name of the last Conv or Linear layer, in the model's own order: the one that gives the classes."""
    names = [name for name, module in model.named_modules() if isinstance(module, PRUNABLE_TYPES)]
    return names[-1] if names else None


def attach(parameters: Parameters) -> None:
    """Gives each tensor a mask of ones: a dense network is a pruned one whose masks are all ones."""
    for module, name in parameters:
        prune.identity(module, name)
        mask = getattr(module, f"{name}_mask")
        setattr(module, f"{name}_mask", mask.contiguous())  # torch ranks views of it, also of a channels_last model


def heed_attention(model: nn.Module) -> None:
    """Makes attention layers compute with the masks of the layers inside whose weights they read directly.

    Without it, the masked `out_proj.weight` of nn.MultiheadAttention is never computed anew, so it never trains.
    Idempotent; has no effect where nothing is masked.
    """
    for module in model.modules():
        if _read_directly(module) and _mask_inside not in module._forward_pre_hooks.values():
            module.register_forward_pre_hook(_mask_inside)


def _read_directly(module: nn.Module) -> list[nn.Module]:
    names = (name for kind in type(module).__mro__ for name in READ_DIRECTLY.get(kind.__name__, ()))
    return [child for name in names if isinstance(child := getattr(module, name, None), nn.Module)]


def _mask_inside(module: nn.Module, inputs: object) -> None:
    """A pre-forward hook. A function of the module alone, so that a deep copy's hook masks the copy."""
    for child in _read_directly(module):
        for hook in child._forward_pre_hooks.values():
            if isinstance(hook, prune.BasePruningMethod):
                hook(child, inputs)


def attach_like(model: nn.Module, other: nn.Module) -> None:
    """Gives `model` masks of ones for all tensors that have masks in `other`, a model of the same kind."""
    wanted = {item.name for item in masked(other)} - {item.name for item in masked(model)}
    attach([pair for name, pair in _named(model) if name in wanted])


def originals(model: nn.Module) -> dict[str, nn.Parameter]:
    """What an optimizer moves: all parameters, by the dense model's own names."""
    pairs = _named(model)
    return {name: getattr(module, f"{p}_orig" if hasattr(module, f"{p}_mask") else p) for name, (module, p) in pairs}


def masked(model: nn.Module) -> Iterator[Masked]:
    """Every tensor that has a mask, in the model's own order."""
    for prefix, module in model.named_modules():
        for key, original in module.named_parameters(recurse=False):
            parameter = key.removesuffix("_orig")
            mask = getattr(module, f"{parameter}_mask", None)
            if key.endswith("_orig") and mask is not None:
                yield Masked(f"{prefix}.{parameter}".lstrip("."), module, parameter, original, mask)


def masked_of(model: nn.Module, parameters: Parameters) -> list[Masked]:
    """Those of `parameters` that have a mask, in the model's own order."""
    wanted = {(id(module), name) for module, name in parameters}
    return [item for item in masked(model) if (id(item.module), item.parameter) in wanted]


def snapshot(model: nn.Module) -> tuple[Tensors, Tensors]:
    """Copies of all weights (under their masks unchanged) and buffers, and of the masks (bool), on the CPU.

    Masks of ones are left out: a dense network's snapshot is the same whichever of its tensors are prunable.
    """
    masks = {m.name: m.mask for m in masked(model)}
    weights = {}
    for key, value in model.state_dict().items():
        if key.endswith("_mask") and key.removesuffix("_mask") in masks:
            continue
        plain = key.removesuffix("_orig")
        weights[plain if plain in masks else key] = value.detach().clone(memory_format=torch.contiguous_format).cpu()
    return weights, {name: mask.bool().cpu() for name, mask in masks.items() if not mask.all()}


def restore(model: nn.Module, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> None:
    """Puts a snapshot back. Without `masks`, the masks stay: that is rewinding.

    A mask that the snapshot has and the model lacks is attached; one that the snapshot lacks becomes all ones.
    """
    attached = {m.name: m for m in masked(model)}
    if masks is not None:
        for name, (module, parameter) in _named(model):
            if name in masks and name not in attached:
                attach([(module, parameter)])
        put_back(model, masks)
        attached = {m.name: m for m in masked(model)}
    state = model.state_dict()
    for name, value in weights.items():
        state[f"{name}_orig" if name in attached else name].copy_(value)
    refresh(model)


def put_back(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Puts the masks of a snapshot back; one that the snapshot lacks becomes all ones."""
    for item in masked(model):
        item.mask.copy_(masks[item.name] if item.name in masks else torch.ones_like(item.mask))


def refresh(model: nn.Module) -> None:
    """Recomputes what follows from masks and weights, and is stale after a load or an optimizer's step.

    That is the masked tensors (`module.weight`), and which layers are skipped.
    """
    items = list(masked(model))
    for item in items:
        setattr(item.module, item.parameter, item.original * item.mask.to(item.original.dtype))
    skipping.heed(model, {item.name: item.mask for item in items})


def plain_copy(model: nn.Module) -> nn.Module:
    """A copy with zeros in plain parameters and no masks; nothing done to it reaches the model."""
    with torch.no_grad():
        refresh(model)  # a masked tensor that a graph hangs on cannot be copied
    copy = bake(deepcopy(model))
    copy.zero_grad(set_to_none=True)
    return copy


def bake(model: nn.Module) -> nn.Module:
    """Makes the pruning permanent (`prune.remove`): zeros in plain parameters, no masks, the dense model's own keys."""
    for item in list(masked(model)):
        prune.remove(item.module, item.parameter)
    for module in model.modules():
        for key in [key for key, hook in module._forward_pre_hooks.items() if hook is _mask_inside]:
            del module._forward_pre_hooks[key]
    return model


def sparsity(parameters: Iterator[Masked] | Sequence[Masked]) -> float:
    """Zeros ÷ all, over the prunable tensors; 0 without any."""
    items = list(parameters)
    size = sum(item.mask.numel() for item in items)
    return sum(int((item.effective == 0).sum()) for item in items) / size if size else 0.0


def count(model: nn.Module) -> tuple[int, int]:
    """How many prunable weights the masks let through, and how many there are."""
    kept = [item.mask for item in masked(model)]
    return sum(int(mask.sum()) for mask in kept), sum(mask.numel() for mask in kept)


def last_units(model: nn.Module, before: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Tensors whose masks came down to one weight or one whole channel, since `before` (masks by name)."""
    for item in masked(model):
        old, mask = before.get(item.name), item.mask.bool()
        if mask.sum() == 1 and (mask.numel() if old is None else old.sum()) > 1:
            yield item.name, "weight"
            continue
        for dim in range(min(mask.dim(), 2) if mask.dim() > 1 else 0):
            alive = mask.transpose(0, dim).flatten(1).any(1)  # [size of dim]
            whole = mask.transpose(0, dim)[alive].all()
            was = None if old is None else old.to(mask.device).transpose(0, dim).flatten(1).any(1).sum()
            if alive.sum() == 1 and whole and mask.shape[dim] > 1 and was != 1:
                yield item.name, "channel"
                break


def _named(model: nn.Module) -> list[tuple[str, tuple[nn.Module, str]]]:
    """(`conv1.weight`, (module, `weight`)) for every parameter, masked or not."""
    pairs = []
    for prefix, module in model.named_modules():
        for key, _ in module.named_parameters(recurse=False):
            parameter = key.removesuffix("_orig") if hasattr(module, f"{key.removesuffix('_orig')}_mask") else key
            pairs.append((f"{prefix}.{parameter}".lstrip("."), (module, parameter)))
    return pairs


def _matching(names: Mapping[str, object], key: str, patterns: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        matches = {name for name in names if fnmatchcase(name, pattern)}
        if not matches:
            raise ConfigError(f"{key}={_list(patterns)}: {pattern} matches nothing; there are {', '.join(names)}")
        found |= matches
    return found


def _list(patterns: Sequence[str] | None) -> str:
    return "null" if patterns is None else f"[{','.join(patterns)}]"
