"""LeNet-5 as in Caffe: wider than the original; pruning papers usually mean this network by LeNet-5."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class LeNet5Caffe(nn.Module):
    """Convolutions of 20 and 50 channels, 5×5, each with max-pooling, then Linear layers of 500 and `classes`.

    It has 431,080 parameters on MNIST.

    Args:
        shape: shape of one example, [channels, height, width]; height and width at least 16.
        classes: number of classes, ≥ 1.

    Raises:
        ValueError: if the image is too small.

    Source: Caffe's `examples/mnist/lenet.prototxt`, after LeCun et al. 1998; with ReLU after the convolutions as in
    Louizos et al. 2018, arXiv 1712.01312, which Caffe's version lacks.
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
        """Return logits [n, classes] for images [n, *shape]. Pooling before ReLU gives the same result faster."""
        x = F.relu(F.max_pool2d(self.conv1(x), 2))  # for 28 × 28: [n, 20, 12, 12]
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # [n, 50, 4, 4]
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


def _left(size: int) -> int:
    """Return the side length after two unpadded 5×5 convolutions, each followed by 2×2 pooling: 28 → 12 → 4."""
    return ((size - 4) // 2 - 4) // 2
