"""A deep fully connected network whose blocks can be left out one by one, since each adds to what it is given."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class DeepMLP(nn.Module):
    """pixels → width, then `depth` residual blocks of one hidden layer each, → classes.

    Args:
        width: of every hidden layer, at least 1.
        depth: residual blocks, at least 0.
        shape: [channels, height, width] of one example.
        classes: at least 1.

    Raises:
        ValueError: for a value outside its range.

    Source: residual blocks after He et al. 2016, "Deep residual learning for image recognition", arXiv 1512.03385.
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
        """Images [n, *shape] → logits [n, classes]."""
        return self.head(self.blocks(F.relu(self.stem(x.flatten(1)))))


class Block(nn.Module):
    """x + relu(linear(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[n, width] → [n, width]."""
        return x + F.relu(self.linear(x))
