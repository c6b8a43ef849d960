"""A deep fully connected residual network, whose blocks can be left out one by one."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class DeepMLP(nn.Module):
    """A Linear layer to `width`, `depth` residual blocks of one Linear layer each, and a Linear layer to `classes`.

    Args:
        width: width of every hidden layer, ≥ 1.
        depth: number of residual blocks, ≥ 0.
        shape: shape of one example, [channels, height, width].
        classes: number of classes, ≥ 1.

    Raises:
        ValueError: if a value is outside its range.

    Source: residual blocks as in He et al. 2016, "Deep residual learning for image recognition", arXiv 1512.03385.
    """

    def __init__(
        self, width: int = 100, depth: int = 8, *, shape: Sequence[int] = (1, 28, 28), classes: int = 10
    ) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width={width}: must be a whole number ≥ 1")
        if depth < 0:
            raise ValueError(f"depth={depth}: must be a whole number ≥ 0")
        self.stem = nn.Linear(math.prod(shape), width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [n, classes] for images [n, *shape]."""
        return self.head(self.blocks(F.relu(self.stem(x.flatten(1)))))


class Block(nn.Module):
    """A residual block: x + relu(linear(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return [n, width] for [n, width]."""
        return x + F.relu(self.linear(x))
