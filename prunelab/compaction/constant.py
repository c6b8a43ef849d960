"""A layer whose output never depends on its input, and putting it where such layers were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Constant(nn.Module):
    """One number for each channel, at every position, whatever comes in.

    Args:
        channels: at least 1.
        window: of the convolution that it replaces, one [kernel, stride, padding, dilation] for each side; empty for a
            layer whose output has the size of its input.
        last: whether the channels are the last dimension, as of nn.Linear, or the second one.
    """

    value: Tensor

    def __init__(self, channels: int, window: Sequence[Sequence[int]] = (), last: bool = False) -> None:
        super().__init__()
        self.channels, self.window, self.last = channels, [list(side) for side in window], last
        self.register_buffer("value", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[n, any, *sides] or [..., any] → [n, channels, *sides] or [..., channels]."""
        if self.last or x.dim() == 2:
            return self.value.expand(*x.shape[:-1], self.channels).clone()
        sides = [
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, (kernel, stride, padding, dilation) in zip(x.shape[2:], self.window, strict=True)
        ] or list(x.shape[2:])
        value = self.value.view(1, -1, *[1] * len(sides))
        # A copy: what comes next may work in place, as ReLU(inplace=True) does.
        return value.expand(len(x), self.channels, *sides).clone(memory_format=torch.contiguous_format)

    def settings(self) -> dict[str, Any]:
        """What to build it from; JSON."""
        return {"channels": self.channels, "window": self.window, "last": self.last}

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"{self.channels}"


def can_replace(module: nn.Module) -> bool:
    """Whether `like` knows how to stand in for a layer."""
    if isinstance(module, CONVS):
        return not isinstance(module.padding, str)
    return isinstance(module, (*NORMS, nn.Linear))


def like(module: nn.Module, value: Tensor) -> Constant:
    """Stands in for a Conv, Linear or BatchNorm layer.

    Args:
        value: what it always gives, [channels].
    """
    if isinstance(module, CONVS):
        assert not isinstance(module.padding, str)
        window = zip(module.kernel_size, module.stride, module.padding, module.dilation, strict=True)
        constant = Constant(len(value), [list(side) for side in window])
    elif isinstance(module, nn.Linear):
        constant = Constant(len(value), last=True)
    else:
        constant = Constant(len(value))
    constant.value = value.detach().clone()
    return constant
