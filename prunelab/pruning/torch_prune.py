"""Conversion to the form of torch.nn.utils.prune (`weight_orig`, `weight_mask`, a forward hook), and back."""

from torch import nn
from torch.nn.utils import prune

from prunelab.pruning.masks import Masks, named


def to_torch_prune(masks: Masks) -> nn.Module:
    """Convert a pruned model, in place, to the form that torch.nn.utils.prune gives it; return the model.

    Each masked tensor becomes a parameter `weight_orig` and a buffer `weight_mask`; a forward pre-hook computes
    `weight = weight_orig · weight_mask`. `masks` is detached.
    """
    items = {id(item.parameter): item for item in masks}
    masks.detach()
    for _, module, key, parameter in named(masks.model):  # a shared parameter is masked in each module
        if id(parameter) in items and f"{key}_orig" not in dict(module.named_parameters(recurse=False)):
            prune.custom_from_mask(module, key, items[id(parameter)].mask)
    return masks.model


def from_torch_prune(model: nn.Module) -> Masks:
    """Convert a model that torch.nn.utils.prune has pruned, in place, to plain parameters; return their masks."""
    found = [(module, key, getattr(module, f"{key}_mask").clone()) for _, module, key in in_torch_form(model)]
    for module, key, _ in found:
        prune.remove(module, key)
    masks = Masks(model)
    masks.add([(module, key) for module, key, _ in found])
    for module, key, mask in found:
        for item in masks.of([(module, key)]):
            item.set(item.kept & (mask != 0))  # a shared parameter may have a mask in each module
    masks.apply()
    return masks


def in_torch_form(model: nn.Module) -> list[tuple[str, nn.Module, str]]:
    """Return (name, module, key) of each tensor, such as `conv1.weight`, that torch.nn.utils.prune has pruned."""
    return [
        (f"{name}.{key.removesuffix('_mask')}".lstrip("."), module, key.removesuffix("_mask"))
        for name, module in model.named_modules()
        for key, _ in module.named_buffers(recurse=False)
        if key.endswith("_mask") and hasattr(module, f"{key.removesuffix('_mask')}_orig")
    ]
