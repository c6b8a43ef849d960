"""A small convolutional residual network, whose blocks can be left out one by one."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualLeNet(nn.Module):
    """A 3×3 convolution, max-pooling, `depth` residual blocks, max-pooling, and a Linear layer to `classes`.

    Args:
        width: channels of every convolution, ≥ 1.
        depth: number of residual blocks, ≥ 0.
        shape: shape of one example, [channels, height, width]; height and width at least 4.
        classes: number of classes, ≥ 1.

    Raises:
        ValueError: if a value is outside its range.

    Source: He et al. 2016, "Deep residual learning for image recognition", arXiv 1512.03385, section 3.
    """

    def __init__(
        self, width: int = 16, depth: int = 3, *, shape: Sequence[int] = (1, 28, 28), classes: int = 10
    ) -> None:
        super().__init__()
        channels, rows, columns = shape
        if width < 1:
            raise ValueError(f"width={width}: must be a whole number ≥ 1")
        if depth < 0:
            raise ValueError(f"depth={depth}: must be a whole number ≥ 0")
        if min(rows, columns) < 4:
            raise ValueError(f"shape={list(shape)}: height and width must be at least 4")
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.fc = nn.Linear(width * (rows // 4) * (columns // 4), classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [n, classes] for images [n, *shape]."""
        x = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)  # for 28 × 28: [n, 16, 14, 14]
        x = F.max_pool2d(self.blocks(x), 2)  # [n, 16, 7, 7]
        return self.fc(x.flatten(1))


class Block(nn.Module):
    """A residual block: relu(x + norm(conv(relu(norm(conv(x))))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)  # the norm that follows has a bias
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return [n, width, rows, columns] for the same shape."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(y)))
