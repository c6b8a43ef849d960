"""What the tests of compaction share: zeros in whole channels, networks that have seen data."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """Layers by name, and a function of them."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *args, **keywords):
        return self.run(self, *args, **keywords)


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


def flat(output):
    """The tensors in nested outputs."""
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, dict) else output
    return [tensor for part in parts for tensor in flat(part)]


@torch.no_grad()
def apart(one: nn.Module, other: nn.Module, *inputs: Tensor, **named: Tensor) -> float:
    """The largest difference, by nothing of prunelab's."""
    pairs = zip(flat(one.eval()(*inputs, **named)), flat(other.eval()(*inputs, **named)), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)
