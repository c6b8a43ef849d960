"""A layer with a constant output; it replaces layers whose output never depends on their input."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.costs.counts import CONVS

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Constant(nn.Module):
    """Return one number per channel, the same at every position and for every input.

    Args:
        channels: at least 1.
        window: [kernel, stride, padding, dilation] for each spatial dimension of the convolution that it replaces;
            empty for a layer whose output has the spatial size of its input.
        last: whether the channels are the last dimension, as in nn.Linear; else they are the second one.
    """

    value: Tensor

    def __init__(self, channels: int, window: Sequence[Sequence[int]] = (), last: bool = False) -> None:
        super().__init__()
        self.channels, self.window, self.last = channels, [list(side) for side in window], last
        self.register_buffer("value", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[n, any, *sides] → [n, channels, *sides], or, for `last`, [..., any] → [..., channels]."""
        if self.last or x.dim() == 2:
            return self.value.expand(*x.shape[:-1], self.channels).clone()
        sides = [
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, (kernel, stride, padding, dilation) in zip(x.shape[2:], self.window, strict=True)
        ] or list(x.shape[2:])
        value = self.value.view(1, -1, *[1] * len(sides))
        # A copy, since the next layer may work in place, as ReLU(inplace=True) does.
        return value.expand(len(x), self.channels, *sides).clone(memory_format=torch.contiguous_format)

    def settings(self) -> dict[str, Any]:
        """Return the arguments to build it from; plain data for JSON."""
        return {"channels": self.channels, "window": self.window, "last": self.last}

    def extra_repr(self) -> str:
        """Return the number of channels, for `print(model)`."""
        return f"{self.channels}"


def like(module: nn.Module, value: Tensor) -> Constant | None:
    """Return a layer whose output is the constant `value`, [channels], in the place of a layer; None: it cannot be."""
    if isinstance(module, CONVS) and not isinstance(module.padding, str):
        window = zip(module.kernel_size, module.stride, module.padding, module.dilation, strict=True)
        constant = Constant(len(value), [list(side) for side in window])
    elif isinstance(module, (nn.Linear, *NORMS)):
        constant = Constant(len(value), last=isinstance(module, nn.Linear))
    else:
        return None
    constant.value = value.detach().clone()
    return constant
