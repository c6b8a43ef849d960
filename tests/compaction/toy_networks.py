"""What the tests of compaction share: zeros in whole channels, networks that have seen data."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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


@torch.no_grad()
def zero_channels(model: nn.Module, name: str, goes: list[int]) -> None:
    """Sets the weights and biases of whole channels of a layer to zero."""
    module = model.get_submodule(name)
    module.weight[goes] = 0
    if module.bias is not None:
        module.bias[goes] = 0


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def apart(one: nn.Module, other: nn.Module, x: Tensor) -> float:
    """The largest difference, by nothing of prunelab's."""
    return float((one.eval()(x) - other.eval()(x)).abs().max())
