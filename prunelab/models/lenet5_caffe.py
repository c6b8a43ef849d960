"""LeNet-5 as Caffe has it: wider than the original, and what pruning papers mean by LeNet-5."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class LeNet5Caffe(nn.Module):
    """conv 20 5×5, pool, conv 50 5×5, pool, fc 500, fc classes: 431,080 parameters on MNIST.

    Args:
        shape: [channels, height, width] of one example; height and width at least 16.
        classes: at least 1.

    Raises:
        ValueError: for an image that is too small.

    Source: Caffe's `examples/mnist/lenet.prototxt`, after LeCun et al. 1998; pruned by Louizos et al. 2018,
    arXiv 1712.01312, with these ReLUs after the convolutions, which Caffe's lacks.
    """

    def __init__(self, *, shape: Sequence[int] = (1, 28, 28), classes: int = 10) -> None:
        super().__init__()
        channels, height, width = shape
        if min(height, width) < 16:
            raise ValueError(f"shape={list(shape)}: height and width must be at least 16")
        self.conv1 = nn.Conv2d(channels, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(50 * _left(height) * _left(width), 500)
        self.fc2 = nn.Linear(500, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, *shape] → logits [n, classes]. Pool and ReLU commute; this order is the faster one."""
        x = F.relu(F.max_pool2d(self.conv1(x), 2))  # [n, 20, 12, 12] of 28 × 28
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # [n, 50, 4, 4]
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


def _left(size: int) -> int:
    """What two convolutions of 5 without padding, each halved by a pool, leave of a side: 28 → 12 → 4."""
    return ((size - 4) // 2 - 4) // 2
