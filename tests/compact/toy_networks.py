"""What the tests of compaction share: small networks, masks on whole channels, networks that have seen data."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from prunelab.pruning import masks


def settle(model: nn.Module, shape: tuple[int, ...], seed: int = 0) -> nn.Module:
    """Gives BatchNorm layers weights, shifts and statistics that matter, as training does."""
    generator = torch.Generator().manual_seed(seed)
    model.train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.weight.copy_(torch.rand(module.weight.shape, generator=generator) + 0.5)
                module.bias.copy_(torch.randn(module.bias.shape, generator=generator) * 0.5)
        for _ in range(3):
            model(torch.randn(8, *shape, generator=generator))
    return model.eval()


def mask_channels(model: nn.Module, name: str, goes: list[int], dim: int = 0, bias: bool = True) -> None:
    """Masks whole channels of a layer, and their biases."""
    module = model.get_submodule(name)
    mask = torch.ones_like(module.weight)
    mask.transpose(0, dim)[goes] = 0
    prune.custom_from_mask(module, "weight", mask)
    if bias and dim == 0 and module.bias is not None:
        kept = torch.ones_like(module.bias)
        kept[goes] = 0
        prune.custom_from_mask(module, "bias", kept)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def apart(one: nn.Module, other: nn.Module, x: Tensor) -> float:
    """The largest difference, by nothing of prunelab's."""
    return float((masks.plain_copy(one).eval()(x) - other.eval()(x)).abs().max())
