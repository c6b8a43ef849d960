"""Masks: attach them, read through them, rewind under them, bake them in. torch.nn.utils.prune carries them.

Names are always the dense model's own (`conv1.weight`), whether or not a mask is attached.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from prunelab.config import ConfigError

Parameters = Sequence[tuple[nn.Module, str]]
Tensors = dict[str, Tensor]
PRUNABLE_TYPES = (nn.modules.conv._ConvNd, nn.Linear)


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
        include: patterns over `module.parameter` (`fc*.weight`, `fc3.bias`); None: every weight of Conv and Linear.
        exclude: patterns of those to leave alone.
        output_layer: name of a module whose tensors are left alone; None: no such module.

    Raises:
        ConfigError: for a pattern that matches nothing, or if nothing is left.
    """
    there = dict(_named(model))
    default = [n for n, (module, p) in there.items() if isinstance(module, PRUNABLE_TYPES) and p == "weight"]
    included = _matching(there, "prune.include", include) if include is not None else set(default)
    left = included - _matching(there, "prune.exclude", exclude)
    left = {name for name in left if output_layer is None or name.rpartition(".")[0] != output_layer}
    if not left:
        why = f" (prune.output_layer=false leaves {output_layer} alone)" if output_layer else ""
        raise ConfigError(
            f"prune.include={_list(include)}, prune.exclude={_list(exclude)}: leave nothing to prune{why}; "
            f"there are {', '.join(there)}"
        )
    return [pair for name, pair in there.items() if name in left]


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
        attached = {m.name: m for m in masked(model)}
        for name, item in attached.items():
            item.mask.copy_(masks[name] if name in masks else torch.ones_like(item.mask))
    state = model.state_dict()
    for name, value in weights.items():
        state[f"{name}_orig" if name in attached else name].copy_(value)
    refresh(model)


def refresh(model: nn.Module) -> None:
    """Recomputes the masked tensors (`module.weight`), which are stale after a load or an optimizer's step."""
    for item in masked(model):
        setattr(item.module, item.parameter, item.original * item.mask.to(item.original.dtype))


def bake(model: nn.Module) -> nn.Module:
    """Makes the pruning permanent (`prune.remove`): zeros in plain parameters, no masks, the dense model's own keys."""
    for item in list(masked(model)):
        prune.remove(item.module, item.parameter)
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
